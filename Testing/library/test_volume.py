"""Volume: two axis orders, one place."""

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from MambaSegmentLib.errors import GeometryError, ImageError, ShapeError
from MambaSegmentLib.volume import Volume, orthonormality_error

OBLIQUE = tuple(Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix().ravel())
CYCLIC = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # I runs along y, J along z, K along x


def a_volume(**changes) -> Volume:
    fields = {
        "array": np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4),
        "spacing_mm": (0.5, 1.25, 6.0),
        "origin_mm": (-10.0, 20.0, 30.5),
        "direction": OBLIQUE,
    }
    return Volume(**{**fields, **changes})


def test_index_to_place_by_hand():
    volume = a_volume(direction=CYCLIC)
    # i=1: 0.5 mm along y; j=2: 2.5 mm along z; k=1: 6 mm along x
    np.testing.assert_allclose(volume.ijk_to_lps @ (1, 2, 1, 1), (-10 + 6, 20 + 0.5, 30.5 + 2.5, 1))


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flip=st.booleans(),
    spacing=st.tuples(*[st.floats(0.01, 20)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
)
def test_through_simpleitk_and_back_changes_nothing(angles, flip, spacing, origin, dtype):
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([1, 1, -1 if flip else 1])
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    volume = Volume(array, spacing, origin, tuple(matrix.ravel()))
    image = volume.to_sitk()
    assert image.GetSize() == (4, 3, 2)
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((3, 2, 1)), (volume.ijk_to_lps @ (3, 2, 1, 1))[:3], atol=1e-9
    )
    back = Volume.from_sitk(image)
    assert back.array.dtype == array.dtype
    np.testing.assert_array_equal(back.array, array)
    assert (back.spacing_mm, back.origin_mm) == (volume.spacing_mm, volume.origin_mm)
    assert back.direction == volume.direction


@given(arrays(bool, (2, 2, 3)))
def test_bool_becomes_uint8_in_an_image(array):
    image = Volume(array).to_sitk()
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)


def test_float16_cannot_be_stored_and_says_what_to_do():
    with pytest.raises(ImageError, match=r"float16.*float32"):
        Volume(np.zeros((1, 1, 1), np.float16)).to_sitk()


def test_big_endian_and_reversed_arrays_arrive_unchanged():
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)[::-1, :, ::-1]
    np.testing.assert_array_equal(Volume.from_sitk(Volume(array).to_sitk()).array, array)


def test_two_dimensional_image_becomes_one_slice():
    image = sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((7, 8))
    image.SetDirection((0, -1, 1, 0))
    volume = Volume.from_sitk(image)
    assert volume.array.shape == (1, 2, 3)
    assert volume.spacing_mm == (0.5, 0.25, 1.0)
    assert volume.origin_mm == (7.0, 8.0, 0.0)
    assert volume.direction == (0, -1, 0, 1, 0, 0, 0, 0, 1)


def test_one_time_point_is_a_volume_and_two_are_not():
    assert Volume.from_sitk(sitk.Image([4, 3, 2, 1], sitk.sitkUInt8)).array.shape == (2, 3, 4)
    with pytest.raises(ShapeError, match="4 dimensions"):
        Volume.from_sitk(sitk.Image([4, 3, 2, 2], sitk.sitkUInt8))


def test_colour_and_complex_images_are_refused():
    with pytest.raises(ImageError, match="3 numbers per voxel"):
        Volume.from_sitk(sitk.Image([4, 3, 2], sitk.sitkVectorUInt8, 3))
    with pytest.raises(ImageError, match="complex"):
        Volume.from_sitk(sitk.Image([4, 3, 2], sitk.sitkComplexFloat32))


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (float("inf"), 1, 1)])
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(GeometryError, match="spacing"):
        a_volume(spacing_mm=spacing)


@pytest.mark.parametrize(
    "direction",
    [
        (1, 0, 0, 0, 1, 0.2, 0, 0, 1),  # gantry tilt
        (2, 0, 0, 0, 1, 0, 0, 0, 1),  # not a unit vector
        (1, 0, 0, 0, 1, 0, 0, 0, 0),
        (float("nan"), 0, 0, 0, 1, 0, 0, 0, 1),
    ],
)
def test_axes_that_are_no_perpendicular_unit_vectors_are_refused(direction):
    with pytest.raises(GeometryError, match="perpendicular unit vectors"):
        a_volume(direction=direction)


def test_directions_rounded_to_four_digits_are_accepted():
    rounded = tuple(round(value, 4) for value in OBLIQUE)
    assert 0 < orthonormality_error(rounded) < 5e-4
    assert a_volume(direction=rounded).direction == rounded


def test_other_impossible_fields_are_refused():
    with pytest.raises(GeometryError, match="origin"):
        a_volume(origin_mm=(float("nan"), 0, 0))
    with pytest.raises(GeometryError, match="direction has 4 numbers"):
        a_volume(direction=(1, 0, 0, 1))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3)), np.zeros((1, 2, 3, 4)), np.zeros((0, 2, 3)), np.zeros((1, 1, 1), complex), [[[1.0]]]],
    ids=["2-D", "4-D", "no voxels", "complex", "a list"],
)
def test_arrays_that_are_no_volume_are_refused(array):
    with pytest.raises(ShapeError):
        Volume(array)


def test_with_array_keeps_the_grid_and_refuses_another_shape():
    volume = a_volume()
    labels = volume.with_array(np.ones((2, 3, 4), np.uint8))
    assert labels.same_grid(volume, tolerance_mm=0)
    assert labels.array.dtype == np.uint8
    with pytest.raises(ShapeError, match=r"\(2, 3, 5\)"):
        volume.with_array(np.ones((2, 3, 5)))


def test_same_grid_measures_the_farthest_corner():
    volume = Volume(np.zeros((1, 1, 101), np.uint8))
    stretched = Volume(volume.array, spacing_mm=(1.0001, 1, 1))  # 100 steps of 0.1 micrometre: 0.01 mm at the far end
    assert not volume.same_grid(stretched)
    assert volume.same_grid(stretched, tolerance_mm=0.011)
    assert not volume.same_grid(Volume(np.zeros((1, 101, 1), np.uint8)))
    assert not volume.same_grid(Volume(volume.array, origin_mm=(0, 0, 0.002)))


def test_importing_volume_loads_neither_simpleitk_nor_torch():
    code = (
        "import sys, MambaSegmentLib.volume, MambaSegmentLib.image_io, MambaSegmentLib.segmentation_io;"
        "print([name for name in ('SimpleITK', 'torch', 'slicerio', 'nrrd') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert output.strip() == "[]"
