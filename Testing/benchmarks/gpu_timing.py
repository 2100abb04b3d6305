"""Timing on a GPU: device events around each call, medians, inputs that rotate so that no cache keeps them."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch

ROTATED_BYTES = 300e6  # several times the largest cache
MOST_SETS = 8
SECONDS = 0.4  # for one candidate
FEWEST_ROUNDS = 5


def median_ms(calls: Sequence[Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Time of one call, the calls (the same work on different memory) taking turns.

    Returns:
        median_ms, fastest_ms, spread (the middle half of the calls over the median), calls.
    """
    for call in calls:  # compiles, fills caches of memory
        call()
    _wait(device)
    rounds = max(FEWEST_ROUNDS, min(200, int(1e3 * SECONDS / max(_once(calls[0], device), 1e-3))))
    times = [_once(call, device) for call in itertools.islice(itertools.cycle(calls), rounds)]
    quarters = statistics.quantiles(times, n=4)
    return {
        "median_ms": statistics.median(times),
        "fastest_ms": min(times),
        "spread": (quarters[2] - quarters[0]) / statistics.median(times),
        "calls": rounds,
    }


def graph_ms(call: Callable[[], object], device: torch.device, repeats: int = 20) -> float | None:
    """Time of one call inside a captured graph of several: without the gaps between launches. None on a CPU."""
    if device.type != "cuda":
        return None
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()
    graph.replay()
    return statistics.median(_once(graph.replay, device) for _ in range(7)) / repeats


def sets_for(bytes_of_one: int) -> int:
    """How many copies of the inputs rotate."""
    return max(1, min(MOST_SETS, int(ROTATED_BYTES // max(1, bytes_of_one)) + 1))


def _once(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
