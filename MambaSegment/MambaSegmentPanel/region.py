"""From a region that was drawn in the views to the engine's option `roi`: a box of voxels of the volume."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from MambaSegmentLib.errors import ConfigError

from .volume_out import ijkToRas

_FLAT_MM = 1e-3  # a side shorter than this was never drawn
_STRAIGHT_VOXELS = 0.5  # a side that leaves its axis by more is oblique to the voxels
_ROUNDING_VOXELS = 1e-4


@dataclass(frozen=True)
class Region:
    """A box of voxels.

    Attributes:
        bounds: along I, J and K, the first voxel and the one after the last, all inside the volume.
        isOblique: the region's sides do not follow the voxels, so the box around it is larger than it.
    """

    bounds: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    isOblique: bool

    @property
    def text(self) -> str:
        """As MambaSegmentLib/roi.py reads it."""
        return "voxels:" + ",".join(f"{first}:{end}" for first, end in self.bounds)


def regionOf(regionNode: Any, volumeNode: Any) -> Region:
    """The voxels that a region touches, wherever transforms put the two.

    Raises:
        ConfigError: it was not drawn yet, or lies outside the volume.
    """
    name = regionNode.GetName()
    if min(regionNode.GetSize()) < _FLAT_MM:
        raise ConfigError(f"the region {name!r} has no size yet; draw it in the views, or choose the whole image")
    corners = _cornersInVoxels(regionNode, volumeNode)
    low = np.floor(corners.min(axis=(0, 1, 2)) + 0.5 + _ROUNDING_VOXELS).astype(int)
    high = np.ceil(corners.max(axis=(0, 1, 2)) + 0.5 - _ROUNDING_VOXELS).astype(int)
    sizes = volumeNode.GetImageData().GetDimensions()
    bounds = [(max(int(a), 0), min(max(int(b), int(a) + 1), n)) for a, b, n in zip(low, high, sizes, strict=True)]
    if any(first >= end for first, end in bounds):
        raise ConfigError(f"the region {name!r} lies outside the volume {volumeNode.GetName()!r}; move it")
    return Region((bounds[0], bounds[1], bounds[2]), _isOblique(corners))


def fitToVolume(regionNode: Any, volumeNode: Any) -> None:
    """Make a region the box around a volume, in world coordinates."""
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    if all(math.isfinite(bound) for bound in bounds) and bounds[0] < bounds[1]:
        regionNode.SetCenterWorld(*((bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)))
        regionNode.SetSizeWorld(*(bounds[2 * axis + 1] - bounds[2 * axis] for axis in range(3)))


def _cornersInVoxels(regionNode: Any, volumeNode: Any) -> np.ndarray:
    """(2, 2, 2, 3): the corners in (I, J, K), the first three axes along the region's own."""
    toNode = slicer.util.arrayFromVTKMatrix(regionNode.GetObjectToNodeMatrix())
    between = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        regionNode.GetParentTransformNode(), volumeNode.GetParentTransformNode(), between
    )
    toVoxels = np.linalg.inv(ijkToRas(volumeNode))
    half = np.asarray(regionNode.GetSize()) / 2
    corners = np.empty((2, 2, 2, 3))
    for place in itertools.product((0, 1), repeat=3):
        local = np.append(half * (2 * np.asarray(place) - 1), 1.0)
        inVolumeSpace = between.TransformPoint((toNode @ local)[:3])
        corners[place] = (toVoxels @ np.append(inVolumeSpace, 1.0))[:3]
    return corners


def _isOblique(corners: np.ndarray) -> bool:
    """Whether a side of the box follows none of the axes of the voxels."""
    for axis in range(3):
        sides = np.diff(corners, axis=axis).reshape(-1, 3)
        if np.any(np.sort(np.abs(sides), axis=1)[:, 1] > _STRAIGHT_VOXELS):
            return True
    return False
