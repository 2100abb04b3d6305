"""Overlaps and volumes against answers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MambaSegmentLib.errors import GeometryError, ShapeError
from MambaSegmentLib.review.measure import dice, dice_per_label, volumes_ml, voxel_counts, voxel_volume_ml

label_pairs = arrays.array_shapes(min_dims=3, max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(*[arrays.arrays(np.uint8, shape, elements=st.integers(0, 3))] * 2)
)


def mask(*voxels: int) -> np.ndarray:
    array = np.zeros(6, bool)
    array[list(voxels)] = True
    return array


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        (mask(0, 1, 2), mask(1, 2, 3, 4), 2 * 2 / 7),
        (mask(0, 1), mask(0, 1), 1),
        (mask(0, 1), mask(2, 3), 0),
        (mask(), mask(2), 0),
        (mask(), mask(), None),
    ],
)
def test_dice_of_masks(predicted, reference, expected):
    assert dice(predicted, reference) == expected


def test_dice_per_label_and_its_absent_label():
    predicted = np.array([0, 1, 1, 2, 2, 2])
    reference = np.array([1, 1, 1, 2, 0, 0], np.uint8)
    assert dice_per_label(predicted, reference) == {1: 2 * 2 / 5, 2: 2 * 1 / 4}
    assert dice_per_label(predicted, reference, (2, 7)) == {2: 0.5, 7: None}


def test_a_label_of_one_array_alone_is_compared():
    assert dice_per_label(np.array([3, 0]), np.array([0, 4])) == {3: 0, 4: 0}


@given(label_pairs)
def test_dice_per_label_is_dice_of_the_masks(pair):
    predicted, reference = pair
    expected = {value: dice(predicted == value, reference == value) for value in (1, 2, 3)}
    assert dice_per_label(predicted, reference, (1, 2, 3)) == expected
    assert dice_per_label(reference, predicted, (1, 2, 3)) == expected


@given(label_pairs)
def test_volumes_add_up_to_the_foreground(pair):
    labels = pair[0]
    total = sum(volumes_ml(labels, (1, 1, 1)).values())
    assert total == pytest.approx(np.count_nonzero(labels) / 1000)


def test_counts_leave_out_the_background_and_show_what_is_absent():
    labels = np.array([0, 0, 5, 5, 2])
    assert voxel_counts(labels) == {2: 1, 5: 2}
    assert voxel_counts(labels, (0, 2, 3)) == {0: 2, 2: 1, 3: 0}


def test_volume_uses_every_spacing():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0, :] = 1
    assert volumes_ml(labels, (0.5, 2.0, 10.0), (1, 2)) == {1: pytest.approx(0.04), 2: 0}
    assert voxel_volume_ml((10, 10, 10)) == 1


@pytest.mark.parametrize("spacing_mm", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, float("nan")), (1, 1, float("inf"))])
def test_impossible_spacing_is_refused(spacing_mm):
    with pytest.raises(GeometryError):
        volumes_ml(np.ones((1, 1, 1), np.uint8), spacing_mm)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="differ in shape"):
        dice_per_label(np.zeros(3, int), np.zeros(4, int))
    with pytest.raises(ShapeError, match="integers"):
        voxel_counts(np.zeros(3))
    with pytest.raises(ShapeError, match="bool"):
        dice(np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"\(K, J, I\)"):
        volumes_ml(np.zeros((3, 3), int), (1, 1, 1))
