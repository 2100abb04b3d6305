"""What is changed about images before a model sees them: only what was allowed, and never in silence."""

import logging
import threading

import numpy as np
import pytest

from MambaSegmentLib.errors import GeometryError, ImageError
from MambaSegmentLib.inputs import collected_warnings, ready_for_model
from MambaSegmentLib.volume import Volume

FIRST = Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2), spacing_mm=(2.0, 2.0, 2.0))
NAMES = ["t1.nii", "flair.nii"]


def ramp(spacing_mm: float, origin_mm: float, count: int, dtype=np.float32) -> Volume:
    """Along I, the value at each place is its x in mm; wide enough along J and K."""
    values = origin_mm + spacing_mm * np.arange(count)
    array = np.broadcast_to(values, (5, 5, count)).astype(dtype)
    return Volume(array, spacing_mm=(spacing_mm, 1.0, 1.0), origin_mm=(origin_mm, -1.0, -1.0))


def test_images_that_are_as_they_should_be_are_not_touched():
    other = FIRST.with_array(FIRST.array + 1)
    with collected_warnings() as warnings:
        ready = ready_for_model([FIRST, other], NAMES, strict=True)
    assert ready[0] is FIRST
    assert ready[1] is other
    assert warnings == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64])
def test_a_channel_on_another_grid_has_the_values_of_its_places(dtype):
    """x is 0 and 2 at the voxels of the first image; a linear ramp is kept by linear interpolation."""
    with collected_warnings() as warnings:
        _, second = ready_for_model([FIRST, ramp(1.0, -3.0, 10, dtype)], NAMES)
    assert second.same_grid(FIRST)
    np.testing.assert_allclose(second.array, np.broadcast_to([0.0, 2.0], (2, 2, 2)), atol=1e-6)
    assert len(warnings) == 1
    assert "flair.nii does not lie on the grid of the first image" in warnings[0]
    assert "covers 100 %" in warnings[0]


def test_outside_of_a_channel_is_its_smallest_value():
    with collected_warnings() as warnings:
        _, second = ready_for_model([FIRST, ramp(1.0, -8.0, 10)], NAMES)  # to x = 1; the voxels at x = 2 lie outside
    np.testing.assert_allclose(second.array, np.broadcast_to([0.0, -8.0], (2, 2, 2)), atol=1e-6)
    assert "covers 50 %" in warnings[0]


def test_a_bool_channel_can_be_resampled():
    mask = ramp(1.0, -3.0, 10)
    _, second = ready_for_model([FIRST, mask.with_array(mask.array > 1)], NAMES)
    np.testing.assert_allclose(second.array, np.broadcast_to([0.0, 1.0], (2, 2, 2)))


def test_a_hundredth_of_a_voxel_is_rounding_and_more_is_not():
    for shift_mm, resampled in ((0.019, False), (0.021, True)):
        shifted = Volume(FIRST.array, FIRST.spacing_mm, (shift_mm, 0.0, 0.0))
        with collected_warnings() as warnings:
            _, second = ready_for_model([FIRST, shifted], NAMES)
        assert (second.array is FIRST.array) != resampled
        assert bool(warnings) == resampled
        with pytest.raises(GeometryError, match="origin differs by up to 0"):
            ready_for_model([FIRST, shifted], NAMES, strict=True)


def test_what_is_not_finite_is_counted_named_and_only_replaced_if_allowed():
    array = FIRST.array.copy()
    array[0, 0] = np.nan, -np.inf
    bad = FIRST.with_array(array)
    with pytest.raises(ImageError, match=r"flair\.nii holds NaN or infinity in 2 of 8 voxels"):
        ready_for_model([FIRST, bad], NAMES)
    with collected_warnings() as warnings:
        _, second = ready_for_model([FIRST, bad], NAMES, allow_nonfinite=True)
    assert second.array.ravel().tolist() == [2, 2, 2, 3, 4, 5, 6, 7]
    assert second.array.dtype == np.float32
    assert np.isnan(bad.array[0, 0, 0])  # what the caller has is left alone
    assert warnings == ["flair.nii holds NaN or infinity in 2 of 8 voxels, which were set to 2"]


def test_nan_does_not_spread_when_its_channel_is_resampled():
    second = ramp(1.0, -3.0, 10)
    array = second.array.copy()
    array[0, 0, 0] = np.nan
    _, ready = ready_for_model([FIRST, second.with_array(array)], NAMES, allow_nonfinite=True)
    assert np.isfinite(ready.array).all()


def test_warnings_of_other_threads_and_of_other_programs_are_not_collected():
    logger = logging.getLogger("MambaSegmentLib.inputs")
    with collected_warnings() as warnings:
        other = threading.Thread(target=logger.warning, args=("another case",))
        other.start()
        other.join()
        logging.getLogger("somebody").warning("something")
        logger.info("a detail")
        logger.warning("this case: %d", 1)
    logger.warning("afterwards")
    assert warnings == ["this case: 1"]
