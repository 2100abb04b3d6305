import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError
from MambaSegmentLib.label_maps import preprocess_labels, restore_labels
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import Interpolation, PreparedRows, preprocess
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.volume import Volume

ZSCORE = (Normalization("zscore"),)
CODES = st.sampled_from(["as stored", "LPS", "RAS", "PIR", "SAL", "IRP"])


def a_volume(shape=(6, 7, 8), seed=0, **geometry) -> Volume:
    return Volume(np.random.default_rng(seed).integers(1, 100, shape).astype(np.int16), **geometry)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return (np.arange(classes)[:, None, None, None] == labels).astype(np.float32)


def an_oblique_direction(seed: int) -> tuple[float, ...]:
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return tuple(matrix.ravel())


@given(
    seed=st.integers(0, 9999), code=CODES, order=st.permutations(range(3)), crop=st.sampled_from(["none", "nonzero"])
)
def test_without_resampling_everything_is_undone_exactly(seed, code, order, crop):
    rng = np.random.default_rng(seed)
    image = np.zeros((5, 6, 7), np.float32)
    image[1:4, 2:6, 3:5] = rng.random((3, 4, 2)) + 1
    geometry = {"direction": an_oblique_direction(seed), "spacing_mm": (0.5, 1.5, 2.5), "origin_mm": (1.0, -2.0, 3.5)}
    labels = Volume(((image > 1.3) + (image > 1.6)).astype(np.uint8), **geometry)
    spec = PreprocessingSpec(ZSCORE, orientation=code, axis_order=tuple(order), crop=crop)

    prepared = preprocess([Volume(image, **geometry)], spec)
    mine = preprocess_labels(labels, prepared)
    assert mine.shape == prepared.array.shape[1:]
    back = restore_labels(one_hot(mine, 3), prepared.undo)
    np.testing.assert_array_equal(back.array, labels.array)
    assert (back.spacing_mm, back.origin_mm, back.direction) == (labels.spacing_mm, labels.origin_mm, labels.direction)


@settings(deadline=None)
@given(seed=st.integers(0, 9999), code=CODES, spacing=st.tuples(*[st.floats(0.4, 2.5)] * 3))
def test_a_ball_comes_back_to_its_place_after_resampling(seed, code, spacing):
    """The centre of gravity moves by less than half a voxel of the coarser grid, which is what it can resolve."""
    grid = np.indices((18, 20, 22)) - np.array([8.0, 11.0, 10.0])[:, None, None, None]
    ball = (grid**2).sum(axis=0) < 36
    image = Volume(ball * 100.0 + np.random.default_rng(seed).random(ball.shape), direction=an_oblique_direction(seed))
    prepared = preprocess([image], PreprocessingSpec(ZSCORE, orientation=code, spacing_mm=spacing))
    labels = preprocess_labels(image.with_array(ball), prepared)
    back = restore_labels(one_hot(labels, 2), prepared.undo).array > 0
    shift = np.argwhere(back).mean(axis=0) - np.argwhere(ball).mean(axis=0)
    assert np.abs(shift).max() < 0.5 * max(1.0, *spacing)
    dice = 2 * (back & ball).sum() / (back.sum() + ball.sum())
    assert dice > 0.75


def test_resampling_puts_voxels_where_the_physical_grid_has_them():
    """Edge to edge: halving the spacing agrees with SimpleITK resampling in millimetres on the shifted grid."""
    image = a_volume((5, 6, 7)).to_sitk()
    prepared = preprocess(
        [Volume.from_sitk(image)],
        PreprocessingSpec((Normalization("none"),), spacing_mm=(0.5, 0.5, 0.5), resampling_order=1),
    )
    expected = sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32), (14, 12, 10), sitk.Transform(), sitk.sitkLinear, (-0.25,) * 3, (0.5,) * 3
    )
    np.testing.assert_allclose(prepared.array[0], sitk.GetArrayFromImage(expected), rtol=1e-5)


def test_thick_slices_are_not_blurred_into_each_other():
    image = a_volume((4, 6, 6), spacing_mm=(1.0, 1.0, 5.0))
    spec = PreprocessingSpec(
        (Normalization("none"),), spacing_mm=(2.5, 1.0, 1.0), resampling_order=3, coarse_axis_order=0
    )
    prepared = preprocess([image], spec)
    np.testing.assert_array_equal(prepared.array[0], np.repeat(image.array, 2, axis=0))
    assert prepared.undo.labels == Interpolation((0, 1, 1), 0)


def test_spacing_of_the_prepared_grid_covers_the_same_extent():
    prepared = preprocess([a_volume((10, 10, 10))], PreprocessingSpec(ZSCORE, spacing_mm=(1.49, None, 3.0)))
    assert prepared.array.shape == (1, 7, 10, 3)
    assert prepared.spacing_mm == pytest.approx((10 / 7, 1.0, 10 / 3))


