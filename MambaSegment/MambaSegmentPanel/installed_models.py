"""The models of this computer, each with its card or with the reason why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MambaSegmentLib.bundle import Manifest


@dataclass(frozen=True)
class InstalledModel:
    """A file of the model store.

    Attributes:
        manifest: what the file says of itself; None when it cannot be read.
        problem: why it cannot be read; empty when it can.
    """

    name: str
    path: Path
    manifest: Manifest | None
    problem: str = ""


def installedModels() -> list[InstalledModel]:
    """Read the manifest of every model in the store; weights are not touched.

    Raises: ModuleNotFoundError, when Slicer's Python lacks a package of requirements.txt that this needs.
    """
    from MambaSegmentLib.store import list_models  # here, so that the module loads before packages are installed

    return [_described(path) for path in list_models()]


def _described(path: Path) -> InstalledModel:
    from MambaSegmentLib.bundle import read_manifest
    from MambaSegmentLib.errors import BundleError

    try:
        return InstalledModel(path.stem, path, read_manifest(path))
    except BundleError as error:
        return InstalledModel(path.stem, path, None, str(error))
