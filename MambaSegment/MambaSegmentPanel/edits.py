"""Whether somebody changed a segment since a model made it: told by a fingerprint that the segment carries.

The fingerprint is of the segment's voxels, their place and its name, whatever extent the label map has that holds
them, so it survives saving and loading. Colour and visibility are not part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from .provenance import PREFIX

_TAG = f"{PREFIX}Fingerprint"
_MODEL_TAG = f"{PREFIX}Model"
_BINARY_LABELMAP = "Binary labelmap"
_SAME_PLACE_MM = 0.01
_EMPTY = "empty"


@dataclass(frozen=True)
class EarlierSegment:
    """A segment that a model put into a segmentation.

    Attributes:
        fingerprint: as it is now.
        isEdited: it is not as the model made it, or nothing tells how that was.
    """

    identifier: str
    name: str
    fingerprint: str
    isEdited: bool


def markAsMade(segmentationNode: Any, identifiers: Sequence[str]) -> None:
    """Note how these segments are now, right after a model made them."""
    segmentation = segmentationNode.GetSegmentation()
    for identifier, fingerprint in fingerprints(segmentation, identifiers).items():
        segmentation.GetSegment(identifier).SetTag(_TAG, fingerprint)


def identifiersOf(segmentationNode: Any, model: str) -> list[str]:
    """Of the segments that a model of this name put into a segmentation; quick, as no voxel is looked at."""
    segmentation = segmentationNode.GetSegmentation()
    return [each for each in segmentation.GetSegmentIDs() if _tag(segmentation.GetSegment(each), _MODEL_TAG) == model]


def earlierSegments(segmentationNode: Any, model: str) -> list[EarlierSegment]:
    """What a model of this name put into a segmentation before."""
    segmentation = segmentationNode.GetSegmentation()
    identifiers = identifiersOf(segmentationNode, model)
    return [
        EarlierSegment(
            identifier,
            segmentation.GetSegment(identifier).GetName(),
            fingerprint,
            not isSame(fingerprint, _tag(segmentation.GetSegment(identifier), _TAG)),
        )
        for identifier, fingerprint in fingerprints(segmentation, identifiers).items()
    ]


def fingerprints(segmentation: Any, identifiers: Iterable[str]) -> dict[str, str]:
    """The fingerprint of each segment; segments of one label map are looked for in one pass."""
    seen: list[tuple[Any, np.ndarray, list[Any]]] = []
    found = {}
    for identifier in identifiers:
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation(_BINARY_LABELMAP)
        known = next((each for each in seen if each[0] is image), None)
        if known is None:
            known = (image, *_labelsAndBoxes(image))
            seen.append(known)
        found[identifier] = _fingerprint(segment, *known)
    return found


def isSame(one: str, other: str) -> bool:
    """Whether two fingerprints are of one segment; places may differ by what files round."""
    if not one or not other or one == _EMPTY or other == _EMPTY:
        return bool(one) and one == other
    first, second = one.split(), other.split()
    if first[:2] != second[:2]:
        return False
    apart = np.subtract([float(part) for part in first[2:]], [float(part) for part in second[2:]])
    return bool(np.all(np.abs(apart) < _SAME_PLACE_MM))


def _labelsAndBoxes(image: Any) -> tuple[np.ndarray, list[Any]]:
    from scipy import ndimage  # slow to import
    from vtk.util.numpy_support import vtk_to_numpy

    scalars = None if image is None else image.GetPointData().GetScalars()
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        return np.zeros((0, 0, 0), np.uint8), []
    labels = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    return labels, ndimage.find_objects(labels)


def _fingerprint(segment: Any, image: Any, labels: np.ndarray, boxes: list[Any]) -> str:
    """Name and voxels as a digest, the size of their box, and the place of its first voxel in mm."""
    value = segment.GetLabelValue()
    box = boxes[value - 1] if 0 < value <= len(boxes) else None
    if box is None:
        return _EMPTY
    mask = labels[box] == value
    digest = hashlib.blake2b(segment.GetName().encode(), digest_size=12)
    digest.update(np.packbits(mask).tobytes())
    extent = image.GetExtent()
    first = [extent[0] + box[2].start, extent[2] + box[1].start, extent[4] + box[0].start, 1.0]
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    place = slicer.util.arrayFromVTKMatrix(matrix) @ first
    size = "x".join(map(str, mask.shape))
    return f"{digest.hexdigest()} {size} {place[0]:.3f} {place[1]:.3f} {place[2]:.3f}"


def _tag(segment: Any, name: str) -> str:
    value = vtk.mutable("")
    return str(value) if segment.GetTag(name, value) else ""
