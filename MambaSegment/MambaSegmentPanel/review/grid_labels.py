"""All segments as one label array on the grid of the image, for the files of a review."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from MambaSegmentLib.review.document import Grid

from .layers import Layer, commonPart, layersOf

_SAME_PLACE_VOXELS = 0.01
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class GridLabels:
    """`array`: (K, J, I), uint8 or uint16. `warnings`: what one array of labels cannot hold, as sentences."""

    array: np.ndarray
    warnings: tuple[str, ...]


def labelsOnGrid(segmentationNode: Any, values: Mapping[str, int], grid: Grid) -> GridLabels:
    """Paint the segments with the values that are wished for.

    Where segments overlap the later layer is on top; what lies outside the grid is left out. Both is warned of. Label
    maps on other grids are resampled, the nearest voxel giving the label.

    Args:
        values: id of a segment → label value; others are left out.
    """
    largest = max(values.values(), default=1)
    array = np.zeros(grid.size[::-1], np.uint8 if largest <= 255 else np.uint16)
    overlapping = outside = 0
    isPainted = False  # one layer alone has no overlaps
    for layer in layersOf(segmentationNode):
        wanted = {label: values[each] for each, label in layer.labels.items() if each in values}
        if not wanted or layer.array.size == 0:
            continue
        piece, start = _onGrid(layer, grid)
        table = _table(wanted, piece, array.dtype)
        inside, cut = commonPart((0, 0, 0), array.shape, start, piece.shape)
        if piece[cut].shape != piece.shape:
            outside += _painted(piece, table) - _painted(piece[cut], table)
        for target, labels in zip(array[inside], piece[cut], strict=True):  # by planes, which stay in the cache
            if labels.any():
                part = table[labels]
                if isPainted:
                    overlapping += int(np.count_nonzero((target > 0) & (part > 0)))
                np.copyto(target, part, where=part > 0)
        isPainted = True
    return GridLabels(array, tuple(_warnings(overlapping, outside)))


def _warnings(overlapping: int, outside: int) -> list[str]:
    warnings = []
    if overlapping:
        warnings.append(
            _("{count} voxels belong to several segments; in the file each has one.").format(count=overlapping)
        )
    if outside:
        warnings.append(_("{count} voxels lie outside the image and are not in the file.").format(count=outside))
    return warnings


def _table(wanted: Mapping[int, int], piece: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """For each label of a layer what it becomes; 0 where it is nobody's."""
    table = np.zeros(max(int(piece.max(initial=0)), *wanted) + 1, dtype)
    for label, value in wanted.items():
        table[label] = value
    return table


def _painted(piece: np.ndarray, table: np.ndarray) -> int:
    return sum(int(np.count_nonzero(table[plane])) for plane in piece)


def _onGrid(layer: Layer, grid: Grid) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Labels and the index (k, j, i) of their first voxel on the grid."""
    toGrid = np.linalg.inv(_ijkToRas(grid)) @ layer.ijkToWorld
    shift = np.rint(toGrid[:3, 3])
    exact = np.eye(4)
    exact[:3, 3] = shift
    corners = np.array([(*ends, 1) for ends in itertools.product(*((0, size - 1) for size in grid.size))], float)
    if np.abs(corners @ (toGrid - exact).T).max() <= _SAME_PLACE_VOXELS:
        k, j, i = layer.start
        return layer.array, (k + int(shift[2]), j + int(shift[1]), i + int(shift[0]))
    return _resampled(layer, grid), (0, 0, 0)


def _resampled(layer: Layer, grid: Grid) -> np.ndarray:
    reference, output = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetExtent(0, grid.size[0] - 1, 0, grid.size[1] - 1, 0, grid.size[2] - 1)
    reference.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(_ijkToRas(grid)))
    reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        layer.image, reference, output, False, False
    )
    return vtk_to_numpy(output.GetPointData().GetScalars()).reshape(output.GetDimensions()[::-1])


def _ijkToRas(grid: Grid) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(grid.direction, (3, 3)) * grid.spacing_mm
    matrix[:3, 3] = grid.origin_mm
    return _LPS_TO_RAS @ matrix
