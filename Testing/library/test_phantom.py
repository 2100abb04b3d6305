"""The drawn hippocampus: repeatable, of credible size, place and contrast, and like the real ones that we have."""

import numpy as np
import pytest
from scipy import ndimage

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.orientation import orientation_of
from MambaSegmentLib.phantom import ANTERIOR, POSTERIOR, SHAPE_KJI, Phantom, hippocampus_phantom
from MambaSegmentLib.review.measure import volumes_ml


@pytest.fixture(scope="module", params=[0, 1, 7])
def a_phantom(request) -> Phantom:
    return hippocampus_phantom(request.param)


def standardised(array: np.ndarray) -> np.ndarray:
    return (array - array.mean()) / array.std()


def test_a_seed_gives_one_phantom():
    first, again, other = (hippocampus_phantom(seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    np.testing.assert_array_equal(first.truth.array, again.truth.array)
    assert np.count_nonzero(first.truth.array != other.truth.array) > 100


def test_image_and_truth_share_a_grid_of_1_mm(a_phantom):
    image, truth = a_phantom.image, a_phantom.truth
    assert image.same_grid(truth)
    assert image.array.shape == SHAPE_KJI
    assert (image.array.dtype, truth.array.dtype) == (np.float32, np.uint8)
    assert image.spacing_mm == (1, 1, 1)
    assert orientation_of(image.direction) == "RAS"


def test_the_size_is_that_of_a_human_hippocampus(a_phantom):
    volumes = volumes_ml(a_phantom.truth.array, a_phantom.truth.spacing_mm)
    assert set(volumes) == {ANTERIOR, POSTERIOR}
    assert all(1.0 < volume < 2.5 for volume in volumes.values())


def test_it_is_one_piece_inside_the_volume(a_phantom):
    mask = a_phantom.truth.array > 0
    sizes = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    assert sizes.max() / sizes.sum() > 0.99
    edges = mask.copy()
    edges[1:-1, 1:-1, 1:-1] = False
    assert not edges.any()


def test_the_head_lies_in_front_of_and_below_the_body(a_phantom):
    head, body = (np.argwhere(a_phantom.truth.array == value) for value in (ANTERIOR, POSTERIOR))
    assert head[:, 1].min() > body[:, 1].max()  # J runs to anterior; parted in a coronal plane
    assert head[:, 0].mean() < body[:, 0].mean() - 3  # K runs to superior


def test_gray_matter_lies_on_white_matter(a_phantom):
    brightness, truth = standardised(a_phantom.image.array), a_phantom.truth.array
    for value in (ANTERIOR, POSTERIOR):
        assert -0.9 < brightness[truth == value].mean() < -0.3
    body = truth == POSTERIOR
    below = np.roll(body, -3, axis=0) & ~np.roll(body, -1, axis=0) & ~(truth > 0)
    assert brightness[below].mean() > 0.3


def test_noise_can_be_turned_off_and_up():
    clean, noisy = (hippocampus_phantom(0, noise=noise, bias=0).image.array for noise in (0, 0.5))
    difference = noisy - clean
    assert difference.std() == pytest.approx(0.5 * 220, rel=0.1)
    assert noisy.min() >= 0


@pytest.mark.parametrize("options", [{"seed": -1}, {"noise": -0.1}, {"bias": -0.1}, {"bias": 1}])
def test_arguments_without_sense_are_refused(options):
    with pytest.raises(ConfigError):
        hippocampus_phantom(**options)


def measured(image: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Numbers by which a phantom and a real case can be compared."""
    brightness = standardised(image.astype(np.float64))
    numbers = {"dark": np.percentile(brightness, 1), "bright": np.percentile(brightness, 99)}
    for name, value in (("head", ANTERIOR), ("body", POSTERIOR)):
        places = np.argwhere(labels == value)
        numbers |= {f"{name} voxels": len(places), f"{name} brightness": brightness[labels == value].mean()}
        numbers |= {f"{name} {axis}": place for axis, place in zip("kji", places.mean(axis=0), strict=True)}
    return numbers


def test_its_numbers_lie_among_those_of_real_cases(shared):
    folder = shared / "data" / "hippocampus_mr"
    real = []
    for path in sorted((folder / "images").glob("*.nii.gz")):
        real.append(measured(read_volume(path).array, read_volume(folder / "labels" / path.name).array))
    assert len(real) == 50
    phantom = hippocampus_phantom(0)
    for name, value in measured(phantom.image.array, phantom.truth.array).items():
        values = [numbers[name] for numbers in real]
        assert min(values) - 0.1 <= value <= max(values) + 0.1, name
