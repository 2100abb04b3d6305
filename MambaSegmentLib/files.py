"""Files that appear whole or not at all, and what a killed process leaves of them."""

import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ImageError, MambaSegmentError, ResourceError
from .locks import hold, is_abandoned

_log = logging.getLogger(__name__)
_DISK_FULL = {28, 112, 122}  # ENOSPC, Windows' ERROR_DISK_FULL, EDQUOT on Linux
_LONGEST_NAME_BYTES = 220


@contextmanager
def atomic_path(target: Path, error: type[MambaSegmentError] = ImageError) -> Iterator[Path]:
    """Write to the path that is yielded; on success it becomes `target`, on failure nothing is left.

    The temporary file lies in a fresh folder beside the target, and so on the same disk, and keeps the target's
    name, since writers choose a format by ending.

    Args:
        target: where the finished file shall be; an existing file is replaced in one step.
        error: raised when the place cannot be written.
    Raises:
        `error`: the folder is missing or may not be written. ResourceError: the disk is full.
    """
    target = Path(target)
    try:
        if not target.parent.is_dir():
            raise error(f"cannot write {target}: the folder {target.parent} does not exist; create it first")
        if target.is_dir():
            raise error(f"cannot write {target}: it is a folder; give a file name")
        _remove_abandoned(target)
        with tempfile.TemporaryDirectory(prefix=_prefix(target), dir=target.parent) as folder, hold(Path(folder)):
            temporary = Path(folder) / target.name
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, target)  # noqa: PTH105  (Path.replace does the same; os.replace says atomic)
    except OSError as problem:
        if disk_is_full(problem):
            raise ResourceError(f"cannot write {target}: the disk is full; free some space and try again") from problem
        raise error(f"cannot write {target}: {problem.strerror or problem}") from problem
    _flush_folder(target.parent)


def disk_is_full(problem: OSError) -> bool:
    """Whether that is why something could not be written."""
    return problem.errno in _DISK_FULL


def remove_leftovers(target: Path) -> None:
    """Delete the temporary folders of `atomic_path` for this target at once; nobody may be writing it any more."""
    for folder in _folders(target):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """What a killed process left of this target goes when it is written again; others may be writing it now."""
    for folder in _folders(target):
        try:
            abandoned = folder.is_dir() and not folder.is_symlink() and is_abandoned(folder)
        except OSError as problem:  # its owner was faster
            _log.debug("%s is left alone: %s", folder, problem)
            continue
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(target: Path) -> list[Path]:
    return list(target.parent.glob(f"{glob.escape(_prefix(target))}*"))


def _prefix(target: Path) -> str:
    """Of the temporary folders of a target; of a long name only the end, since a file system takes 255 bytes."""
    name = target.name
    while len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        name = name[1:]
    return f".{name}.partial-"


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
