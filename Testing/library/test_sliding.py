import itertools
import threading

import numpy as np
import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError, ResourceError
from MambaSegmentLib.inference import sliding
from MambaSegmentLib.inference.sliding import SlidingWindow
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.quality import all_mirrorings

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
    window = SlidingWindow([Corner()], 2, (4, 4, 4), device=CPU, mirrorings=all_mirrorings(axes))
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


@pytest.mark.parametrize("batch", [2, 3, 100])
@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_tiles_taken_at_once_answer_as_one_by_one(batch, patch):
    array = an_array((13, 21, 22))
    sizes = []
    network = Scaled()
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    alone = SlidingWindow([Scaled()], 2, patch, device=CPU, mirrorings=((), (1,))).scores(array)
    window = SlidingWindow([network], 2, patch, device=CPU, mirrorings=((), (1,)), batch=batch, stacked=True)
    np.testing.assert_array_equal(window.scores(array), alone)
    assert max(sizes) == min(batch, 25 if len(patch) == 3 else 100)  # 5 by 5 tiles of a row, or of several slices


@pytest.mark.parametrize("batch", [2, 3, 100])
@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_answers_computed_side_by_side_are_the_same_bits(batch, patch):
    array, networks = an_array((13, 21, 22)), [Everything(), Scaled(2.0)]
    alone = SlidingWindow(networks, 2, patch, device=CPU, step=0.8, mirrorings=((), (1,))).scores(array)
    window = SlidingWindow(networks, 2, patch, device=CPU, step=0.8, mirrorings=((), (1,)), batch=batch)
    np.testing.assert_array_equal(window.scores(array), alone)


class Meeting(nn.Module):
    """Answers only once another answer is under way; notes the threads that PyTorch has for it."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.threads = threading.Barrier(2, timeout=30), set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.both.wait()
        self.threads.add(torch.get_num_threads())
        assert torch.is_inference_mode_enabled()
        return Scaled()(x)


@pytest.mark.parametrize(
    ("patch", "mirrorings"),
    [
        ((8, 8, 8), ((),)),  # two tiles beside each other
        ((8, 8, 16), ((), (0,))),  # two members of one tile
        ((8, 16), ((),)),  # two slices
    ],
)
def test_two_answers_are_under_way_at_once_and_divide_the_threads(patch, mirrorings):
    before, network = torch.get_num_threads(), Meeting()
    torch.set_num_threads(4)
    try:
        SlidingWindow([network], 2, patch, device=CPU, step=1.0, mirrorings=mirrorings, batch=2).scores(
            an_array((8, 8, 16))
        )
        assert network.threads == {2}
        assert torch.get_num_threads() == 4
        fresh = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [4]
    finally:
        torch.set_num_threads(before)


def test_an_error_in_one_of_several_answers_is_told_and_ends_all():
    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("a bug")

    window = SlidingWindow([Failing()], 2, (8, 8, 8), device=CPU, batch=3)
    with pytest.raises(RuntimeError, match="a bug"):
        window.scores(an_array((8, 8, 40)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mambasegment-tile")]


def test_a_cancelled_run_ends_all_answers_under_way():
    token = CancelToken()

    class Cancelling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Scaled()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            token.cancel()
            return self.inner(x)  # the token is looked at before it

    window = SlidingWindow([Cancelling()], 2, (8, 8, 8), device=CPU, batch=3)
    with pytest.raises(Cancelled):
        window.scores(an_array((8, 8, 40)), cancel=token)


class Everything(nn.Module):
    """Mixes the whole tile with noise that is always the same, so that any difference of tiles shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0))
        return Scaled()((x * noise).cumsum(-1) + x.mean(dim=tuple(range(1, x.dim())), keepdim=True))


@pytest.mark.parametrize("batch", [1, 4])
def test_uniform_tiles_are_computed_once_and_exactly_so(batch, monkeypatch):
    """Air on one side, at two values; the answers are bit for bit those of computing every tile."""
    array = an_array((8, 16, 40))
    array[..., :16] = -1.0
    array[..., 28:] = -2.0
    window = SlidingWindow([Everything()], 2, (8, 8, 8), device=CPU, batch=batch)
    quick = window.scores(array)
    assert window.tiles == 3 * 9
    assert window.reused_tiles == 3 * (2 + 1)  # each row of tiles begins with 3 at -1 and ends with 2 at -2
    monkeypatch.setattr(sliding, "_uniform_value", lambda tile: None)
    every = SlidingWindow([Everything()], 2, (8, 8, 8), device=CPU, batch=batch).scores(array)
    assert every.tobytes() == quick.tobytes()


def test_a_tile_with_one_other_voxel_is_no_uniform_one():
    array = np.zeros((1, 4, 4, 12), np.float32)
    array[0, 1, 2, 1] = -0.0  # another bit pattern counts as another value
    window = SlidingWindow([Scaled()], 2, (4, 4, 4), device=CPU, step=1.0)
    window.scores(array)
    assert (window.tiles, window.reused_tiles) == (3, 1)


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
