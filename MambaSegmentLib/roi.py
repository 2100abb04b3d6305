"""A region of interest: a box of voxels, a box in millimetres, or the neighbourhood of a label.

As text, for the shell and the worker:

    voxels:I0:I1,J0:J1,K0:K1     voxels of the first image, counted from 0, the last number of each pair excluded
    mm:X0:X1,Y0:Y1,Z0:Z1         LPS millimetres (x to the patient's left, y to posterior, z to superior)
    label:VALUE:MARGIN:FILE      the box around a label of a label map, MARGIN mm wider on every side; VALUE may be
                                 `any`, and the map may lie on another grid than the image

Neither torch nor numpy is imported with this file: Slicer's process reads texts with it.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from .volume import Volume

Bounds = tuple[int, int]
VoxelBox = tuple[Bounds, Bounds, Bounds]  # first voxel and the one after the last, in array order (K, J, I)
_Interval = tuple[float, float]

SYNTAX = "voxels:I0:I1,J0:J1,K0:K1, mm:X0:X1,Y0:Y1,Z0:Z1 (LPS) or label:VALUE:MARGIN_MM:FILE"
_ROUNDING_VOXELS = 1e-4  # a face this close to that of a voxel counts as the same one


@dataclass(frozen=True)
class BoxInVoxels:
    """Voxels (I, J, K) of the first image, from the first number of each pair to before the second.

    Raises:
        ConfigError: no voxel in it.
    """

    bounds: tuple[Bounds, Bounds, Bounds]

    def __post_init__(self) -> None:
        _check_bounds(self.bounds, "IJK")

    def box(self, volume: "Volume") -> VoxelBox:
        """Raises: ConfigError, outside the volume."""
        return _inside(self.bounds, volume)


@dataclass(frozen=True)
class BoxInMm:
    """LPS millimetres along X, Y and Z; of an oblique volume the smallest box of voxels that holds it.

    Raises:
        ConfigError: no extent, or no numbers.
    """

    bounds: tuple[_Interval, _Interval, _Interval]

    def __post_init__(self) -> None:
        _check_bounds(self.bounds, "XYZ")

    def box(self, volume: "Volume") -> VoxelBox:
        """Raises: ConfigError, outside the volume."""
        return _inside(_voxels_holding(itertools.product(*self.bounds), volume), volume)


@dataclass(frozen=True)
class AroundLabel:
    """The box around a label of a label map, wider by a margin.

    Attributes:
        labels: a label map, or its file.
        value: of the label; None takes all that are not 0.
        margin_mm: added on every side.
    Raises:
        ConfigError: a negative margin.
    """

    labels: "Volume | Path"
    value: int | None = None
    margin_mm: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin_mm) and self.margin_mm >= 0):
            raise ConfigError(f"the margin around a label is {self.margin_mm} mm; expected 0 or more")

    def box(self, volume: "Volume") -> VoxelBox:
        """Raises: ConfigError, no such label, or outside the volume. ImageError: the file cannot be read."""
        import numpy as np

        from .image_io import read_volume

        labels = read_volume(self.labels) if isinstance(self.labels, Path) else self.labels
        there = labels.array != 0 if self.value is None else labels.array == self.value
        if not there.any():
            present = np.unique(labels.array)
            listed = ", ".join(f"{value:g}" for value in present[present != 0][:20]) or "none"
            raise ConfigError(
                f"the label {'any' if self.value is None else self.value} is not in the label map "
                f"{self.labels if isinstance(self.labels, Path) else ''}; it holds {listed}"
            )
        faces = []
        for axis, spacing_mm in zip((2, 1, 0), labels.spacing_mm, strict=True):
            found = np.flatnonzero(there.any(axis=tuple(other for other in range(3) if other != axis)))
            margin = self.margin_mm / spacing_mm
            faces.append((found[0] - 0.5 - margin, found[-1] + 0.5 + margin))
        corners = np.array([(*corner, 1.0) for corner in itertools.product(*faces)])
        return _inside(_voxels_holding((corners @ labels.ijk_to_lps.T)[:, :3], volume), volume)


Roi = BoxInVoxels | BoxInMm | AroundLabel


def parse_roi(text: str) -> Roi:
    """Read the text form.

    Raises:
        ConfigError: it cannot be understood, or a box of zero size.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "label":
            value, margin, file = rest.split(":", 2)
            if not file:
                raise ValueError
            return AroundLabel(Path(file), None if value == "any" else int(value), float(margin))
        pairs = [pair.split(":") for pair in rest.split(",")]
        if kind == "voxels":
            (i0, i1), (j0, j1), (k0, k1) = ((int(first), int(end)) for first, end in pairs)
            return BoxInVoxels(((i0, i1), (j0, j1), (k0, k1)))
        if kind == "mm":
            (x0, x1), (y0, y1), (z0, z1) = ((float(first), float(end)) for first, end in pairs)
            return BoxInMm(((x0, x1), (y0, y1), (z0, z1)))
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"the region {text!r} cannot be understood; expected {SYNTAX}") from problem
    raise ConfigError(f"the region {text!r} cannot be understood; expected {SYNTAX}")


