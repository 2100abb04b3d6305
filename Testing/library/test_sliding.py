import itertools

import numpy as np
import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError, ResourceError
from MambaSegmentLib.inference import sliding
from MambaSegmentLib.inference.sliding import SlidingWindow

CPU = torch.device("cpu")


class Scaled(nn.Module):
    """Voxel by voxel: class 0 scores 0, class 1 a multiple of the image."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), self.factor * x], dim=1)


class MeanOfTile(nn.Module):
    """Answers a constant per tile, the tile's own mean, so that blending shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Scaled()(x.mean().expand(x.shape))


class Corner(nn.Module):
    """Marks where the first voxel of the tile is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        marked = torch.zeros_like(x)
        marked[(..., *[0] * (x.ndim - 2))] = 8.0
        return Scaled()(marked)


def an_array(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, *shape), dtype=np.float32)


@pytest.mark.parametrize("shape", [(8, 8, 8), (20, 8, 13), (3, 30, 5), (1, 1, 1)])
@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
def test_what_is_right_in_every_tile_is_right_in_the_whole(shape, step):
    array = an_array(shape)
    scores = SlidingWindow([Scaled()], 2, (8, 8, 8), device=CPU, step=step).scores(array)
    np.testing.assert_allclose(scores[1], array[0], rtol=1e-5, atol=1e-6)
    assert scores.shape == (2, *shape)
    assert scores.dtype == np.float32


def test_the_middle_of_a_tile_weighs_more():
    array = np.zeros((1, 1, 1, 12), np.float32)
    array[..., 6:] = 1  # two tiles of 8 at 0 and 4: means 0.25 and 0.75
    scores = SlidingWindow([MeanOfTile()], 2, (1, 1, 8), device=CPU).scores(array)[1, 0, 0]
    voxel = np.arange(12)
    first, second = np.exp(-0.5 * (voxel - 4.0) ** 2), np.exp(-0.5 * (voxel - 8.0) ** 2)
    blended = (0.25 * first + 0.75 * second) / (first + second)
    expected = np.select([voxel < 4, voxel >= 8], [0.25, 0.75], blended)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_a_slicewise_network_sees_each_slice_once():
    seen = []
    network = Scaled()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    array = an_array((5, 8, 8))
    scores = SlidingWindow([network], 2, (8, 8), device=CPU).scores(array)
    assert seen == [(1, 1, 8, 8)] * 5
    np.testing.assert_allclose(scores[1], array[0], rtol=1e-5)


def test_folds_are_averaged():
    array = an_array((4, 4, 4))
    scores = SlidingWindow([Scaled(1.0), Scaled(3.0)], 2, (4, 4, 4), device=CPU).scores(array)
    np.testing.assert_allclose(scores[1], 2 * array[0], rtol=1e-6)


@pytest.mark.parametrize("axes", [(), (1,), (0, 2), (0, 1, 2)])
def test_mirroring_flips_there_and_back(axes):
    window = SlidingWindow([Corner()], 2, (4, 4, 4), device=CPU, mirror_axes=axes)
    scores = window.scores(np.ones((1, 4, 4, 4), np.float32))[1]
    expected = np.zeros((4, 4, 4))
    for corner in itertools.product(*((0, 3) if axis in axes else (0,) for axis in range(3))):
        expected[corner] = 8 / 2 ** len(axes)
    np.testing.assert_array_equal(scores, expected)


def test_small_volumes_lie_in_the_middle_of_zeros():
    seen = []
    network = Scaled()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    SlidingWindow([network], 2, (4, 4, 5), device=CPU).scores(np.ones((1, 1, 4, 3), np.float32))
    expected = torch.zeros(1, 1, 4, 4, 5)
    expected[0, 0, 1, :, 1:4] = 1
    torch.testing.assert_close(seen[0], expected)


def test_the_same_input_gives_the_same_bytes():
    window = SlidingWindow([Scaled()], 2, (8, 8, 8), device=CPU)
    array = an_array((20, 21, 22))
    assert window.scores(array).tobytes() == window.scores(array).tobytes()


def test_an_input_is_never_changed():
    array = an_array((8, 8, 8))
    before = array.copy()
    SlidingWindow([Scaled()], 2, (8, 8, 8), device=CPU).scores(array)
    np.testing.assert_array_equal(array, before)


def test_scores_that_cannot_fit_into_memory(monkeypatch):
    class Little:
        available = 1000

    monkeypatch.setattr(sliding.psutil, "virtual_memory", Little)
    with pytest.raises(ResourceError, match="GB are free"):
        SlidingWindow([Scaled()], 2, (8, 8, 8), device=CPU).scores(an_array((8, 8, 8)))


def test_answers_of_another_shape_or_without_numbers():
    with pytest.raises(BundleError, match="put together wrongly"):
        SlidingWindow([Scaled()], 3, (8, 8, 8), device=CPU).scores(an_array((8, 8, 8)))
    with pytest.raises(BundleError, match="NaN"):
        SlidingWindow([Scaled(float("nan"))], 2, (8, 8, 8), device=CPU).scores(an_array((8, 8, 8)))


@pytest.mark.parametrize("step", [0, -0.5, 1.1])
def test_steps_out_of_range(step):
    with pytest.raises(ConfigError, match="step"):
        SlidingWindow([Scaled()], 2, (8, 8, 8), device=CPU, step=step)
