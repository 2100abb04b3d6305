"""Brings a case of a batch that is done into the scene, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from MambaSegmentLib.errors import ImageError

from .segmentation_in import placeBeside

if TYPE_CHECKING:
    from MambaSegmentLib.batch.outcome import Outcome
    from MambaSegmentLib.segments import SegmentInfo


class CaseOpener:
    """Loads a case once; when it is opened again it is only shown."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], tuple[str, str]] = {}  # output and fingerprint -> ids of the nodes

    def openFiles(self, outcome: Outcome, segments: Sequence[SegmentInfo]) -> tuple[Any, Any]:
        """The volume of the first channel and the segmentation, in the scene; further channels are loaded as well.

        Args:
            segments: of the model; name and colour segments of files that hold only numbers.
        Raises:
            ImageError: a file is gone, or cannot be read.
        """
        key = (outcome.output, outcome.fingerprint)
        known = [slicer.mrmlScene.GetNodeByID(one) for one in self._opened.get(key, ())]
        if known and None not in known:
            volume, segmentation = known
        else:
            volumes = [_loadedVolume(Path(path)) for path in outcome.inputs]
            volume, segmentation = volumes[0], _loadedSegmentation(Path(outcome.output))
            dress(segmentation, segments)
            segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            placeBeside(segmentation, volume)
            self._opened[key] = (volume.GetID(), segmentation.GetID())
        showInViews(volume)
        return volume, segmentation


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
