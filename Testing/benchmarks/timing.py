"""Fair timing on a shared machine: candidates take turns within one run, and medians are compared."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


def median_seconds(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median wall time of each candidate over `rounds` rounds in which they take turns.

    A turn begins with a call that is not timed: it brings the candidate's data into the caches, and outlasts the
    threads of the candidate before, which spin for some milliseconds after their work.
    """
    turns = [_seconds_of_one_round(candidates) for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in turns) for name in candidates}


def _seconds_of_one_round(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    seconds = {}
    for name, run in candidates.items():
        run()
        begin = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - begin
    return seconds


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


@dataclass(frozen=True)
class Pair:
    """Medians in seconds, and the median of the rounds' ratios first / second: both of a round meet the same load."""

    first: float
    second: float
    ratio: float


def paired_seconds(first: Callable[[], object], second: Callable[[], object], rounds: int) -> Pair:
    """Two candidates in turns, as median_seconds does it."""
    seconds = [_seconds_of_one_round({"first": first, "second": second}) for _ in range(rounds)]
    return Pair(
        statistics.median(turn["first"] for turn in seconds),
        statistics.median(turn["second"] for turn in seconds),
        statistics.median(turn["first"] / turn["second"] for turn in seconds),
    )
