"""Diameters and pieces against answers worked out by hand, and by looking at every pair of voxels."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MambaSegmentLib.review.shape import components, largest_diameter_mm, largest_in_plane_diameter_mm

masks = arrays.arrays(bool, st.tuples(*[st.integers(1, 6)] * 3), elements=st.booleans())
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3)


def a_mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((9, 9, 9), bool)
    mask[tuple(np.transpose(voxels))] = True
    return mask


def by_every_pair(mask: np.ndarray, spacing_mm: tuple[float, ...], *, one_slice: bool) -> float | None:
    points = np.argwhere(mask)
    if not len(points):
        return None
    pairs = itertools.product(points, points)
    return max(math.dist(a * spacing_mm[::-1], b * spacing_mm[::-1]) for a, b in pairs if not one_slice or a[0] == b[0])


@settings(max_examples=60, deadline=None)
@given(mask=masks, spacing_mm=spacings)
def test_diameters_are_those_of_the_farthest_pair(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> None:
    assert largest_diameter_mm(mask, spacing_mm) == pytest.approx(by_every_pair(mask, spacing_mm, one_slice=False))
    assert largest_in_plane_diameter_mm(mask, spacing_mm) == pytest.approx(
        by_every_pair(mask, spacing_mm, one_slice=True)
    )


def test_a_ball_of_many_voxels() -> None:
    k, j, i = np.ogrid[-20:21, -20:21, -20:21]
    ball = k**2 + j**2 + i**2 <= 20**2
    assert largest_diameter_mm(ball, (0.5, 0.5, 0.5)) == pytest.approx(20.0)
    assert largest_in_plane_diameter_mm(ball, (0.5, 0.5, 0.5)) == pytest.approx(20.0)


@pytest.mark.parametrize("step", [(0, 0, 1), (1, 1, 0), (1, 1, 1)])
def test_many_voxels_on_one_line(step: tuple[int, int, int]) -> None:
    mask = np.zeros((100, 100, 100), bool)
    line = np.arange(100)[:, None] * step
    mask[tuple(line.T)] = True
    assert largest_diameter_mm(mask, (1.0, 1.0, 1.0)) == pytest.approx(99 * math.sqrt(sum(step)))


def test_a_plane_that_lies_obliquely() -> None:
    mask = np.zeros((40, 40, 40), bool)
    n = np.arange(40)
    mask[n[:, None], n[None, :], n[:, None]] = True
    assert largest_diameter_mm(mask, (1.0, 1.0, 1.0)) == pytest.approx(math.sqrt(3) * 39)


def test_one_voxel_has_no_length_and_none_has_no_diameter() -> None:
    assert largest_diameter_mm(a_mask((4, 4, 4)), (1.0, 1.0, 1.0)) == 0.0
    assert largest_diameter_mm(np.zeros((2, 2, 2), bool), (1.0, 1.0, 1.0)) is None
    assert largest_in_plane_diameter_mm(np.zeros((2, 2, 2), bool), (1.0, 1.0, 1.0)) is None


def test_pieces_that_share_a_corner_are_one() -> None:
    parts = components(a_mask((0, 0, 0), (1, 1, 1), (5, 5, 5)))
    assert (parts.count, parts.largest_voxels) == (2, 2)
    assert components(np.zeros((2, 2, 2), bool)).count == 0
