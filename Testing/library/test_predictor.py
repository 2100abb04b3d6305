import itertools

import numpy as np
import pytest
import torch
from torch import nn

import MambaSegmentLib.models
from MambaSegmentLib.bundle import Bundle, Channel
from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError, ResourceError, ShapeError
from MambaSegmentLib.inference import sliding
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import PreprocessingSpec
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume


def a_volume(shape=(8, 8, 8), seed=0, **geometry) -> Volume:
    return Volume(np.random.default_rng(seed).random(shape, dtype=np.float32) * 2, **geometry)


def expected_labels(array: np.ndarray) -> np.ndarray:
    """What TinyNet with weight 1 says, with the label values of the tiny manifest."""
    return np.select([array > 1.5, array > 0.5], [5, 1], 0)


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 5), (1, 1, 2), (8, 9, 8), (30, 17, 11)])
def test_labels_are_the_same_whether_padded_exact_or_tiled(a_tiny_bundle, shape):
    volume = a_volume(shape, spacing_mm=(0.5, 0.7, 3.0), origin_mm=(1.0, 2.0, 3.0))
    result = Predictor(a_tiny_bundle(), "cpu").segment([volume])
    np.testing.assert_array_equal(result.labels.array, expected_labels(volume.array))
    assert result.labels.array.dtype == np.uint8
    assert result.labels.same_grid(volume, 0.0)
    assert [segment.name for segment in result.segments] == ["Anterior", "Posterior"]
    assert set(result.timings) == {"preprocess", "network", "restore"}


def test_blended_logits_are_the_weighted_mean(a_tiny_bundle):
    """A network that works voxel by voxel must come out of the blending as it went in."""
    array = a_volume((20, 8, 13)).array[None]
    scores = Predictor(a_tiny_bundle(), "cpu").scores(array)
    whole = np.stack([n * array[0] - n * n / 2 for n in range(3)])
    np.testing.assert_allclose(scores, whole, rtol=1e-5, atol=1e-5)


class TilePosition(nn.Module):
    """Answers a constant per tile, the tile's own mean, so that blending shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean().expand(x.shape[0], 1, *x.shape[2:])
        return torch.cat([torch.zeros_like(mean), mean, mean], dim=1)


def test_blending_weighs_the_middle_of_a_tile_more(monkeypatch, a_manifest):
    monkeypatch.setattr(MambaSegmentLib.models, "build_model", lambda *_: TilePosition(), raising=False)
    array = np.zeros((1, 1, 1, 12), np.float32)
    array[..., 6:] = 1  # two tiles of 8 at 0 and 4: means 0.25 and 0.75
    bundle = Bundle(a_manifest(patch_size=(1, 1, 8)), ({},))
    scores = Predictor(bundle, "cpu").scores(array)[1, 0, 0]
    first, second = np.exp(-0.5 * (np.arange(12) - 4.0) ** 2), np.exp(-0.5 * (np.arange(12) - 8.0) ** 2)
    expected = np.where(np.arange(12) < 4, 0.25, np.where(np.arange(12) >= 8, 0.75, 0.0))
    both = slice(4, 8)
    expected[both] = ((0.25 * first + 0.75 * second) / (first + second))[both]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_folds_are_averaged(a_tiny_bundle):
    array = a_volume().array[None]
    scores = Predictor(a_tiny_bundle(weights=(1.0, 3.0)), "cpu").scores(array)
    np.testing.assert_allclose(scores[1], 2 * array[0] - 0.5, rtol=1e-5)


def test_deep_supervision_gives_its_largest_output(a_tiny_bundle):
    volume = a_volume()
    options = {"classes": 3, "deep_supervision": True}
    result = Predictor(a_tiny_bundle(architecture_options=options), "cpu").segment([volume])
    np.testing.assert_array_equal(result.labels.array, expected_labels(volume.array))


class Corner(nn.Module):
    """Marks where the first voxel of the tile is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(x.shape[0], 3, *x.shape[2:])
        logits[(..., *[0] * (x.ndim - 2))] = 8.0
        return logits


@pytest.mark.parametrize("axes", [(), (1,), (0, 2), (0, 1, 2)])
def test_mirroring_flips_there_and_back(monkeypatch, a_manifest, axes):
    monkeypatch.setattr(MambaSegmentLib.models, "build_model", lambda *_: Corner(), raising=False)
    predictor = Predictor(Bundle(a_manifest(patch_size=(4, 4, 4), mirror_axes=axes), ({},)), "cpu", mirror=True)
    scores = predictor.scores(np.ones((1, 4, 4, 4), np.float32))[0]
    expected = np.zeros((4, 4, 4))
    for corner in itertools.product(*((0, 3) if axis in axes else (0,) for axis in range(3))):
        expected[corner] = 8 / 2 ** len(axes)
    np.testing.assert_array_equal(scores, expected)


def test_a_slicewise_network_sees_two_dimensions(a_tiny_bundle):
    volume = a_volume((3, 20, 9))
    predictor = Predictor(a_tiny_bundle(patch_size=(8, 12)), "cpu")
    seen = []
    predictor._networks[0].register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    result = predictor.segment([volume])
    assert set(seen) == {(1, 1, 8, 12)}
    np.testing.assert_array_equal(result.labels.array, expected_labels(volume.array))


