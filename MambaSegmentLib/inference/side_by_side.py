"""Several answers of networks at once on a CPU, each on threads of its own.

A layer of a small network does not fill many cores: much of it is too small to be shared out, or walks one sequence
from its first token to its last. Whole answers have nothing to wait for.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

_T = TypeVar("_T")
_R = TypeVar("_R")

MOST_AT_ONCE = 8  # each takes memory for a tile of its own


def usual_count() -> int:
    """As many answers as PyTorch has threads; one where it cannot give each answer threads of its own."""
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return 1
    return min(torch.get_num_threads(), MOST_AT_ONCE)


class SideBySide:
    """Computes up to `count` things at once; the threads of PyTorch are divided among them.

    A context manager: when it ends, so have all threads.
    """

    def __init__(self, count: int) -> None:
        self._count, self._threads = count, torch.get_num_threads()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="mambasegment-tile") if count > 1 else None

    def __enter__(self) -> "SideBySide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)  # what a thread that starts later begins with is the last number set

    def map(self, work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """work(item) of each item, in their order; no more than `count` results exist that were not taken."""
        items = list(items)
        if self._pool is None or len(items) < 2:
            yield from map(work, items)
            return
        share = max(1, self._threads // min(self._count, len(items)))
        waiting = iter(items)
        under_way: deque[Future[_R]] = deque()
        for item in itertools.islice(waiting, self._count):
            under_way.append(self._pool.submit(_alone, work, item, share))
        while under_way:
            result = under_way.popleft().result()
            for item in itertools.islice(waiting, 1):
                under_way.append(self._pool.submit(_alone, work, item, share))
            yield result


def _alone(work: Callable[[_T], _R], item: _T, threads: int) -> _R:
    torch.set_num_threads(threads)  # of this thread
    with torch.inference_mode():  # which belongs to a thread too
        return work(item)
