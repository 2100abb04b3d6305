"""The changes on the device have the distributions of those on the CPU, one kind at a time.

On CPU tensors; what differs on a GPU is the arithmetic alone.
"""

import multiprocessing

import numpy as np
import pytest
import torch
from mambasegment_training.augment import Augmentation
from mambasegment_training.config import AugmentConfig
from mambasegment_training.data import CaseStore
from mambasegment_training.device_augment import DeviceAugmentation
from mambasegment_training.sampler import Sampler, feed

COUNT = 150
KINDS = {
    "rotation": {"rotation_probability": 1.0},
    "scaling": {"scaling_probability": 1.0},
    "elastic": {"elastic_probability": 1.0},
    "noise": {"noise_probability": 1.0},
    "blur": {"blur_probability": 1.0},
    "brightness": {"brightness_probability": 1.0},
    "contrast": {"contrast_probability": 1.0},
    "low_resolution": {"low_resolution_probability": 1.0},
    "gamma": {"gamma_probability": 1.0},
    "inverted_gamma": {"inverted_gamma_probability": 1.0},
    "mirror": {"mirror_axes": [0, 1]},
}
NONE = {name: 0.0 for name in AugmentConfig.__dataclass_fields__ if name.endswith("_probability")}


def a_sample(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipsoid off the middle with a brighter core, on noise."""
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij")
    distance = sum(((x - 0.1) / w) ** 2 for x, w in zip(places, (0.5, 0.35, 0.6), strict=False))
    labels = (distance < 1).astype(np.int16) + (distance < 0.4)
    noise = np.random.default_rng(0).normal(0, 0.1, size)
    return (labels + places[0] * 0.3 + noise).astype(np.float32)[None], labels


def figures(image: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Of brightness, contrast, extremes, sharpness, and of place and size of each label."""
    found = [image.mean(), image.std(), image.amin(), image.amax(), image.diff(dim=-1).abs().mean()]
    found += [image[:, : image.shape[1] // 2].mean(), image[..., : image.shape[-1] // 2].mean()]
    for value in (1, 2):
        found += [(labels == value).float().mean(), (labels[:, : labels.shape[1] // 2] == value).float().mean()]
    return [float(value) for value in found]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [*((kind, (20, 24)) for kind in KINDS), *((kind, (10, 12, 14)) for kind in ("rotation", "elastic", "blur"))],
)
def test_the_same_distributions(kind, patch):
    """Mean and spread of every figure, within what so many samples can differ by chance (4.5 standard errors)."""
    config = AugmentConfig(**{**NONE, **{k: tuple(v) if isinstance(v, list) else v for k, v in KINDS[kind].items()}})
    slow, quick = Augmentation(config, patch), DeviceAugmentation(config, patch)
    image, labels = a_sample(slow.source_size)
    seeds = np.random.SeedSequence(7).spawn(2 * COUNT)
    one = np.array([figures(*slow(image.copy(), labels.copy(), seed)) for seed in seeds[:COUNT]])
    tensors = torch.from_numpy(image), torch.from_numpy(labels)[None]
    other = np.array([figures(*quick(*tensors, seed)) for seed in seeds[COUNT:]])
    assert torch.equal(tensors[0], torch.from_numpy(image))  # the source is left alone
    spread = np.maximum(one.std(0), other.std(0))
    error = spread * np.sqrt(2 / COUNT) + 1e-4
    assert np.all(np.abs(one.mean(0) - other.mean(0)) < 4.5 * error)
    assert np.all(np.abs(one.std(0) - other.std(0)) < 4.5 * error * 1.5)  # heavy tails spread the spread itself
    assert kind == "mirror" or spread.max() > 1e-3


def test_nothing_changed_is_the_middle():
    config = AugmentConfig(**NONE)
    image, labels = a_sample((9, 10, 11))
    slow, quick = Augmentation(config, (5, 6, 7)), DeviceAugmentation(config, (5, 6, 7))
    seed = np.random.SeedSequence(0)
    expected = slow(image.copy(), labels.copy(), seed)
    found = quick(torch.from_numpy(image), torch.from_numpy(labels)[None], seed)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_sampler_hands_over_what_is_changed_later(prepared, tiny_config):
    """Shapes, and the same batch for the same step; without changes it is the batch of the CPU."""
    store = CaseStore(prepared.folder / "cases", prepared.split.train, 2**30)
    cpu = torch.device("cpu")
    for changes in ({}, NONE):
        config = tiny_config(augment={**changes, "on_device": True}, data={"batch_size": 2})
        sampler = Sampler(store, config, (8, 16, 8))
        one, other = (sampler.finished(sampler.batch(3), 3, cpu) for _ in range(2))
        assert (one[0].shape, one[1].shape) == ((2, 1, 8, 16, 8), (2, 1, 8, 16, 8))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    plain = Sampler(store, tiny_config(augment=NONE, data={"batch_size": 2}), (8, 16, 8))
    assert all(torch.equal(a, b) for a, b in zip(one, plain.batch(3), strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_processes_make_the_same_batches(prepared, tiny_config):
    """And end in peace, though they are in the midst of the next batches."""
    store = CaseStore(prepared.folder / "cases", prepared.split.train, 2**30)
    sampler = Sampler(store, tiny_config(data={"batch_size": 2}), (8, 16, 8))
    expected = [sampler.batch(step) for step in (3, 4, 5)]
    batches = feed(sampler, 3, torch.device("cpu"), workers=2)
    for batch in expected:
        assert all(torch.equal(a, b) for a, b in zip(next(batches), batch, strict=True))
    workers = multiprocessing.active_children()
    batches.close()
    assert [worker.exitcode for worker in workers if worker.exitcode is not None] == [0, 0]
