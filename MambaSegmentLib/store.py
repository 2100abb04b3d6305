"""Where models are found by name: `hippocampus-t1` instead of a path.

Looked through in this order; the first file of a name wins:
1. the folders of the environment variable MAMBASEGMENT_MODELS (several separated as in PATH),
2. the user's own models, in the folder that MAMBASEGMENT_USER_MODELS names, else in the one that the platform keeps
   for application data,
3. the models that come with the module.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from .bundle import ENDING, read_manifest
from .errors import BundleError
from .folders import user_models_folder
from .manifest import Manifest

ENVIRONMENT_VARIABLE = "MAMBASEGMENT_MODELS"


@dataclass(frozen=True)
class StoredModel:
    """A file of the store; `manifest` is None and `problem` says why where it cannot be used."""

    name: str
    path: Path
    manifest: Manifest | None
    problem: str | None = None


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model.

    Args:
        name_or_path: a path, or the name of a stored model with or without its ending.
    Raises:
        BundleError: no such file, or a name that is not known; the message lists those that are.
    """
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
    except OSError as problem:  # a name that is too long, for one
        raise BundleError(f"there is no model file {path}: {problem.strerror or problem}") from problem
    if path.name != str(name_or_path):  # with a separator it can only be meant as a path
        if path.exists():
            return path  # a folder: the reader says what it expects
        raise BundleError(f"there is no model file {path}; check the path")
    name = path.name.removesuffix(ENDING)
    for folder in model_folders():
        candidate = folder / f"{name}{ENDING}"
        if candidate.is_file():
            return candidate
    if path.exists():
        return path
    known = ", ".join(sorted({stored.stem for stored in _stored_files()})) or "none"
    raise BundleError(
        f"no model file or stored model is named {path.name!r}; known: {known}. See `mambasegment models list`"
    )


def list_models() -> list[StoredModel]:
    """All models that `find_model` knows by name, in alphabetical order; only descriptions are read."""
    found: dict[str, Path] = {}
    for path in _stored_files():
        found.setdefault(path.stem, path)
    return [_stored(name, path) for name, path in sorted(found.items())]


def model_folders() -> list[Path]:
    """The folders of the store, existing or not, in the order in which they are looked through."""
    listed = os.environ.get(ENVIRONMENT_VARIABLE, "")
    return [*(Path(entry) for entry in listed.split(os.pathsep) if entry), user_folder(), *_shipped_folders()]


def user_folder() -> Path:
    """Where the user's own models lie; not created by looking."""
    return user_models_folder()


def is_users_own(path: Path) -> bool:
    """Whether a model's file lies in the user's folder, and so may be removed."""
    return path.resolve().parent == user_folder().resolve()


def _shipped_folders() -> list[Path]:
    """Beside the library: `MambaSegment/Resources/Models` in a source checkout, `Resources/Models` in the extension."""
    beside = Path(__file__).resolve().parent.parent
    return [beside / "MambaSegment" / "Resources" / "Models", beside / "Resources" / "Models"]


def _stored_files() -> list[Path]:
    return [path for folder in model_folders() if folder.is_dir() for path in sorted(folder.glob(f"*{ENDING}"))]


def _stored(name: str, path: Path) -> StoredModel:
    try:
        return StoredModel(name, path, read_manifest(path))
    except BundleError as problem:
        return StoredModel(name, path, None, str(problem))
