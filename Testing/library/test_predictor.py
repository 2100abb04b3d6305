import numpy as np
import pytest
import torch

from MambaSegmentLib.bundle import Channel
from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError, ResourceError, ShapeError
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.manifest import Region
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
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


def test_deep_supervision_gives_its_largest_output(a_tiny_bundle):
    volume = a_volume()
    options = {"classes": 3, "deep_supervision": True}
    result = Predictor(a_tiny_bundle(architecture_options=options), "cpu").segment([volume])
    np.testing.assert_array_equal(result.labels.array, expected_labels(volume.array))


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


def test_progress_counts_tiles_and_estimates(a_tiny_bundle):
    reports = []
    Predictor(a_tiny_bundle(), "cpu").segment([a_volume((16, 8, 8))], progress=reports.append)
    assert [(r.stage, r.done, r.total) for r in reports] == [
        ("preprocess", 0, 1), ("preprocess", 1, 1),
        ("network", 0, 3), ("network", 1, 3), ("network", 2, 3), ("network", 3, 3),
        ("restore", 1, 1),  # slab by slab, between the tiles
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


def test_regions_are_painted_one_over_the_other(a_tiny_bundle):
    """Logits of the tiny network: 0, x - 0.5 and 2 x - 2; a region is where its logit exceeds 0."""
    regions = (Region("never", (7,), 1), Region("whole", (1, 5), 1), Region("core", (5,), 5))
    predictor = Predictor(a_tiny_bundle(regions=regions), "cpu")
    image = Volume(np.array([0.0, 0.4, 0.6, 0.9, 1.1, 3.0], np.float32).reshape(1, 1, 6))
    assert predictor.segment([image]).labels.array.ravel().tolist() == [0, 0, 1, 1, 5, 5]


def test_wrong_channels_name_the_right_ones(a_tiny_bundle):
    with pytest.raises(ConfigError, match=r"1 image\(s\) \(T1"):
        Predictor(a_tiny_bundle(), "cpu").segment([a_volume(), a_volume()])


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