def widened(box: VoxelBox, shape: Sequence[int], context: Sequence[int], least: Sequence[int]) -> VoxelBox:
    """A box with some voxels more on every side, within the volume.

    Args:
        context: voxels to add on both sides of each axis.
        least: size of each axis, where the volume has that many voxels; half of what lacks comes on each side.
    """
    k, j, i = (_widened_axis(*axis) for axis in zip(box, shape, context, least, strict=True))
    return k, j, i


def slices_of(box: VoxelBox) -> tuple[slice, slice, slice]:
    k, j, i = (slice(*bounds) for bounds in box)
    return k, j, i


def _widened_axis(bounds: Bounds, size: int, context: int, least: int) -> Bounds:
    first, end = max(bounds[0] - context, 0), min(bounds[1] + context, size)
    length = min(max(end - first, least), size)
    first = min(max(first - (length - (end - first)) // 2, 0), size - length)
    return first, first + length


def _check_bounds(bounds: Sequence[_Interval], names: str) -> None:
    for name, (first, end) in zip(names, bounds, strict=True):
        if not (math.isfinite(first) and math.isfinite(end) and first < end):
            raise ConfigError(
                f"the region goes from {first:g} to {end:g} along {name}, which holds nothing; the second number of "
                "each pair must be the larger one"
            )


def _voxels_holding(corners_mm: Iterable[Iterable[float]], volume: "Volume") -> list[Bounds]:
    """Bounds along (I, J, K) of the voxels that a box touches, wherever they are."""
    import numpy as np

    points = np.array([(*corner, 1.0) for corner in corners_mm])
    indices = (points @ np.linalg.inv(volume.ijk_to_lps).T)[:, :3]
    low = np.floor(indices.min(axis=0) + 0.5 + _ROUNDING_VOXELS).astype(int)
    high = np.ceil(indices.max(axis=0) + 0.5 - _ROUNDING_VOXELS).astype(int)
    return [(int(first), max(int(end), int(first) + 1)) for first, end in zip(low, high, strict=True)]


def _inside(bounds: Sequence[Bounds], volume: "Volume") -> VoxelBox:
    """What of a box along (I, J, K) lies in the volume, in array order."""
    sizes = volume.array.shape[::-1]
    cut = [(max(first, 0), min(end, size)) for (first, end), size in zip(bounds, sizes, strict=True)]
    if any(first >= end for first, end in cut):
        asked = ", ".join(f"{name} {first}:{end}" for name, (first, end) in zip("IJK", bounds, strict=True))
        there = ", ".join(f"{name} 0:{size}" for name, size in zip("IJK", sizes, strict=True))
        raise ConfigError(f"the region lies outside the image: voxels {asked}; the image has {there}")
    return cut[2], cut[1], cut[0]
