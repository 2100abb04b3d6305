import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.resampling import RowResizer, resize, resized_shape

SIZES = st.tuples(*[st.integers(1, 9)] * 3)


@pytest.mark.parametrize("order", [1, 2, 3])
@given(old=SIZES, new=SIZES, seed=st.integers(0, 99))
def test_resize_agrees_with_scipys_zoom(order, old, new, seed):
    array = np.random.default_rng(seed).standard_normal(old).astype(np.float32)
    expected = ndimage.zoom(
        array.astype(np.float64), np.divide(new, old), order=order, mode="nearest", grid_mode=True
    ).clip(array.min(), array.max())
    np.testing.assert_allclose(resize(array, new, (order,) * 3), expected, atol=2e-5)


def test_nearest_by_hand():
    array = np.arange(3, dtype=np.float32).reshape(1, 1, 3)
    assert resize(array, (1, 1, 6), (0, 0, 0)).ravel().tolist() == [0, 0, 1, 1, 2, 2]
    assert resize(array, (1, 1, 1), (0, 0, 0)).ravel().tolist() == [1]


def test_linear_by_hand():
    array = np.array([0, 4], dtype=np.float32).reshape(2, 1, 1)
    assert resize(array, (4, 1, 1), (1, 1, 1)).ravel().tolist() == [0, 1, 3, 4]  # the edge is repeated


def test_a_cubic_spline_does_not_overshoot():
    edge = np.repeat([0, 1], 5).astype(np.float32).reshape(1, 1, 10)
    resized = resize(edge, (1, 1, 23), (3, 3, 3))
    assert resized.min() == 0
    assert resized.max() == 1


def test_an_unchanged_shape_is_not_touched():
    array = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    assert resize(array, (3, 4, 5), (3, 3, 3)) is array


@given(old=SIZES, new=SIZES)
def test_there_and_back_shifts_nothing(old, new):
    """A ramp along each axis comes back as that ramp in the interior: no shift by a part of a voxel."""
    ramp = np.indices(old, dtype=np.float32).sum(axis=0)
    finer = tuple(max(a, b) * 2 for a, b in zip(old, new, strict=True))
    back = resize(resize(ramp, finer, (1, 1, 1)), old, (1, 1, 1))
    interior = tuple(slice(1, -1) for _ in range(3))
    np.testing.assert_allclose(back[interior], ramp[interior], atol=0.25)
    np.testing.assert_allclose(back.mean(), ramp.mean(), atol=1e-3)


def test_resized_shape_rounds_and_never_vanishes():
    assert resized_shape((10, 10, 10), (3.0, 1.0, 1.0), (1.0, 1.49, 100.0)) == (30, 7, 1)
    assert resized_shape((10, 11, 12), (3.0, 1.0, 1.0), (None, 2.0, None)) == (10, 6, 12)


def test_an_unknown_order_is_refused():
    with pytest.raises(ConfigError, match="order 4"):
        resize(np.zeros((2, 2, 2), np.float32), (3, 3, 3), (4, 4, 4))


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    new_shape=st.tuples(*[st.integers(1, 14)] * 3),
    orders=st.tuples(*[st.integers(0, 3)] * 3),
    coarse_axis=st.sampled_from([None, 0, 1, 2]),
    cuts=st.sets(st.integers(1, 13), max_size=4),
    seed=st.integers(0, 99),
)
def test_rows_are_those_of_the_whole(shape, new_shape, orders, coarse_axis, cuts, seed):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    asked: list[int] = []

    def source(first: int, end: int) -> np.ndarray:
        asked.extend(range(first, end))
        return array[first:end]

    rows = RowResizer(shape, new_shape, orders, coarse_axis, source)
    asked.clear()  # a first look at all rows is allowed, for the range of the values
    bounds = [0, *sorted(cut for cut in cuts if cut < new_shape[0]), new_shape[0]]
    parts = [rows.read(first, end) for first, end in itertools.pairwise(bounds)]
    assert asked == sorted(set(asked))  # no row twice
    expected = resize(array, new_shape, orders, coarse_axis)
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=0, atol=2e-5)


def test_rows_need_only_their_neighbourhood():
    asked: list[int] = []

    def source(first: int, end: int) -> np.ndarray:
        asked.extend(range(first, end))
        return np.ones((end - first, 2, 2), np.float32)

    rows = RowResizer((1000, 2, 2), (500, 2, 2), (1, 1, 1), None, source)
    assert asked == [0]  # of whose first voxel all others are a distance
    asked.clear()
    rows.read(100, 110)
    assert min(asked) >= 198
    assert max(asked) <= 222


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("coarse_axis", [None, 0, 1])
def test_what_holds_one_value_holds_that_very_value_afterwards(order, coarse_axis):
    """Bit for bit, up to a spline's reach of 12 voxels, so that tiles of air are found to be equal."""
    array = np.full((50, 60, 60), (-160.0 - 40.0) / 80.1, np.float32)
    array[:, 40:, 40:] = np.random.default_rng(0).uniform(-2.4, 3, (50, 20, 20))
    orders = tuple(min(order, 0) if axis == coarse_axis else order for axis in range(3))
    rows = RowResizer(array.shape, (37, 83, 45), orders, coarse_axis, lambda first, end: array[first:end]).read(0, 37)
    air = rows[:, : round((40 - 13) * 83 / 60), : round((40 - 13) * 45 / 60)]
    assert np.unique(air).tolist() == [array[0, 0, 0]]
    assert len(np.unique(rows)) > 1000
