"""The private folder of a worker, in which volumes travel; client and worker both see to it that it goes."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from ..errors import ConfigError, ResourceError

_PREFIX = "mambasegment-worker-"
_REMOVAL_TRIES = 10  # Windows keeps files that a virus scanner still looks at
_REMOVAL_PAUSE_S = 0.1


def make_private_folder() -> Path:
    """A new folder that only this user may read.

    Raises:
        ResourceError: there is no place for temporary files.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
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
    tempfile.tempdir = str(folder)
    os.environ.update({name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")})
    return folder


def remove_private_folder(folder: Path) -> None:
    """Delete it with all that is in it; what another program holds open stays, since nobody is left to be told."""
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)
