"""Sharing compiled work out among threads.

Python threads, since the compiled functions release the interpreter lock, and numba's own layers may not be entered
from two threads at once (a backward pass runs on a thread of PyTorch's).
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pool: list[ThreadPoolExecutor] = []  # one, once it is needed
_pool_lock = threading.Lock()


def count_shares(jobs: int) -> int:
    """As many as PyTorch uses threads, and no more than there are jobs."""
    return max(1, min(jobs, torch.get_num_threads()))


def in_shares(jobs: int, work: Callable[[int, int], None]) -> None:
    """Run work(first, shares) for first = 0 .. shares - 1: the first share here, the others on threads that are kept.

    Which jobs belong to a share depends on the numbers alone, never on which thread is faster.
    """
    shares = count_shares(jobs)
    others = [_helpers().submit(work, first, shares) for first in range(1, shares)]
    try:
        work(0, shares)
    finally:  # the arrays must outlive every thread that writes to them
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error


def _helpers() -> ThreadPoolExecutor:
    """Shared by all callers, since several may be at work at once; a thread starts when none is idle."""
    with _pool_lock:
        if not _pool:
            _pool.append(ThreadPoolExecutor(4 * (os.cpu_count() or 1), thread_name_prefix="mambasegment-kernel"))
        return _pool[0]


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.clear)