def test_several_channels_and_a_turned_resampled_grid(a_tiny_bundle):
    """Sum of two channels on a coarser, turned grid; a large block must come back where it was."""
    block = np.zeros((12, 16, 20), np.float32)
    block[4:8, 4:12, 10:16] = 1.0
    geometry = {"spacing_mm": (0.5, 0.5, 0.5), "direction": (0, 0, -1, 1, 0, 0, 0, 1, 0)}
    spec = PreprocessingSpec((Normalization("none"),) * 2, "RAS", spacing_mm=(1.0, 1.0, 1.0), resampling_order=0)
    bundle = a_tiny_bundle(channels=(Channel("T1"), Channel("T2")), preprocessing=spec)
    result = Predictor(bundle, "cpu").segment([Volume(block, **geometry), Volume(block, **geometry)])
    np.testing.assert_array_equal(result.labels.array, np.where(block > 0, 5, 0))


def test_the_same_input_gives_the_same_bytes(a_tiny_bundle):
    predictor = Predictor(a_tiny_bundle(), "cpu")
    array = a_volume((20, 21, 22)).array[None]
    assert predictor.scores(array).tobytes() == predictor.scores(array).tobytes()


def test_progress_counts_tiles_and_estimates(a_tiny_bundle):
    reports = []
    Predictor(a_tiny_bundle(), "cpu").segment([a_volume((16, 8, 8))], progress=reports.append)
    assert [(r.stage, r.done, r.total) for r in reports] == [
        ("preprocess", 0, 1), ("preprocess", 1, 1),
        ("network", 0, 3), ("network", 1, 3), ("network", 2, 3), ("network", 3, 3),
        ("restore", 0, 1), ("restore", 1, 1),
    ]  # fmt: skip
    network = [r.seconds_left for r in reports if r.stage == "network"]
    assert network[0] is None
    assert network[1] > 0
    assert network[-1] == 0


def test_cancelled_after_the_first_tile(a_tiny_bundle):
    token, seen = CancelToken(), []

    def watch(report):
        seen.append(report)
        if report.stage == "network" and report.done == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        Predictor(a_tiny_bundle(), "cpu").segment([a_volume((32, 8, 8))], progress=watch, cancel=token)
    assert seen[-1].done == 1


def test_cancelled_between_layers_and_ready_for_the_next_case(a_tiny_bundle):
    token = CancelToken()
    predictor = Predictor(a_tiny_bundle(), "cpu")
    handle = predictor._networks[0].register_forward_pre_hook(lambda *_: token.cancel())
    with pytest.raises(Cancelled):
        predictor.segment([a_volume()], cancel=token)
    handle.remove()
    predictor.segment([a_volume()], cancel=CancelToken())


def test_a_network_that_does_not_fit_its_description(a_tiny_bundle):
    with pytest.raises(BundleError, match="put together wrongly"):
        Predictor(a_tiny_bundle(segments=(SegmentInfo(1, "Only one", (1.0, 0.0, 0.0)),)), "cpu").segment([a_volume()])


def test_a_network_that_answers_nan(a_tiny_bundle):
    with pytest.raises(BundleError, match="NaN"):
        Predictor(a_tiny_bundle(weights=(float("nan"),)), "cpu").segment([a_volume()])


def test_regions_are_refused_rather_than_misread(a_tiny_bundle):
    with pytest.raises(BundleError, match="regions"):
        Predictor(a_tiny_bundle(regions=[[1, 2], [2]]), "cpu")


def test_wrong_channels_name_the_right_ones(a_tiny_bundle):
    with pytest.raises(ConfigError, match=r"1 image\(s\) \(T1"):
        Predictor(a_tiny_bundle(), "cpu").segment([a_volume(), a_volume()])


def test_a_volume_that_cannot_fit_into_memory(a_tiny_bundle, monkeypatch):
    class Little:
        available = 1000

    monkeypatch.setattr(sliding.psutil, "virtual_memory", Little)
    with pytest.raises(ResourceError, match="GB are free"):
        Predictor(a_tiny_bundle(), "cpu").segment([a_volume()])


@pytest.mark.parametrize(
    "problem", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("you can't allocate memory")]
)
def test_running_out_of_memory_is_a_resource_error(a_tiny_bundle, problem):
    predictor = Predictor(a_tiny_bundle(), "cpu")

    def fail(*_):
        raise problem

    predictor._networks[0].register_forward_pre_hook(fail)
    with pytest.raises(ResourceError, match="not enough memory"):
        predictor.segment([a_volume()])


def test_other_failures_of_the_network_are_not_dressed_up(a_tiny_bundle):
    predictor = Predictor(a_tiny_bundle(), "cpu")
    for problem in (RuntimeError("a bug"), ShapeError("must be a multiple of 8")):

        def fail(*_, problem=problem):
            raise problem

        handle = predictor._networks[0].register_forward_pre_hook(fail)
        with pytest.raises(type(problem), match=str(problem)):
            predictor.segment([a_volume()])
        handle.remove()


@pytest.mark.parametrize("step", [0, -1, 1.01])
def test_steps_out_of_range(a_tiny_bundle, step):
    with pytest.raises(ConfigError, match="step"):
        Predictor(a_tiny_bundle(), "cpu", step=step)
