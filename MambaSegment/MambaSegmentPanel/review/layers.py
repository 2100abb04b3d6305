"""The label maps of a segmentation as arrays: several segments share one, told apart by their label values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from MambaSegmentLib.review.changes import LabelChange

BINARY_LABELMAP = "Binary labelmap"


@dataclass(frozen=True)
class Layer:
    """One label map and the segments in it.

    Attributes:
        image: the vtkOrientedImageData. labels: id of each segment → its label value.
    """

    image: Any
    labels: dict[str, int]

    @property
    def start(self) -> tuple[int, int, int]:
        """Index (k, j, i) of the first voxel: label maps are cut to what is used of them."""
        extent = self.image.GetExtent()
        return extent[4], extent[2], extent[0]

    @property
    def array(self) -> np.ndarray:
        """A view, (K, J, I); of no voxels where the label map is empty."""
        scalars = self.image.GetPointData().GetScalars()
        shape = tuple(max(0, size) for size in self.image.GetDimensions()[::-1])
        if scalars is None or 0 in shape:
            return np.zeros((0, 0, 0), np.uint8)
        return vtk_to_numpy(scalars).reshape(shape)

    @property
    def ijkToWorld(self) -> np.ndarray:
        """4×4, into the space of the segmentation node."""
        matrix = vtk.vtkMatrix4x4()
        self.image.GetImageToWorldMatrix(matrix)
        return slicer.util.arrayFromVTKMatrix(matrix)


def layerOf(segmentationNode: Any, identifier: str) -> Layer | None:
    """The one that holds a segment."""
    return next((layer for layer in layersOf(segmentationNode) if identifier in layer.labels), None)


def commonPart(
    start: Sequence[int], shape: Sequence[int], otherStart: Sequence[int], otherShape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where two boxes of voxels overlap, counted from the first voxel of each; slices of length 0 if they do not."""
    one, other = [], []
    for a, aSize, b, bSize in zip(start, shape, otherStart, otherShape, strict=True):
        begin = max(a, b)
        end = max(begin, min(a + aSize, b + bSize))
        one.append(slice(begin - a, end - a))
        other.append(slice(begin - b, end - b))
    return tuple(one), tuple(other)


def changeBetween(before: Layer, after: Layer, identifier: str) -> LabelChange:
    """How a segment differs in two label maps whose voxels are counted from the same place."""
    one, other = before.array, after.array
    label, otherLabel = before.labels[identifier], after.labels[identifier]
    inOne, inOther = commonPart(before.start, one.shape, after.start, other.shape)
    common = sum(
        int(np.count_nonzero((plane == label) & (otherPlane == otherLabel)))
        for plane, otherPlane in zip(one[inOne], other[inOther], strict=True)  # by planes, which stay in the cache
    )
    return LabelChange(_count(one, label), _count(other, otherLabel), common)


def _count(array: np.ndarray, label: int) -> int:
    return sum(int(np.count_nonzero(plane == label)) for plane in array)


def layersOf(segmentationNode: Any) -> list[Layer]:
    """In the order of the segmentation; empty where it holds no label maps."""
    segmentation = segmentationNode.GetSegmentation()
    if not segmentation.ContainsRepresentation(BINARY_LABELMAP):
        return []
    layers = []
    for number in range(segmentation.GetNumberOfLayers(BINARY_LABELMAP)):
        identifiers = segmentation.GetSegmentIDsForLayer(number, BINARY_LABELMAP)
        labels = {each: int(segmentation.GetSegment(each).GetLabelValue()) for each in identifiers}
        layers.append(Layer(segmentation.GetLayerDataObject(number, BINARY_LABELMAP), labels))
    return layers
