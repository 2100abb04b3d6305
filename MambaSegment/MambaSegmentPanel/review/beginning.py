"""A review begins: what is under review is noted, and the model's labels are put aside before anybody edits them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.changes import label_counts
from MambaSegmentLib.review.document import Grid, ReviewedImage, ReviewedModel, geometry_sha256, utc_text
from MambaSegmentLib.review.measure import voxel_volume_ml

from ..provenance import PREFIX
from ..volume_out import volumeOf
from .grid_labels import labelsOnGrid
from .prediction import dropSegments, keepPrediction
from .rules import caseNameOf
from .state import Predicted, ReviewState, stateOf


def beginReview(
    segmentationNode: Any, volumeNodes: Sequence[Any], channels: Sequence[str] = (), now: datetime | None = None
) -> ReviewState:
    """Put a segmentation under review; of one that is, take the segments that came since along.

    Args:
        volumeNodes: the images that it was made from; the labels lie on the grid of the first.
        channels: what the model calls them.
    Raises:
        ConfigError: there is no image, or no segment. GeometryError, ImageError: it is none that can be used.
    """
    identifiers = list(segmentationNode.GetSegmentation().GetSegmentIDs())
    if not volumeNodes:
        raise ConfigError(
            _("The image of “{name}” is not known. Choose it as the volume above, then start the review.").format(
                name=segmentationNode.GetName()
            )
        )
    if not identifiers:
        raise ConfigError(_("“{name}” has no segments to review.").format(name=segmentationNode.GetName()))
    state = stateOf(segmentationNode) or _newState(segmentationNode, volumeNodes, channels, now or datetime.now(UTC))
    fresh = [each for each in identifiers if each not in state.predicted]
    state.predicted = {each: entry for each, entry in state.predicted.items() if each in identifiers}
    state.predicted |= _predicted(segmentationNode, fresh, state)
    if fresh:
        state.model, state.segmentedUtc, state.options = _provenanceOf(segmentationNode, state.openedUtc)
        state.signedOffBy, state.isUnsaved = "", True
    dropSegments(segmentationNode, identifiers)
    keepPrediction(segmentationNode, fresh)
    state.store(segmentationNode)
    return state


def imageOf(segmentationNode: Any) -> Any:
    """The volume that gave a segmentation its grid, or None."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return None if segmentationNode is None else segmentationNode.GetNodeReference(role)


def valueFor(wished: int, taken: set[int]) -> int:
    """A label for a segment that no other has: the wished one, or the next that is free."""
    if wished >= 1 and wished not in taken:
        return wished
    return next(value for value in range(1, len(taken) + 2) if value not in taken)


def _newState(segmentationNode: Any, volumeNodes: Sequence[Any], channels: Sequence[str], now: datetime) -> ReviewState:
    volumes = [volumeOf(each) for each in volumeNodes]
    names = list(channels) or [each.GetName() for each in volumeNodes]
    model, segmentedUtc, options = _provenanceOf(segmentationNode, utc_text(now))
    return ReviewState(
        case=caseNameOf(_fileNameOf(volumeNodes[0]) or volumeNodes[0].GetName()),
        images=tuple(
            ReviewedImage(name, _fileNameOf(node), geometry_sha256(volume))
            for name, node, volume in zip(names, volumeNodes, volumes, strict=True)
        ),
        grid=Grid.of(volumes[0]),
        model=model,
        segmentedUtc=segmentedUtc,
        openedUtc=utc_text(now),
        options=options,
    )


def _predicted(segmentationNode: Any, identifiers: Sequence[str], state: ReviewState) -> dict[str, Predicted]:
    segmentation = segmentationNode.GetSegmentation()
    taken = {entry.value for entry in state.predicted.values()}
    values: dict[str, int] = {}
    for identifier in identifiers:
        values[identifier] = valueFor(int(segmentation.GetSegment(identifier).GetLabelValue()), taken)
        taken.add(values[identifier])
    counts = label_counts(labelsOnGrid(segmentationNode, values, state.grid).array, values.values())
    voxel_ml = voxel_volume_ml(state.grid.spacing_mm)
    return {
        identifier: Predicted(
            value, segmentation.GetSegment(identifier).GetName() or identifier, counts[value] * voxel_ml
        )
        for identifier, value in values.items()
    }


def _provenanceOf(segmentationNode: Any, otherwiseUtc: str) -> tuple[ReviewedModel, str, dict[str, Any]]:
    """As `segmentation_in.py` noted it on the node; of another program's segmentation nothing is known."""

    def noted(name: str) -> str:
        return segmentationNode.GetAttribute(f"{PREFIX}{name}") or ""

    options = noted("Options")
    time = noted("Time")
    return (
        ReviewedModel(noted("Model"), noted("ModelVersion"), noted("ModelSha256")),
        utc_text(datetime.fromisoformat(time)) if time else otherwiseUtc,
        json.loads(options) if options else {},
    )


def _fileNameOf(volumeNode: Any) -> str | None:
    """Without its folder; None for a volume that came from no single file."""
    storage = volumeNode.GetStorageNode()
    if storage is None or not storage.GetFileName() or storage.GetNumberOfFileNames() > 1:
        return None
    return Path(storage.GetFileName()).name
