"""Whole volumes are segmented in training as the exported model will segment them."""

import numpy as np
import pytest
import torch
from mambasegment_training.data import CaseStore
from mambasegment_training.validate import lowest_per_label, mean_per_label, overall, predict_labels, validate
from torch import nn

from MambaSegmentLib.inference.sliding import SlidingWindow

CPU = torch.device("cpu")
PATCH = (8, 8, 8)


class Threshold(nn.Module):
    """Class 1 where the voxel is above 0, and notes the sizes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(x.shape[2:]))
        return torch.cat([torch.zeros_like(x), x, torch.full_like(x, -9.0)], 1)


class Place(nn.Module):
    """Class 1 scores higher towards the far end of the patch: tiles disagree, so that blending shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, x.shape[-1]).expand_as(x)
        return torch.cat([torch.zeros_like(x), ramp + 0.1 * x], 1)


@pytest.mark.parametrize("shape", [(5, 6, 7), (8, 8, 8), (9, 16, 20), (3, 30, 8)])
def test_any_size_is_padded_and_tiled_to_the_patch(shape):
    network = Threshold().eval()
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    labels = predict_labels(network, image, PATCH, CPU, 3)
    np.testing.assert_array_equal(labels, image[0] > 0)
    assert labels.dtype == np.uint8
    assert set(network.sizes) == {PATCH}


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_the_same_tiles_and_weights_as_in_prediction(step):
    image = np.random.default_rng(0).normal(size=(1, 6, 11, 21)).astype(np.float32)
    scores = SlidingWindow([Place()], 2, PATCH, device=CPU, step=step).scores(image)
    np.testing.assert_array_equal(predict_labels(Place(), image, PATCH, CPU, 2, step), scores.argmax(0))


def test_the_step_of_the_tiles_matters():
    image = np.zeros((1, 8, 8, 20), np.float32)
    one, other = (predict_labels(Place(), image, PATCH, CPU, 2, step) for step in (0.5, 1.0))
    assert (one != other).any()


@pytest.fixture
def a_store(tmp_path):
    """One case whose image tells the labels, but for one ignored (9) and one wrong voxel."""
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0] = 1
    image = np.where(labels == 1, 1.0, -1.0).astype(np.float32)
    image[3, 3, 3] = 1.0  # a false positive ...
    image[2, 2, 2], labels[2, 2, 2] = 1.0, 9  # ... and one that nobody knows about
    for kind, array in (("image", image[None]), ("labels", labels), ("foreground", np.empty((0, 4), np.int32))):
        np.save(tmp_path / f"a.{kind}.npy", array)
    return CaseStore(tmp_path, ("a",), 2**30)


def test_dice_by_hand_without_the_ignored_voxels(a_store):
    network = Threshold()
    network.train()
    scores = validate(network, a_store, [1, 2], PATCH, CPU, ignore_label=9)
    assert scores == {"a": {1: pytest.approx(2 * 16 / (16 + 17)), 2: None}}
    assert network.training  # as it was before


def test_means_leave_out_what_does_not_exist():
    scores = {"a": {1: 0.5, 2: None}, "b": {1: 1.0, 2: None}, "c": {1: None, 2: None}}
    assert mean_per_label(scores) == {1: 0.75, 2: None}
    assert lowest_per_label(scores) == {1: 0.5, 2: None}
    assert overall({1: 0.75, 2: None}) == 0.75
    assert overall({1: 0.5, 2: 1.0}) == 0.75
    assert overall({1: None}) == 0.0
