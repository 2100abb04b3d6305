import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.inference.tiling import gaussian_weights, padding, tile_corners, tile_starts, weight_sum


def test_starts_by_hand():
    assert tile_starts(8, 8) == [0]
    assert tile_starts(9, 8) == [0, 1]
    assert tile_starts(12, 8) == [0, 4]
    assert tile_starts(13, 8) == [0, 2, 5]  # 2.5 apart, evenly, not 4, 1
    assert tile_starts(24, 8, step=1.0) == [0, 8, 16]


@given(patch=st.integers(1, 40), extra=st.integers(0, 200), step=st.floats(0.1, 1.0))
def test_tiles_cover_the_axis_and_overlap_as_asked(patch, extra, step):
    size = patch + extra
    starts = tile_starts(size, patch, step)
    assert starts[0] == 0
    assert starts[-1] == size - patch
    gaps = np.diff(starts)
    assert (gaps >= 0).all()
    assert (gaps <= np.ceil(patch * step)).all()
    assert (weight_sum(size, patch, step) > 0).all()


def test_corners_run_through_the_last_axis_first():
    assert tile_corners((4, 6, 4), (4, 4, 2)) == [
        (0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 2, 0), (0, 2, 1), (0, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 17, 5), (12, 9)])
def test_weights_are_the_gaussian_filter_of_a_single_voxel(patch):
    """nnU-Net filters an impulse; scaled to 1 at its centre it is the same Gaussian."""
    impulse = np.zeros(patch)
    impulse[tuple(size // 2 for size in patch)] = 1
    filtered = ndimage.gaussian_filter(impulse, [size / 8 for size in patch], mode="constant", truncate=10)
    np.testing.assert_allclose(gaussian_weights(patch), filtered / filtered.max(), rtol=1e-4, atol=1e-12)


def test_weights_never_vanish_and_their_sum_is_the_product_of_axes():
    size, patch = (20, 11, 9), (8, 8, 8)
    weights = gaussian_weights(patch)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    total = np.zeros(size)
    for corner in tile_corners(size, patch):
        total[tuple(slice(start, start + 8) for start in corner)] += weights
    profiles = [weight_sum(s, p) for s, p in zip(size, patch, strict=True)]
    np.testing.assert_allclose(total, np.einsum("k,j,i->kji", *profiles), rtol=1e-5)


def test_padding_by_hand():
    assert padding((5, 8, 10), (8, 8, 8)) == [(1, 2), (0, 0), (0, 0)]


@pytest.mark.parametrize(("size", "patch", "step"), [(4, 5, 0.5), (4, 0, 0.5), (4, 4, 0), (4, 4, 1.1)])
def test_impossible_tilings_are_refused(size, patch, step):
    with pytest.raises(ConfigError):
        tile_starts(size, patch, step)


def test_a_two_dimensional_patch():
    assert len(tile_corners((6, 6), (4, 4))) == len(list(itertools.product(range(2), repeat=2)))
    assert gaussian_weights((4, 6)).shape == (4, 6)
