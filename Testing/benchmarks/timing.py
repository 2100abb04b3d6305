"""Fair timing on a shared machine: candidates take turns within one run, and medians are compared."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def median_seconds(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median wall time of each candidate over `rounds` rounds in which they take turns.

    A turn begins with a call that is not timed: it brings the candidate's data into the caches, and outlasts the
    threads of the candidate before, which spin for some milliseconds after their work.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            run()
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory_bytes(reset: bool = False) -> int:
    """The most physical memory this process has held; with `reset`, counted from now on. Linux alone can do that.

    Raises:
        OSError: elsewhere, where the benchmarks have no figure of memory.
    """
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
