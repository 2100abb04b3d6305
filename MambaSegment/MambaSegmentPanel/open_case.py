"""Brings a case of a batch that is done into the scene, to be reviewed."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from MambaSegmentLib.errors import ImageError

from .segmentation_in import placeBeside

if TYPE_CHECKING:
    from MambaSegmentLib.batch.outcome import Outcome
    from MambaSegmentLib.segments import SegmentInfo

    from .provenance import Provenance


class CaseOpener:
    """Loads a case once; when it is opened again it is only shown."""

    def __init__(self) -> None:
        # output and fingerprint -> ids of the nodes, the segmentation's first
        self._opened: dict[tuple[str, str], tuple[str, ...]] = {}

    def openFiles(
        self, outcome: Outcome, segments: Sequence[SegmentInfo], provenance: Provenance | None
    ) -> tuple[Any, list[Any]]:
        """The segmentation and the volume of each channel, in the scene.

        Args:
            segments: of the model; name and colour segments of files that hold only numbers.
            provenance: what made the labels, if it is known; files of labels do not say.
        Raises:
            ImageError: a file is gone, or cannot be read.
        """
        key = (outcome.output, outcome.fingerprint)
        known = [slicer.mrmlScene.GetNodeByID(one) for one in self._opened.get(key, ())]
        if known and None not in known:
            segmentation, *volumes = known
        else:
            volumes = [_loadedVolume(Path(path)) for path in outcome.inputs]
            segmentation = _loadedSegmentation(Path(outcome.output))
            dress(segmentation, segments)
            if provenance is not None:
                _note(replace(provenance, time=_timeOf(Path(outcome.output))), segmentation)
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volumes[0])
            placeBeside(segmentation, volumes[0])
            self._opened[key] = tuple(node.GetID() for node in (segmentation, *volumes))
        showInViews(volumes[0])
        return segmentation, volumes


def segmentationOf(volumeNode: Any, name: str) -> Any:
    """The segmentation of that name made from the volume, or None: somebody may have renamed or removed it."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetName() == name and node.GetNodeReference(role) is volumeNode:
            return node
    return None


def showInViews(volumeNode: Any) -> None:
    """In all slice views; without a main window there are none."""
    if slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)


def dress(segmentationNode: Any, segments: Sequence[SegmentInfo]) -> None:
    """Give segments of a plain label map the names and colours of a model; those that have names keep them."""
    byValue = {info.value: info for info in segments}
    segmentation = segmentationNode.GetSegmentation()
    names = {info.name for info in segments}
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        info = byValue.get(segment.GetLabelValue())
        if info is not None and segment.GetName() not in names:
            segment.SetName(info.name)
            segment.SetColor(*info.color)


def _note(provenance: Provenance, segmentationNode: Any) -> None:
    """As a run notes it on what it brings."""
    provenance.noteOn(segmentationNode)
    segmentation = segmentationNode.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        for name, value in provenance.tags().items():
            segmentation.GetNthSegment(index).SetTag(name, value)


def _timeOf(path: Path) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)


def _loadedVolume(path: Path) -> Any:
    """Of a DICOM folder any file stands for its series."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ImageError(f"{path} is not there any more")
    return _loaded(slicer.util.loadVolume, files[0])


def _loadedSegmentation(path: Path) -> Any:
    if not path.is_file():
        raise ImageError(f"{path} is not there any more; let the batch run again")
    return _loaded(slicer.util.loadSegmentation, path)


def _loaded(load: Any, path: Path) -> Any:
    try:
        return load(str(path))
    except RuntimeError as problem:
        raise ImageError(f"Slicer cannot load {path}: {problem}") from problem
