"""Size and number of the pieces of a segment, in the terms of a radiology report.

Distances are between centres of voxels, along straight lines in millimetres; a segment of one voxel has 0 mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2048  # rows of a distance matrix at a time


@dataclass(frozen=True)
class Components:
    """Pieces of a segment that touch by faces, edges or corners (26 neighbours).

    Attributes:
        count: of the pieces.
        largest_voxels: of the largest one.
    """

    count: int
    largest_voxels: int


def components(mask: NDArray[np.bool_]) -> Components:
    """Count the pieces of a mask, (K, J, I)."""
    from scipy import ndimage  # slow to import

    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    largest = int(np.bincount(pieces.ravel())[1:].max()) if count else 0
    return Components(int(count), largest)


def largest_diameter_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float | None:
    """The largest distance between two voxels of a mask, in any direction.

    Args:
        mask: (K, J, I).
        spacing_mm: (I, J, K), as a Volume has it.
    Returns:
        None for an empty mask.
    """
    return _largest_distance(_ends_of_rows(mask) * np.asarray(spacing_mm[::-1], dtype=float))


def largest_in_plane_diameter_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float | None:
    """The largest distance between two voxels of one acquired slice (J, I): the longest diameter of RECIST 1.1.

    Args, returns: as for `largest_diameter_mm`.
    """
    points = _ends_of_rows(mask)
    starts = [*np.flatnonzero(np.diff(points[:, 0], prepend=-1)), len(points)]  # points come slice by slice
    in_plane = points[:, 1:] * np.asarray(spacing_mm[1::-1], dtype=float)
    slices = [_largest_distance(in_plane[begin:end]) for begin, end in pairwise(starts)]
    return max((distance for distance in slices if distance is not None), default=None)


def _ends_of_rows(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """First and last voxel of each line of the mask along I, (n, 3) as (k, j, i): the hull needs no others."""
    k, j = np.nonzero(mask.any(axis=2))
    lines = mask[k, j]
    first, last = lines.argmax(axis=1), mask.shape[2] - 1 - lines[:, ::-1].argmax(axis=1)
    ends = np.stack([np.stack([k, j, first], axis=1), np.stack([k, j, last], axis=1)], axis=1)
    return ends.reshape(-1, 3)


def _largest_distance(points: NDArray[np.float64]) -> float | None:
    if len(points) == 0:
        return None
    corners = _hull(points)
    corners = corners - corners.mean(axis=0)
    squares = np.einsum("ac,ac->a", corners, corners)
    largest = 0.0
    for begin in range(0, len(corners), _BLOCK):
        # |a - b|² as |a|² + |b|² - 2 ab is fast but loses digits: it finds the pair, which is then measured itself.
        some = corners[begin : begin + _BLOCK]
        apart = some @ (-2 * corners.T)
        apart += squares
        apart += squares[begin : begin + _BLOCK, None]
        one, other = divmod(int(apart.argmax()), len(corners))
        largest = max(largest, float(((some[one] - corners[other]) ** 2).sum()))
    return float(np.sqrt(largest))


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of the convex hull, which two points farthest apart always are; all points where they are few."""
    flat = _without_constant_axes(points)
    if len(flat) <= 64 or flat.shape[1] == 0:
        return flat
    if flat.shape[1] == 1:
        return np.array([[flat.min()], [flat.max()]])
    from scipy.spatial import ConvexHull, QhullError

    try:
        return flat[ConvexHull(flat).vertices]
    except QhullError:  # all on one oblique line or plane: no hull of full dimension exists
        return flat[ConvexHull(flat, qhull_options="QJ").vertices]


def _without_constant_axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[:, np.ptp(points, axis=0) > 0]
