"""What a command line needs around the work: progress on stderr, being stopped, and a place for what went wrong."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from .progress import CancelToken, Progress

_BAR_CELLS = 24
_PATIENCE_S = 2.0  # for work that was told to stop
_CANCELLED = 130
_PLAIN_EVERY_S = 5.0  # in a log file nobody wants a line per tile


class ProgressPrinter:
    """Shows Progress reports: a bar that is drawn over on a terminal, now and then a plain line elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._drawn = 0  # characters of the bar that stands on the terminal
        self._stage = ""
        self._told_at_s = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._terminal:
            self._draw(progress)
        else:
            self._tell(progress)

    def close(self) -> None:
        """Wipe the bar, so that what comes next starts on a clean line."""
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0

    def _draw(self, progress: Progress) -> None:
        cells = _BAR_CELLS * progress.done // max(progress.total, 1)
        bar = "#" * cells + "." * (_BAR_CELLS - cells)
        text = f"{progress.stage:<10} [{bar}] {progress.done}/{progress.total}{_left(progress)}"
        text = text[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + text.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(text)

    def _tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage == self._stage and now - self._told_at_s < _PLAIN_EVERY_S:
            return
        self._stage, self._told_at_s = progress.stage, now
        count = f" {progress.done}/{progress.total}" if progress.total > 1 else ""
        self._stream.write(f"{progress.stage}{count}{_left(progress)}\n")
        self._stream.flush()


@contextmanager
def stoppable() -> Iterator[None]:
    """Let a polite request to end (SIGTERM, or Ctrl-Break on Windows) clean up as Ctrl-C does: by KeyboardInterrupt."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays ignored: `nohup` works by that.
    previous = {number: signal.signal(number, stop) for number in known if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_with_input(cancel: CancelToken) -> None:
    """Cancel once standard input ends, as a program does that closes its end of the pipe, or dies; and then end.

    Returns at once. A step that does not look at `cancel` in time (a connection that says nothing) is not waited for.
    """

    def wait() -> None:
        while sys.stdin.buffer.read(1 << 10):
            pass
        cancel.cancel()
        time.sleep(_PATIENCE_S)
        os._exit(_CANCELLED)

    threading.Thread(target=wait, daemon=True).start()


def write_crash_log(program: str, arguments: Sequence[str], problem: BaseException) -> Path | None:
    """Keep the traceback of a bug where a report can be made from it; None where nothing can be written at all."""
    from . import __version__
    from .folders import log_folder

    lines = [f"{program} {__version__}, Python {sys.version}, {sys.platform}", f"arguments: {list(arguments)}"]
    text = "\n".join([*lines, *traceback.format_exception(problem)])
    name = f"{program}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (log_folder(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            return folder / name
    return None


def tolerate_any_text() -> None:
    """Show a character that the terminal's encoding lacks as an escape, rather than fail on it (Windows)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _left(progress: Progress) -> str:
    seconds = progress.seconds_left
    if seconds is None or progress.done == progress.total:
        return ""
    return f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"
