"""Fair timing on a shared machine: candidates take turns within one run, and medians are compared."""

import statistics
import time
from collections.abc import Callable, Mapping


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
