"""From a review in the scene to its files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import vtk

from MambaSegmentLib.review.changes import LabelChange, label_changes, label_counts
from MambaSegmentLib.review.document import COMPLETED, ReviewDocument, ReviewedSegment, ReviewTimes, utc_text
from MambaSegmentLib.review.measure import voxel_volume_ml

from ..provenance import Provenance
from .grid_labels import GridLabels, labelsOnGrid
from .prediction import predictionOf
from .session import REVIEWER_TAG, ReviewSession
from .statuses import statusOf, statusTag

if TYPE_CHECKING:
    from MambaSegmentLib.review.saving import LabelFile, ReviewFiles

_COPIED_TAGS = (*Provenance("", "", "").tags(), REVIEWER_TAG)
_UNKNOWN_COLOR = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Labels:
    """Both label arrays of a review and what they tell; `predicted` is None where the model's labels are lost."""

    corrected: GridLabels
    predicted: GridLabels | None
    changes: dict[str, LabelChange]  # by segment id

    @property
    def changed(self) -> list[str]:
        """Ids of segments that differ from the model's."""
        return [each for each, change in self.changes.items() if change.is_changed]


def gatherLabels(session: ReviewSession) -> Labels:
    """Takes about half a second for a whole abdominal CT."""
    session.look()
    state = session.state
    values = {identifier: entry.value for identifier, entry in state.predicted.items()}
    corrected = labelsOnGrid(session.node, values, state.grid)
    node = predictionOf(session.node)
    if node is None:
        return Labels(corrected, None, {})
    predicted = labelsOnGrid(node, values, state.grid)
    changes = label_changes(predicted.array.astype(corrected.array.dtype, copy=False), corrected.array, values.values())
    return Labels(corrected, predicted, {each: changes[value] for each, value in values.items()})


def changedNames(session: ReviewSession, labels: Labels) -> tuple[str, ...]:
    return tuple(session.state.predicted[each].name for each in labels.changed)


def saveReview(
    session: ReviewSession,
    labels: Labels,
    files: ReviewFiles,
    reviewer: str,
    *,
    replace: bool,
    now: datetime | None = None,
) -> tuple[str, ...]:
    """Write the files; the review is as before if that fails.

    Args:
        replace: whether files that are not this review's own may be replaced.
    Returns:
        Warnings.
    Raises:
        MambaSegmentError: see `MambaSegmentLib.review.saving.save_review`.
    """
    from MambaSegmentLib.review.saving import save_review  # needs packages that may have to be installed first

    now = now or datetime.now(UTC)
    _noteCorrections(session, labels)
    document = _document(session, labels, files, reviewer, now)
    corrected = _labelFile(session, session.node, labels.corrected)
    prediction = predictionOf(session.node)
    predicted = None if labels.predicted is None else _labelFile(session, prediction, labels.predicted)
    save_review(document, corrected, predicted, files, replace=replace or session.isOwn(files))
    session.noteSaved(files, now)
    return labels.corrected.warnings


def _document(
    session: ReviewSession, labels: Labels, files: ReviewFiles, reviewer: str, now: datetime
) -> ReviewDocument:
    state = session.state
    return ReviewDocument(
        case=files.case,
        images=state.images,
        grid=state.grid,
        model=state.model,
        options=state.options,
        reviewer=state.signedOffBy or reviewer.strip(),
        decision=state.decision,
        comment=state.comment,
        signed_off=session.isSignedOff,
        times=ReviewTimes(state.segmentedUtc, state.openedUtc, utc_text(now), round(session.review_s(), 1)),
        segments=tuple(_segments(session, labels)),
        reviewed_slices=state.slices,
        segmentation_file=files.segmentation.name,
        prediction_file=None if labels.predicted is None else files.prediction.name,
    )


def _segments(session: ReviewSession, labels: Labels) -> list[ReviewedSegment]:
    """Of a segment that the reviewer removed an empty one stays, so that its loss is on record."""
    voxel_ml = voxel_volume_ml(session.state.grid.spacing_mm)
    names, statuses = session.names(), session.statuses()
    counts = label_counts(labels.corrected.array, [entry.value for entry in session.state.predicted.values()])
    return [
        ReviewedSegment(
            names.get(identifier) or entry.name,
            entry.value,
            statuses.get(identifier, COMPLETED),
            labels.changes[identifier].dice if identifier in labels.changes else None,
            entry.volume_ml,
            counts[entry.value] * voxel_ml,
        )
        for identifier, entry in session.state.predicted.items()
    ]


def _labelFile(session: ReviewSession, node: Any, labels: GridLabels) -> LabelFile:
    from MambaSegmentLib.review.saving import LabelFile
    from MambaSegmentLib.segments import SegmentInfo
    from MambaSegmentLib.volume import Volume

    grid, segmentation = session.state.grid, node.GetSegmentation()
    segments, tags = [], {}
    for identifier, entry in session.state.predicted.items():
        segment = segmentation.GetSegment(identifier)
        if segment is None:  # removed, or added by the reviewer
            if node is session.node:
                segments.append(SegmentInfo(entry.value, _inHeader(entry.name), _UNKNOWN_COLOR))
            continue
        segments.append(SegmentInfo(entry.value, _inHeader(segment.GetName()), segment.GetColor()))
        tags[entry.value] = _tagsOf(segment, withStatus=node is session.node)
    return LabelFile(Volume(labels.array, grid.spacing_mm, grid.origin_mm, grid.direction), tuple(segments), tags)


def _tagsOf(segment: Any, *, withStatus: bool) -> dict[str, str]:
    names = (segment.GetTerminologyEntryTagName(), *_COPIED_TAGS)
    tags = {name: text for name in names if (text := _tag(segment, name))}
    if withStatus:
        name, text = statusTag(statusOf(segment))
        tags[name] = text
    return tags


def _tag(segment: Any, name: str) -> str:
    text = vtk.mutable("")
    return str(text) if segment.GetTag(name, text) else ""


def _noteCorrections(session: ReviewSession, labels: Labels) -> None:
    """For DICOM: a segment that a person corrected is no longer automatic."""
    for identifier in labels.changed:
        segment = session.node.GetSegmentation().GetSegment(identifier)
        if segment is not None and _tag(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC":
            segment.SetTag("DICOM.SegmentAlgorithmType", "SEMIAUTOMATIC")


def _inHeader(name: str | None) -> str:
    """Without what separates fields of a `.seg.nrrd`; a segment without a name gets one."""
    return " ".join((name or "").replace("|", "/").split()) or "segment"