def test_slices_become_as_large_as_the_network_wants_them_and_come_back():
    """6 x 4 pixels of 1 mm cover what 12 x 12 pixels cover: 0.5 mm and a third."""
    spec = PreprocessingSpec((Normalization("none"),), size=(None, 12, 12), resampling_order=0)
    array = np.arange(3 * 6 * 4, dtype=np.float32).reshape(3, 6, 4)
    prepared = preprocess([Volume(array)], spec)
    np.testing.assert_array_equal(prepared.array[0], array.repeat(2, axis=1).repeat(3, axis=2))
    assert prepared.spacing_mm == pytest.approx((1.0, 0.5, 1 / 3))
    labels = np.zeros((3, 6, 4), np.uint8)
    labels[1, 2:4, 1:3] = 1
    on_grid = preprocess_labels(Volume(labels), prepared)
    scores = np.stack([on_grid == 0, on_grid == 1]).astype(np.float32)
    np.testing.assert_array_equal(restore_labels(scores, prepared.undo).array, labels)
    assert PreprocessingSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ConfigError, match="must hold three whole numbers"):
        PreprocessingSpec((Normalization("none"),), size=(None, 0, 12))


def test_a_part_of_a_resized_image_is_prepared_as_in_the_whole():
    spec = PreprocessingSpec((Normalization("none"),), size=(None, 12, 12), resampling_order=0)
    array = np.arange(3 * 6 * 4, dtype=np.float32).reshape(3, 6, 4)
    part = PreparedRows([Volume(array)], spec, ((0, 3), (2, 4), (0, 2)))
    assert part.shape == (3, 4, 6)
    np.testing.assert_array_equal(part.read(0, 3)[0], preprocess([Volume(array)], spec).array[0, :, 4:8, 0:6])


def test_channels_are_normalised_each_by_itself():
    spec = PreprocessingSpec((Normalization("zscore"), Normalization("none")))
    first, second = a_volume(seed=1), a_volume(seed=2)
    array = preprocess([first, second], spec).array
    assert array[0].mean() == pytest.approx(0, abs=1e-6)
    assert array[0].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(array[1], second.array)


def test_the_object_keeps_its_holes_and_the_crop_is_remembered():
    image = np.zeros((5, 5, 5))
    image[1:4, 1:4, 1:4] = np.arange(27).reshape(3, 3, 3) + 1
    image[2, 2, 2] = 0  # a hole inside belongs to the object
    spec = PreprocessingSpec((Normalization("zscore_nonzero"),), crop="nonzero")
    prepared = preprocess([Volume(image)], spec)
    inside = image[1:4, 1:4, 1:4]
    assert prepared.undo.crop == ((1, 4), (1, 4), (1, 4))
    np.testing.assert_allclose(prepared.array[0], (inside - inside.mean()) / inside.std(), rtol=1e-5)


def test_preparing_twice_gives_the_same_bytes():
    spec = PreprocessingSpec(ZSCORE, orientation="RAS", spacing_mm=(0.7, 1.3, 0.9))
    runs = {preprocess([a_volume((20, 21, 22))], spec).array.tobytes() for _ in range(3)}
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 2, 2), 7, np.uint8), "value 7 in every voxel"),
        (np.full((2, 2, 2), np.nan), "NaN or infinity in 8 of 8"),
        (np.array([0, 1, np.inf, 2]).reshape(1, 2, 2), "NaN or infinity in 1 of 4"),
        (np.array([0, 1, np.nan, 2]).reshape(1, 2, 2), "NaN or infinity in 1 of 4"),
    ],
)
def test_images_with_nothing_to_see_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        preprocess([Volume(array)], PreprocessingSpec(ZSCORE))


def test_numbers_beyond_float32_are_refused():
    array = np.array([0, 1e300]).reshape(1, 1, 2)
    with pytest.raises(ImageError, match="too large"), np.errstate(over="ignore"):
        preprocess([Volume(array)], PreprocessingSpec((Normalization("none"),)))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (a_volume((6, 7, 9)), "9 × 7 × 6 voxels against 8 × 7 × 6"),
        (a_volume(origin_mm=(0.0, 0.25, 0.0)), "origin differs by up to 0.25 mm"),
        (a_volume(spacing_mm=(1.0, 1.0, 1.1)), "spacing differs by up to 0.1 mm"),
        (a_volume(direction=(1, 0, 0, 0, -1, 0, 0, 0, 1)), "direction differs by up to 2"),
    ],
)
def test_channels_on_different_grids_are_refused(second, message):
    with pytest.raises(GeometryError, match=message):
        preprocess([a_volume(), second], PreprocessingSpec(ZSCORE * 2))


def test_the_number_of_channels_must_fit():
    with pytest.raises(ConfigError, match=r"2 image\(s\) given, but 1"):
        preprocess([a_volume(), a_volume()], PreprocessingSpec(ZSCORE))


@pytest.mark.parametrize(
    "name", ["spinalcord_mr/t2_sagittal_permuted_axes.nii.gz", "mr_brain_oblique_multichannel/T1.nii.gz"]
)
def test_real_oblique_and_permuted_volumes_come_back(shared, name):
    image = Volume.from_sitk(sitk.ReadImage(str(shared / "data" / name)))
    labels = image.with_array((image.array > np.percentile(image.array, 80)).astype(np.uint8))
    prepared = preprocess([image], PreprocessingSpec(ZSCORE, orientation="RAS", crop="nonzero"))
    back = restore_labels(one_hot(preprocess_labels(labels, prepared), 2), prepared.undo)
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.same_grid(labels, 0.0)
