"""The private folder of a worker, in which volumes travel; client and worker both see to it that it goes.

Where both are killed at once, nobody is left to do so. Hence each of them holds the lock of a file in the folder, and
who makes a new folder first deletes those in which no lock is held any more.
"""

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError, ResourceError
from ..locks import hold, is_abandoned

_log = logging.getLogger(__name__)
_PREFIX = "mambasegment-worker-"
_REMOVAL_TRIES = 10  # Windows keeps files that a virus scanner still looks at
_REMOVAL_PAUSE_S = 0.1
_held: dict[Path, BinaryIO] = {}  # the lock of this process in each of its folders


def make_private_folder() -> Path:
    """A new folder that only this user may read; those that killed processes left are deleted.

    Raises:
        ResourceError: there is no place for temporary files.
    """
    try:
        _remove_stale_folders(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        _hold(folder)
        return folder
    except OSError as problem:
        raise ResourceError(
            f"no temporary folder can be made: {problem.strerror or problem}; free disk space, or let the environment "
            "variable TMPDIR (Windows: TEMP) name a folder that you may write to"
        ) from problem


def use_private_folder(folder: Path | None) -> Path:
    """Let all temporary files of this process lie in `folder`, or in a new one.

    Raises:
        ConfigError: the folder was not made by `make_private_folder`; it would be deleted at the end.
    """
    if folder is None:
        folder = make_private_folder()
    elif not folder.name.startswith(_PREFIX) or folder.is_symlink() or not folder.is_dir():
        raise ConfigError(f"--folder {folder} must be a folder named {_PREFIX}…, since it is deleted at the end")
    else:
        try:
            _hold(folder)
        except OSError as problem:
            raise ResourceError(f"the folder {folder} cannot be used: {problem.strerror or problem}") from problem
    tempfile.tempdir = str(folder)
    os.environ.update({name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")})
    return folder


def remove_private_folder(folder: Path) -> None:
    """Delete it with all that is in it; what another program holds open stays, since nobody is left to be told."""
    lock = _held.pop(folder, None)
    if lock is not None:
        lock.close()
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)


def _hold(folder: Path) -> None:
    """Show that a process of this folder is alive."""
    if folder not in _held:
        _held[folder] = hold(folder)


def _remove_stale_folders(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            stale = _is_ours(folder) and is_abandoned(folder)
        except OSError as problem:  # it vanished, or cannot be looked into
            _log.debug("%s is left alone: %s", folder, problem)
            continue
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Others may put anything into the system's folder for temporary files."""
    facts = folder.lstat()
    return folder.is_dir() and not folder.is_symlink() and (os.name == "nt" or facts.st_uid == os.getuid())
