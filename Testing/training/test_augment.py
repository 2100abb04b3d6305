"""Random changes: seeded, of the right size, and never inventing a label."""

import random

import numpy as np
import pytest
import torch
from mambasegment_training.augment import Augmentation, seeded
from mambasegment_training.config import AugmentConfig

PATCH = (12, 10, 8)
ALWAYS = {
    "rotation_probability": 1.0,
    "scaling_probability": 1.0,
    "elastic_probability": 1.0,
    "noise_probability": 1.0,
    "blur_probability": 1.0,
    "brightness_probability": 1.0,
    "contrast_probability": 1.0,
    "low_resolution_probability": 1.0,
    "gamma_probability": 1.0,
    "inverted_gamma_probability": 1.0,
    "mirror_axes": (0, 1, 2),
}
NEVER = {name: 0.0 for name in ALWAYS if name.endswith("_probability")}


def a_sample(size: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, *size)).astype(np.float32), rng.choice([0, 1, 2, 7], size=size).astype(np.int16)


def augmented(config: AugmentConfig, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    augmentation = Augmentation(config, PATCH)
    return augmentation(*a_sample(augmentation.source_size), np.random.SeedSequence(seed))


def test_size_type_and_labels():
    config = AugmentConfig(**ALWAYS)
    for seed in range(5):
        image, labels = augmented(config, seed)
        assert (image.shape, image.dtype) == ((1, *PATCH), torch.float32)
        assert (labels.shape, labels.dtype) == ((1, *PATCH), torch.int16)
        assert set(labels.unique().tolist()) <= {0, 1, 2, 7}  # never 3, between 0 and 7
        assert torch.isfinite(image).all()


def test_slices_are_turned_within_their_plane():
    config = AugmentConfig(**(ALWAYS | {"mirror_axes": (0, 1)}))
    augmentation = Augmentation(config, (12, 10))
    assert len(augmentation.source_size) == 2
    assert all(edge > size for edge, size in zip(augmentation.source_size, (12, 10), strict=True))
    for seed in range(5):
        image, labels = augmentation(*a_sample(augmentation.source_size), np.random.SeedSequence(seed))
        assert (image.shape, labels.shape) == ((1, 12, 10), (1, 12, 10))
        assert set(labels.unique().tolist()) <= {0, 1, 2, 7}
        assert torch.isfinite(image).all()


def test_the_same_seed_gives_the_same_sample():
    config = AugmentConfig(**ALWAYS)
    (image, labels), (image_again, labels_again) = augmented(config, 1), augmented(config, 1)
    assert torch.equal(image, image_again)
    assert torch.equal(labels, labels_again)
    other, _ = augmented(config, 2)
    assert not torch.equal(image, other)


def test_the_generators_go_on_as_if_nothing_had_happened():
    states = []
    for used in (False, True):
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        if used:
            augmented(AugmentConfig(**ALWAYS), 1)
        states.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert states[0] == states[1]


def test_they_come_back_after_an_error_too():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with pytest.raises(RuntimeError, match="on purpose"), seeded(np.random.SeedSequence(1)):
        raise RuntimeError("on purpose")
    assert torch.equal(torch.rand(1), expected)


def test_switched_off_changes_nothing():
    augmentation = Augmentation(AugmentConfig(enabled=False), PATCH)
    assert augmentation.source_size == PATCH
    image, labels = a_sample(PATCH)
    changed, changed_labels = augmentation(image, labels, np.random.SeedSequence(1))
    np.testing.assert_array_equal(changed.numpy(), image)
    np.testing.assert_array_equal(changed_labels.numpy()[0], labels)


def test_with_all_probabilities_zero_the_middle_is_kept():
    augmentation = Augmentation(AugmentConfig(**NEVER), PATCH)
    image, labels = a_sample(PATCH)
    changed, changed_labels = augmentation(image, labels, np.random.SeedSequence(1))
    np.testing.assert_array_equal(changed.numpy(), image)
    np.testing.assert_array_equal(changed_labels.numpy()[0], labels)


def test_image_and_labels_are_mirrored_alike_along_the_given_axes_alone():
    augmentation = Augmentation(AugmentConfig(**NEVER, mirror_axes=(2,)), PATCH)
    image, labels = a_sample(PATCH)
    seen = set()
    for seed in range(20):
        changed, changed_labels = augmentation(image, labels, np.random.SeedSequence(seed))
        mirrored = not np.array_equal(changed.numpy(), image)
        seen.add(mirrored)
        np.testing.assert_array_equal(changed.numpy(), image[..., ::-1] if mirrored else image)
        np.testing.assert_array_equal(changed_labels.numpy()[0], labels[..., ::-1] if mirrored else labels)
    assert seen == {True, False}


def test_a_turned_patch_is_filled_from_its_surroundings():
    # at 90 degrees a face's corners pass sqrt(12² + 10²) / 2 from the middle, and scaling reaches 1.5 times further
    both = NEVER | {"rotation_probability": 1.0, "scaling_probability": 1.0}
    config = AugmentConfig(**both, rotation_degrees=90.0, scaling=(1.0, 1.5))
    assert Augmentation(config, PATCH).source_size[0] == pytest.approx(np.hypot(12, 10) * 1.5, abs=1)
    augmentation = Augmentation(AugmentConfig(**(NEVER | {"rotation_probability": 1.0})), PATCH)
    ones = np.ones((1, *augmentation.source_size), np.float32)
    labels = np.ones(augmentation.source_size, np.int16)
    for seed in range(10):
        image, _ = augmentation(ones, labels, np.random.SeedSequence(seed))
        assert (image > 0.5).float().mean() > 0.97


def test_rotations_stay_within_the_limit():
    # a bar along K must stay closer to K than 10 degrees per axis can turn it
    augmentation = Augmentation(
        AugmentConfig(**(NEVER | {"rotation_probability": 1.0}), rotation_degrees=10.0), (31, 31, 31)
    )
    size = augmentation.source_size
    labels = np.zeros(size, np.int16)
    labels[:, size[1] // 2 - 1 : size[1] // 2 + 2, size[2] // 2 - 1 : size[2] // 2 + 2] = 1
    for seed in range(10):
        _, turned = augmentation(labels[None].astype(np.float32), labels, np.random.SeedSequence(seed))
        places = np.argwhere(turned.numpy()[0] == 1).astype(float)
        axis = np.linalg.svd(places - places.mean(0), full_matrices=False)[2][0]
        assert abs(axis[0]) > np.cos(np.deg2rad(25))
