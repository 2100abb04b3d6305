"""Stepping back where memory lacks. The failures are injected: a hook raises what an allocator would raise."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from MambaSegmentLib.bundle import Bundle, Channel
from MambaSegmentLib.errors import ConfigError, ResourceError
from MambaSegmentLib.inference import predictor as predictor_file
from MambaSegmentLib.inference.memory_plan import MemoryPlan, Settings, measured_tiles
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.inference.sliding import SlidingWindow
from MambaSegmentLib.memory import bytes_from_text
from MambaSegmentLib.models import build_model
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import PreparedRows
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.volume import Volume

NETWORK = {"spatial_dims": 3, "in_channels": 1, "num_classes": 3, "init_filters": 8}
PATCH = (32, 32, 16)
SPEC = PreprocessingSpec((Normalization("none"),))
INJECTED = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.fixture
def a_bundle(a_manifest) -> Bundle:
    """A real network, which takes tiles of several sizes."""
    torch.manual_seed(0)
    network = build_model("lightm_unet", NETWORK)
    manifest = a_manifest(architecture_name="lightm_unet", architecture_options=NETWORK, patch_size=PATCH)
    return Bundle(manifest, (network.state_dict(),))


@pytest.fixture
def a_volume() -> Volume:
    return Volume(np.random.default_rng(0).standard_normal((32, 32, 24), dtype=np.float32))


def fail_when(predictor: Predictor, wrong, problem: BaseException) -> list[tuple[int, ...]]:
    """Injects an allocation that fails for inputs of some shapes; returns the shapes that were tried."""
    tried = []

    def allocate(_, inputs):
        tried.append(tuple(inputs[0].shape))
        if wrong(inputs[0].shape):
            raise problem

    predictor._networks[0].register_forward_pre_hook(allocate)
    return tried


@pytest.mark.parametrize("problem", INJECTED, ids=lambda problem: type(problem).__name__)
def test_an_injected_failure_makes_tiles_smaller_and_is_told(problem, a_bundle, a_volume, caplog):
    predictor = Predictor(a_bundle, "cpu", batch=1)
    tried = fail_when(predictor, lambda shape: math.prod(shape[2:]) > 16**3 * 2, problem)
    with caplog.at_level(logging.WARNING):
        result = predictor.segment([a_volume])
    assert tried[0] == (1, 1, *PATCH)
    assert set(tried[1:]) == {(1, 1, 16, 32, 16)}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "not enough memory (" in warning
    assert "tiles of 16 × 32 × 16 voxels are computed instead of the model's 16 × 32 × 32; the labels may" in warning
    window = SlidingWindow(predictor._networks, 3, (16, 32, 16), device=torch.device("cpu"))
    expected = np.array([0, 1, 5])[window.scores(a_volume.array[None]).argmax(0)]
    np.testing.assert_array_equal(result.labels.array, expected)


def test_after_an_injected_failure_in_the_middle_the_work_starts_anew(a_bundle, a_volume, caplog):
    predictor, calls = Predictor(a_bundle, "cpu", batch=2), []
    expected = Predictor(a_bundle, "cpu", batch=1).segment([a_volume]).labels.array

    def allocate(_, inputs):
        calls.append(len(inputs[0]))
        if len(calls) == 3:  # the first pair of tiles went well
            raise MemoryError

    predictor._networks[0].register_forward_pre_hook(allocate)
    tall = Volume(np.concatenate([a_volume.array, a_volume.array]))
    result = predictor.segment([tall])
    assert calls[4:] == [1] * 6
    assert ["1 instead of 2 tiles are computed at once" in record.getMessage() for record in caplog.records] == [True]
    np.testing.assert_array_equal(result.labels.array[:16], expected[:16])


def test_when_nothing_helps_against_injected_failures_the_figure_is_told(a_bundle, a_volume):
    predictor = Predictor(a_bundle, "cpu", batch=1)
    tried = fail_when(predictor, lambda shape: True, MemoryError("injected"))
    with pytest.raises(ResourceError, match=r"injected\. About [0-9.e-]+ GB are needed beyond .*--roi") as caught:
        predictor.segment([a_volume])
    assert caught.value.exit_code == 4
    assert tried == [(1, 1, *PATCH), (1, 1, 16, 32, 16), (1, 1, 16, 16, 16)]


def test_a_bug_is_no_lack_of_memory(a_bundle, a_volume):
    predictor = Predictor(a_bundle, "cpu", batch=1)
    tried = fail_when(predictor, lambda shape: True, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        predictor.segment([a_volume])
    assert len(tried) == 1


def test_a_limit_is_met_before_the_work(a_bundle, a_volume, monkeypatch, caplog):
    """What the process may still take is set by hand to what tiles of the second size need."""
    predictor = Predictor(a_bundle, "cpu", batch=1)
    prepared = PreparedRows([a_volume], SPEC)
    room = predictor._plan.estimate(prepared, Settings((16, 32, 16))).total
    assert room < predictor._plan.estimate(prepared, Settings(PATCH)).total
    monkeypatch.setattr(predictor_file, "_room_bytes", lambda limit, warm: room)
    tried = fail_when(predictor, lambda shape: False, MemoryError())
    predictor.segment([a_volume], memory_limit_bytes=10**9)
    assert set(tried) == {(1, 1, 16, 32, 16)}
    assert "because of the memory limit of 1 GB, tiles of 16 × 32 × 16 voxels" in caplog.records[0].getMessage()


def test_a_limit_that_nothing_fits_into(a_bundle, a_volume):
    predictor = Predictor(a_bundle, "cpu", batch=1)
    tried = fail_when(predictor, lambda shape: False, MemoryError())
    with pytest.raises(ResourceError, match=r"the memory limit of 0.001 GB leaves 0 GB .* About .* GB are needed"):
        predictor.segment([a_volume], memory_limit_bytes=10**6)
    assert tried == []


def test_steps_back_on_a_gpu():
    """The plan alone: it needs no GPU to say what it would give up there."""
    plan = MemoryPlan([build_model("lightm_unet", NETWORK)], 1, (0, 1, 5), on_gpu=True)
    settings, seen = Settings(PATCH, batch=4), []
    while (step := plan.step_back(settings)) is not None:
        settings, _ = step
        seen.append((settings.batch, settings.blend_on_host, settings.patch))
    assert seen == [
        (2, False, PATCH), (1, False, PATCH), (1, True, PATCH), (1, True, (16, 32, 16)), (1, True, (16, 16, 16)),
    ]  # fmt: skip


def test_the_engines_own_part_is_counted_by_hand():
    """Patch 32 x 32 x 16 over 32 x 40 x 24 voxels, 3 classes, one channel, float32."""
    plan = MemoryPlan([build_model("lightm_unet", NETWORK)], 1, (0, 1, 300), on_gpu=False)
    volume = Volume(np.random.default_rng(0).random((64, 40, 24), dtype=np.float32))
    estimate = plan.estimate(PreparedRows([volume], SPEC), Settings(PATCH), with_network=False)
    rows = 32 * 40 * 24
    assert estimate.blend == 2 * 3 * rows * 4
    assert estimate.host == 64 * 40 * 24 * 2 + 4 * (
        2 * rows + 2 * rows
    )  # uint16 labels; prepared rows and their source
    assert estimate.network is None


def test_estimates_do_not_grow_with_the_number_of_slices_but_for_the_labels():
    plan = MemoryPlan([build_model("lightm_unet", NETWORK)], 1, (0, 1, 2), on_gpu=False)
    short, tall = (
        plan.estimate(
            PreparedRows([Volume(np.arange(k * 40 * 24, dtype=np.float32).reshape(k, 40, 24))], SPEC), Settings(PATCH)
        )
        for k in (64, 128)
    )
    assert tall.total - short.total == 64 * 40 * 24
    assert short.network == tall.network > 0


def test_adding_up_elsewhere_gives_the_same(a_bundle, a_volume):
    networks = Predictor(a_bundle, "cpu")._networks
    cpu = torch.device("cpu")
    found = [
        SlidingWindow(networks, 3, PATCH, device=cpu, blend_on=device).scores(a_volume.array[None])
        for device in (None, cpu)
    ]
    np.testing.assert_array_equal(*found)


def test_several_channels_count(a_manifest):
    """Guards the input's channels in what is counted, with a network of two."""
    options = NETWORK | {"in_channels": 2}
    manifest = a_manifest(
        architecture_name="lightm_unet",
        architecture_options=options,
        patch_size=PATCH,
        channels=(Channel("T1"), Channel("T2")),
        preprocessing=PreprocessingSpec((Normalization("none"),) * 2),
    )
    predictor = Predictor(Bundle(manifest, (build_model("lightm_unet", options).state_dict(),)), "cpu")
    volume = Volume(np.random.default_rng(0).random((32, 32, 24), dtype=np.float32))
    prepared = PreparedRows([volume, volume], manifest.preprocessing)
    assert (predictor._plan.estimate(prepared, predictor._settings).network or 0) > 0


