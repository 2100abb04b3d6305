"""The batch of a step depends on the configuration and the step's number, and on nothing else."""

import itertools
from contextlib import closing

import numpy as np
import pytest
import torch
from mambasegment_training.data import CaseStore
from mambasegment_training.sampler import Sampler, batches

PATCH = (16, 16, 16)


@pytest.fixture
def a_sampler(prepared, tiny_config):
    def make(**changes) -> Sampler:
        config = tiny_config(**({"data": {"batch_size": 2}} | changes))
        return Sampler(CaseStore(prepared.folder / "cases", prepared.split.train, 2**30), config, PATCH)

    return make


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_shapes_and_types(a_sampler):
    images, labels = a_sampler().batch(0)
    assert (images.shape, images.dtype) == ((2, 1, *PATCH), torch.float32)
    assert (labels.shape, labels.dtype) == ((2, 1, *PATCH), torch.int64)


def test_slices_are_those_of_the_case(prepared, tiny_config):
    """Without changes each is a slice across K, padded as in prediction: 14 x 10 voxels in the middle of 16 x 16."""
    store = CaseStore(prepared.folder / "cases", prepared.split.train, 2**30)
    config = tiny_config(augment={"enabled": False}, data={"batch_size": 4})
    images, labels = Sampler(store, config, (16, 16)).batch(0)
    assert (images.shape, labels.shape) == ((4, 1, 16, 16), (4, 1, 16, 16))
    slices = [
        (np.pad(image, ((1, 1), (3, 3))), np.pad(truth, ((1, 1), (3, 3))))
        for case in map(store.__getitem__, store.identifiers)
        for image, truth in zip(case.image[0], case.labels, strict=True)
    ]
    for image, truth in zip(images[:, 0].numpy(), labels[:, 0].numpy(), strict=True):
        assert any(np.array_equal(image, one) and np.array_equal(truth, other) for one, other in slices)
    assert (labels.flatten(1).amax(1) > 0).any()  # half of them are drawn to hold a label


def test_a_step_has_its_batch_in_whatever_order_it_is_asked_for(a_sampler):
    forwards = [a_sampler().batch(step) for step in range(6)]
    sampler = a_sampler()
    np.random.seed(99)  # the state of the process has no part in it
    torch.manual_seed(99)
    for step in (5, 2, 0, 4):
        assert equal(sampler.batch(step), forwards[step])


def test_steps_seeds_and_epochs_differ(a_sampler):
    batches_of = [a_sampler().batch(0), a_sampler().batch(1), a_sampler(seed=1).batch(0)]
    for one, other in itertools.combinations(batches_of, 2):
        assert not torch.equal(one[0], other[0])


def test_the_same_case_is_changed_anew_in_each_round(a_sampler):
    # four cases and two a step: steps 0 and 1 show each of them once, steps 2 and 3 again
    sampler = a_sampler()
    samples = [image for step in range(4) for image in sampler.batch(step)[0]]
    assert len({tuple(image.flatten().tolist()) for image in samples}) == 8


def test_without_augmentation_only_the_place_of_the_patch_is_drawn(a_sampler, prepared):
    sampler = a_sampler(augment={"enabled": False})
    stored = [np.load(prepared.folder / "cases" / f"{name}.image.npy").sum() for name in prepared.split.train]
    images = [image for step in range(2) for image in sampler.batch(step)[0]]  # the cases are smaller than the patch
    assert sorted(float(image.double().sum()) for image in images) == pytest.approx(
        sorted(map(float, stored)), abs=1e-2
    )


@pytest.mark.parametrize("in_background", [True, False])
def test_a_feed_goes_on_from_any_step(a_sampler, in_background):
    expected = [a_sampler().batch(step) for step in (3, 4, 5)]  # before: two threads must not augment at once
    with closing(batches(a_sampler(), 3, in_background=in_background)) as feed:
        assert all(equal(next(feed), batch) for batch in expected)


def test_an_error_in_the_background_reaches_the_loop(a_sampler, monkeypatch):
    sampler = a_sampler()

    def fail(step: int):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(sampler, "batch", fail)
    with closing(batches(sampler, 0, in_background=True)) as feed, pytest.raises(RuntimeError, match="on purpose"):
        next(feed)
