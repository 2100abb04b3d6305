"""Locks on open files. The system gives them back when their process ends, however it ends.

With them a folder for temporary files shows that somebody still needs it: whoever does holds the lock of a file in it.
"""

import errno
import logging
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO, Protocol

_log = logging.getLogger(__name__)

_HELD_BY_ANOTHER = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_ENDING = ".lock"
_LOCKING_S = 10.0  # more than enough between the making of a file and its lock
_UNLOCKED_AGE_S = 24 * 3600.0  # a folder without any lock was just made, or is of a system that knows none
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


def hold(folder: Path) -> BinaryIO:
    """Show that this process needs a folder, until what is returned is closed.

    Raises:
        OSError: the folder cannot be written to.
    """
    stream = (folder / f"{os.getpid()}{_ENDING}").open("wb")
    try:
        wait_for_lock(stream)
    except OSError as problem:  # then a folder that is left behind stays
        _log.debug("no locks in %s: %s", folder, problem)
    return stream


def is_abandoned(folder: Path) -> bool:
    """Whether nobody holds a folder, nor is about to.

    Raises:
        OSError: it is gone, or cannot be looked into.
    """
    locks = list(folder.glob(f"*{_ENDING}"))
    if not locks:
        return _age_s(folder) > _UNLOCKED_AGE_S
    if min(map(_age_s, locks)) < _LOCKING_S:
        return False
    for path in locks:
        with path.open("ab") as stream:
            if not try_lock(stream):
                return False
    return True


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


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
