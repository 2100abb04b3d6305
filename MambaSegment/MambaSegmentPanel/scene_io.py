"""What the library needs from Slicer's scene, in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer


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


def imageVolumes(scene: Any) -> list[Any]:
    """The images of a scene in its order; label maps, which Slicer derives from images, do not count."""
    name = "vtkMRMLScalarVolumeNode"
    found = [scene.GetNthNodeByClass(index, name) for index in range(scene.GetNumberOfNodesByClass(name))]
    return [volume for volume in found if volume.GetClassName() == name]


def modalityOf(volumeNode: Any) -> str:
    """DICOM's, such as "MR", where the volume came from a DICOM series; else empty."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    item = 0 if hierarchy is None else hierarchy.GetItemByDataNode(volumeNode)
    if not item:
        return ""
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return hierarchy.GetItemAttribute(item, name) or ""
