"""A saved review comes back into the scene: its segments, the model's result, statuses, decision and signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import ConfigError, MambaSegmentError
from MambaSegmentLib.review.document import ReviewDocument, geometry_sha256, read_review
from MambaSegmentLib.review.saving import ReviewFiles

from ..provenance import Provenance
from ..scene_io import imageVolumes
from ..volume_out import volumeOf
from .prediction import keepPrediction, predictionOf, removePrediction, removeWithParts
from .state import Predicted, ReviewState, Saved
from .statuses import setStatus


@dataclass(frozen=True)
class Reopened:
    """`node`: the segmentation. `warnings`: sentences."""

    node: Any
    warnings: tuple[str, ...]


def reopenReview(path: Path) -> Reopened:
    """Load `CASE.review.json` and the files that it names, all or nothing.

    Raises:
        ConfigError: it is no review, or a file that it names is missing or is not its own.
    """
    document = read_review(path)
    warnings = []
    volume = _imageOf(document)
    if volume is None:
        warnings.append(
            _("The image of this review ({name}) is not in the scene; load it to see it below the segments.").format(
                name=document.images[0].file or document.images[0].channel
            )
        )
    loaded: list[Any] = []
    try:
        node = _load(path.parent / document.segmentation_file, loaded)
        if document.prediction_file is not None:
            _takePrediction(node, _load(path.parent / document.prediction_file, loaded))
        else:
            warnings.append(_("The model's result was not saved with this review, so nothing can be compared."))
        _restore(node, document, path, volume)
    except BaseException:
        for each in loaded:
            if slicer.mrmlScene.IsNodePresent(each):
                hidden = predictionOf(each)
                removeWithParts(each)
                removePrediction(hidden)
        raise
    return Reopened(node, tuple(warnings))


def _load(path: Path, loaded: list[Any]) -> Any:
    if not path.is_file():
        raise ConfigError(_("{path} is missing; a review needs it beside its document.").format(path=path))
    try:
        node = slicer.util.loadSegmentation(str(path))
    except RuntimeError as problem:
        raise ConfigError(_("{path} cannot be read as a segmentation.").format(path=path)) from problem
    loaded.append(node)
    return node


def _takePrediction(node: Any, predicted: Any) -> None:
    """Into the hidden node that belongs to the segmentation; the one that was loaded goes."""
    segmentation = predicted.GetSegmentation()
    keepPrediction(node, [])
    hidden = predictionOf(node).GetSegmentation()
    hidden.DeepCopy(segmentation)
    removeWithParts(predicted)


def _restore(node: Any, document: ReviewDocument, path: Path, volume: Any) -> None:
    segmentation = node.GetSegmentation()
    byValue = {int(segmentation.GetSegment(each).GetLabelValue()): each for each in segmentation.GetSegmentIDs()}
    missing = [segment.name for segment in document.segments if segment.value not in byValue]
    if missing:
        raise ConfigError(
            _("{path} does not hold the segments {names} of its review.").format(
                path=document.segmentation_file, names=", ".join(missing)
            )
        )
    _notePlace(node, document, volume)
    predicted = {}
    for entry in document.segments:
        identifier = byValue[entry.value]
        predicted[identifier] = Predicted(entry.value, entry.name, entry.volume_ml_before)
        setStatus(segmentation.GetSegment(identifier), entry.status)
    files = ReviewFiles(path.parent, document.case)
    times = document.times
    state = ReviewState(
        case=document.case,
        images=document.images,
        grid=document.grid,
        model=document.model,
        segmentedUtc=times.segmented_utc,
        openedUtc=times.opened_utc,
        options=dict(document.options),
        predicted=predicted,
        decision=document.decision,
        comment=document.comment,
        slices=document.reviewed_slices,
        signedOffBy=document.reviewer if document.signed_off else "",
        review_s=times.review_s,
        saved=Saved(str(path.parent), document.case, files.document_sha256() or "", times.saved_utc),
        isUnsaved=False,
    )
    state.store(node)


def _notePlace(node: Any, document: ReviewDocument, volume: Any) -> None:
    model = document.model
    for name, value in Provenance(model.name, model.version, model.sha256, document.options).tags().items():
        if name.startswith("MambaSegment.") and not name.endswith(".Time"):
            node.SetAttribute(name, value)
    node.SetAttribute("MambaSegment.Time", document.times.segmented_utc)
    node.SetName(document.case)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    if volume is not None:
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)


def _imageOf(document: ReviewDocument) -> Any:
    """A volume of the scene on the very same grid; of several the one that is called as the image was."""
    wanted = document.images[0]
    fitting = [each for each in imageVolumes(slicer.mrmlScene) if _geometryOf(each) == wanted.geometry_sha256]
    stem = (wanted.file or document.case).partition(".")[0]
    return next((each for each in fitting if each.GetName().startswith(stem)), fitting[0] if fitting else None)


def _geometryOf(volumeNode: Any) -> str:
    try:
        return geometry_sha256(volumeOf(volumeNode))
    except MambaSegmentError:  # of no voxels, in colour, sheared: not an image that was ever segmented
        return ""
