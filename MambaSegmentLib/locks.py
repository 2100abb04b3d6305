"""Locks on open files. The system gives them back when their process ends, however it ends."""

import errno
import os
import sys
from typing import Protocol

_HELD_BY_ANOTHER = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_FAR_AWAY = 1 << 40  # Windows lets nobody read what is locked, so a byte is locked that no file has


class OpenFile(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int: ...


def try_lock(stream: OpenFile) -> bool:
    """Take the lock of a file until it is closed; False if another process, or another opening of it here, has it.

    Raises:
        OSError: the file system knows no locks.
    """
    try:
        _lock(stream.fileno(), wait=False)
    except OSError as problem:
        if problem.errno in _HELD_BY_ANOTHER:
            return False
        raise
    return True


def wait_for_lock(stream: OpenFile) -> None:
    """As `try_lock`, but wait until it is free; for locks that others only take for a moment.

    Raises:
        OSError: the file system knows no locks, or (on Windows, after 10 s) another process keeps it.
    """
    _lock(stream.fileno(), wait=True)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool) -> None:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _FAR_AWAY, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