@pytest.mark.parametrize(("text", "size"), [("3", 3e9), ("2.5GB", 2.5e9), ("800 mb", 8e8), (" 1gb ", 1e9)])
def test_sizes_as_text(text, size):
    assert bytes_from_text(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "3TB", "1e3", "0.0000000001"])
def test_texts_that_are_no_size(text):
    with pytest.raises(ConfigError, match="expected a size such as 3GB or 800MB"):
        bytes_from_text(text)


def test_what_was_measured_of_one_tile_takes_the_place_of_the_count(a_bundle, a_volume):
    rows = [{"size": [64, 64, 64], "memory_bytes": 9}, {"size": list(PATCH), "memory_bytes": 123_000_000}]
    for measured, expected in (
        ({"cpu": rows}, {PATCH: 123_000_000}),
        ({"cuda": rows}, {}),
        ({"cpu": rows[:1]}, {}),
        ({"cpu": [{"size": list(PATCH), "memory_bytes": -5}]}, {}),
        ({"cpu": [{"size": list(PATCH)}, 3]}, {}),
        ({"cpu": 7}, {}),
        ({}, {}),
    ):
        assert measured_tiles(replace(a_bundle.manifest, measured=measured), "cpu") == expected
    of_slices = {"cpu": [{"size": [1, 32, 16], "memory_bytes": 5}]}
    slicewise = replace(a_bundle.manifest, patch_size=(32, 16), measured=of_slices)
    assert measured_tiles(slicewise, "cpu") == {(32, 16): 5}
    plan = MemoryPlan(a_bundle.build_networks(), 1, (0, 1, 5), on_gpu=False, measured={PATCH: 123_000_000})
    prepared = PreparedRows([a_volume], SPEC)
    assert plan.estimate(prepared, Settings(PATCH, batch=2)).network == 246_000_000
    assert plan.estimate(prepared, Settings((16, 16, 16))).network < 123_000_000


def test_a_case_that_measured_figures_say_does_not_fit_steps_back(a_bundle, a_volume, caplog):
    """Without a count: the limit leaves less than the model file tells that a tile took."""
    told = {"cpu": [{"size": list(PATCH), "memory_bytes": 40_000_000_000}]}
    bundle = replace(a_bundle, manifest=replace(a_bundle.manifest, measured=told))
    with caplog.at_level(logging.WARNING):
        Predictor(bundle, "cpu").segment([a_volume], memory_limit_bytes=30_000_000_000)
    assert "tiles of 16 × 32 × 16 voxels are computed" in caplog.text
