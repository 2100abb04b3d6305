"""LightM-UNet against the released code's numbers, its published sizes, and inputs it cannot take."""

import copy
import json
import subprocess
import sys

import pytest
import torch

from MambaSegmentLib.errors import BundleError, ConfigError, ShapeError
from MambaSegmentLib.models import ARCHITECTURES, build_model, load_published_weights, mamba_block, streamed_mixer
from Testing.library.models.vectors import VECTORS

GOLDEN = {
    "lightm_unet_3d": {"spatial_dims": 3, "in_channels": 1, "num_classes": 4, "blocks_down": [1, 1, 2, 1]},
    "lightm_unet_2d": {"spatial_dims": 2, "in_channels": 2, "num_classes": 3, "blocks_down": [1, 2, 1, 1]},
}


def a_small_net(**options):
    return build_model("lightm_unet", {"in_channels": 1, "num_classes": 3, "init_filters": 8, **options}).eval()


def published(arrays):
    return {key.removeprefix("w::"): value for key, value in arrays.items() if key.startswith("w::")}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_vectors_of_the_released_code(name, golden):
    arrays = golden(name)
    net = a_small_net(**GOLDEN[name])
    report = load_published_weights(net, published(arrays))
    assert len(report.loaded) == len(net.state_dict())
    assert report.missing == report.unexpected == ()
    torch.testing.assert_close(net(arrays["input"]), arrays["y0"], rtol=0, atol=1e-4)
    with torch.inference_mode():  # the streaming path
        torch.testing.assert_close(net(arrays["input"]), arrays["y0"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_weights_in_double_precision_agree_with_the_step_by_step_scan(name, golden, monkeypatch):
    arrays = golden(name)
    net = a_small_net(**GOLDEN[name]).double()
    load_published_weights(net, {key: value.double() for key, value in published(arrays).items()})
    x, scan = arrays["input"].double(), mamba_block.selective_scan
    actual = net(x)
    monkeypatch.setattr(mamba_block, "selective_scan", lambda *a, **k: scan(*a, **k, backend="reference"))
    torch.testing.assert_close(actual, net(x), rtol=1e-10, atol=1e-10)
    assert actual.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"spatial_dims": 3, "num_classes": 3}, 5_015_766),
        ({"spatial_dims": 2, "num_classes": 2}, 5_011_683),
        ({"spatial_dims": 3, "num_classes": 3, "mixer": "spm", "spm_shared_scan": False}, 2_063_958),
        ({"spatial_dims": 3, "num_classes": 3, "mixer": "spm"}, 1_069_734),
        ({"spatial_dims": 2, "num_classes": 2, "mixer": "spm"}, 1_065_651),
    ],
)
def test_number_of_parameters_of_the_published_sizes(options, expected):
    net = build_model("lightm_unet", {"in_channels": 1, **options})
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize("name", GOLDEN)
def test_every_published_name_of_the_full_size_is_known(name, shared):
    described = json.loads((shared / "reference" / name / "state_dict.json").read_text())
    config = described["config"]
    net = build_model(
        "lightm_unet",
        {"spatial_dims": config["dim"], "in_channels": config["in_ch"], "num_classes": config["num_classes"]},
    )
    state_dict = {f"module.{key}": torch.zeros(shape) for key, shape, _ in described["state_dict"]}
    assert len(load_published_weights(net, state_dict).loaded) == 362


