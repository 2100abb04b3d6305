"""Ending a process for good, with all that it started."""

import os
import signal
from contextlib import suppress


def end_process_tree(*pids: int) -> None:
    """Kill these processes and their descendants at once; those that are gone already are no mistake.

    Several, because what a client starts may be a launcher that dies alone and leaves the real interpreter alive.
    """
    try:
        import psutil
    except ModuleNotFoundError:  # a worker has psutil, but the Python of its client may not
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows SIGTERM ends at once
        return
    doomed: dict[int, psutil.Process] = {}
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            doomed |= {one.pid: one for one in (process, *process.children(recursive=True))}
    for process in doomed.values():
        with suppress(psutil.Error):
            process.kill()
