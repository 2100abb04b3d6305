"""What the library needs from Slicer's scene, in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def storedFile(volumeNode: Any) -> Path | None:
    """The file on disk that holds exactly this volume.

    None when it has no file, lies in several (as a DICOM series does), the file is gone, or the volume was changed
    since: then it must be saved first.
    """
    storage = volumeNode.GetStorageNode()
    if storage is None or not storage.GetFileName() or storage.GetNumberOfFileNames() > 1:
        return None
    if volumeNode.GetModifiedSinceRead():
        return None
    path = Path(storage.GetFullNameFromFileName())
    return path if path.is_file() else None