@pytest.mark.parametrize("options", [{"mixer": "spm"}, {"mixer": "spm", "pooling": "max+avg"}, {"spatial_dims": 2}])
def test_gradients_reach_every_parameter(options):
    torch.manual_seed(0)
    net = build_model("lightm_unet", {"in_channels": 2, "num_classes": 3, "init_filters": 16, **options})
    size = [16] * options.get("spatial_dims", 3)
    logits = net(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


@pytest.mark.parametrize("pooling", ["max", "max+avg"])
def test_streaming_gives_what_training_mode_gives(pooling, monkeypatch):
    torch.manual_seed(0)
    net, x = a_small_net(pooling=pooling).double(), torch.randn(1, 1, 24, 16, 16).double()
    expected = net(x)
    monkeypatch.setattr(streamed_mixer, "PIECE_ELEMENTS", 1)  # a plane, or two where it is halved, at a time
    with torch.inference_mode():
        torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pooling", ["max", "max+avg"])
def test_prediction_in_float32_is_as_close_to_float64_as_training_is(pooling):
    """Single voxels lie where a rounding turns a maximum over to its neighbour, so the mean is compared."""
    torch.manual_seed(0)
    net, x = a_small_net(pooling=pooling), torch.randn(1, 1, 24, 16, 16)
    expected = copy.deepcopy(net).double()(x.double()).detach()
    with torch.inference_mode():
        assert (net(x).double() - expected).abs().mean() < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory of a process is read through the resource module")
def test_a_volume_of_128_cubed_runs_in_under_2_gb(repository):
    """The published width in a process of its own, whose peak memory counts everything: PyTorch, numba, the network."""
    code = (
        "import resource, sys, torch\n"
        "from MambaSegmentLib.models import build_model\n"
        "net = build_model('lightm_unet', {'in_channels': 1, 'num_classes': 3}).eval()\n"
        "torch.set_num_threads(2)\n"
        "size = int(sys.argv[1])\n"
        "with torch.inference_mode():\n"
        "    assert net(torch.randn(1, 1, size, size, size)).shape == (1, 3, size, size, size)\n"
        "if sys.platform == 'linux':\n"  # ru_maxrss begins there with what the parent had when it was copied
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    print(1024 * int(next(line for line in lines if line.startswith('VmHWM')).split()[1]))\n"
        "else:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak_bytes(size: int) -> int:
        command = [sys.executable, "-c", code, str(size)]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=repository)
        return int(result.stdout)

    peak_bytes(16)  # the first process after a change of the kernels compiles them, which takes memory of its own
    assert peak_bytes(128) < 2e9


def test_a_size_it_cannot_take_is_refused_before_any_work():
    net = a_small_net()
    assert net.size_multiple == 8
    with pytest.raises(ShapeError, match=r"\(16, 20, 16\).*multiple of 8"):
        net(torch.zeros(1, 1, 16, 20, 16))
    with pytest.raises(ShapeError, match=r"\(1, 2, 16, 16, 16\); expected \(batch, 1\)"):
        net(torch.zeros(1, 2, 16, 16, 16))
    with pytest.raises(ShapeError, match="3 spatial sizes"):
        net(torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims is 4"),
        ({"init_filters": 12}, "multiple of 8"),
        ({"mixer": "vss"}, "'vss'"),
        ({"pooling": "mean"}, "'mean'"),
        ({"blocks_up": [1, 1]}, "blocks_up has 2 levels"),
        ({"blocks_down": [1, 0, 1, 1]}, "at least 1"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"width": 3}, "width"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("lightm_unet", {"in_channels": 1, "num_classes": 3, **options})


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'unet'; known: .*lightm_unet"):
        build_model("unet", {})
    assert "lightm_unet" in ARCHITECTURES


def test_incomplete_or_foreign_weights_are_refused_by_name():
    vector = VECTORS["rvm_3d"]
    weights, net = vector.published_weights(), build_model("lightm_unet", vector.options)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    lacking = {name: tensor for name, tensor in weights.items() if name != "convInit.0.conv.weight"}
    with pytest.raises(BundleError, match=r"missing: stem\.depthwise\.weight"):
        load_published_weights(net, lacking)
    with pytest.raises(BundleError, match=r"unknown: encoder\.extra"):
        load_published_weights(net, {**weights, "encoder.extra": torch.zeros(1)})
    with pytest.raises(BundleError, match=r"of another shape: conv_final\.0\.weight \(3,\) instead of \(8,\)"):
        load_published_weights(net, {**weights, "conv_final.0.weight": torch.zeros(3)})
    with pytest.raises(BundleError, match="first released version"):
        load_published_weights(net, {"convInit.conv.weight": torch.zeros(8, 1, 3, 3, 3)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def layers_of(net, stage):
    return [type(block.mixer1).__name__ for block in net.encoder[stage] if hasattr(block, "mixer1")]


def test_the_ablation_puts_attention_into_the_bottleneck_alone():
    net = a_small_net(mixer="attention")
    assert layers_of(net, 2) == ["RVMLayer"] * 2
    assert layers_of(net, 3) == ["AttentionLayer"] * 4
    assert layers_of(a_small_net(mixer="conv"), 0) == ["ConvLayer"]


@pytest.mark.parametrize("mixer", ["rvm", "spm", "conv", "attention"])
@pytest.mark.parametrize(("adjustment", "residual"), [(True, True), (False, True), (True, False), (False, False)])
def test_the_switches_of_the_ablation(mixer, adjustment, residual):
    """Both mean the 21 mixing layers; the decoder's three factors stay."""
    torch.manual_seed(0)
    net = a_small_net(mixer=mixer, adjustment=adjustment, residual=residual, spatial_dims=2, init_filters=16).double()
    x = torch.randn(1, 1, 32, 16, dtype=torch.float64)  # in float32 21 layers make the order of sums visible
    logits = net(x)
    logits.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()] == []
    factors = [name for name in net.state_dict() if name.endswith("skip_scale")]
    assert len(factors) == 3 + 21 * (adjustment and residual)
    with torch.inference_mode():
        torch.testing.assert_close(net(x), logits, rtol=1e-9, atol=1e-9)
