"""Kernels that are compiled on the user's machine are not believed before they have been seen to be right.

Before a backend that asks for it is used on a device with a dtype, a number of states and with or without gradients for
the first time, it computes a small scan (small_scans.py), and `chunked` the same one. If they differ, or if the backend
fails then or later, it is not used on that device any more in this process; one warning says so.
"""

import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import MambaSegmentError


class BackendWarning(UserWarning):
    """A backend was given up for another."""


_FULL_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # PyTorch's plain RuntimeError on a CPU
_doubts: dict[tuple[str, torch.device], str] = {}
_seen: set[tuple[object, ...]] = set()
_lock = threading.RLock()


def doubt(name: str, device: torch.device) -> str | None:
    """Why the backend is not used on this device any more, or None."""
    return _doubts.get((name, device))


def give_up(name: str, device: torch.device, reason: str) -> None:
    """Never take this backend on this device again in this process; the first time, warn."""
    with _lock:
        known = (name, device) in _doubts
        _doubts.setdefault((name, device), reason)
    if not known:
        message = f"the scan backend {name!r} is not used on {device} any more: {reason}"
        warnings.warn(message, BackendWarning, stacklevel=3)


def forget() -> None:
    """Start anew: nothing seen, nothing doubted."""
    with _lock:
        _doubts.clear()
        _seen.clear()


def is_failure_of_backend(error: BaseException) -> bool:
    """Whether another backend may do better: not for wrong arguments, a full device or a user who cancels."""
    if not isinstance(error, Exception) or isinstance(error, MambaSegmentError | torch.OutOfMemoryError | MemoryError):
        return False
    return not any(words in str(error) for words in _FULL_MEMORY)


def was_checked(name: str, what: object, like: Tensor) -> bool:
    """Whether a backend was found right for this device, dtype and `what`."""
    return (name, what, like.device, like.dtype) in _seen


def is_captured(like: Tensor) -> bool:
    """Whether a CUDA graph is being captured, where nothing can be compared."""
    return like.is_cuda and torch.cuda.is_current_stream_capturing()


def fault(name: str, what: object, like: Tensor, compare: Callable[[], str | None]) -> str | None:
    """What is wrong with a backend, found out once for each device, dtype and `what`; None if it is right.

    Args:
        compare: computes something small both ways and says what differs, or None.
    """
    key = (name, what, like.device, like.dtype)
    with _lock:
        if key in _seen:
            return None
        try:
            found = compare()
        except Exception as error:  # compilers and drivers raise errors of many kinds
            if not is_failure_of_backend(error):
                raise
            return f"{type(error).__name__}: {error}"
        if found is None:
            _seen.add(key)
        return found
