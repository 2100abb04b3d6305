"""U-Mamba, MambaClinix and the control: the released code's numbers, published sizes, what they cannot take."""

import pytest
import torch

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.models import build_model, load_published_weights, mamba_block, streamed_mixer
from Testing.library.models.published_sizes import ARCHITECTURE_OF, options_of

# name, file -> how far the released code's float32 may lie: four times its own distance from float64
GOLDEN = {
    ("mambaclinix", "golden_small"): 5.6e-4,
    ("umamba_bot", "golden_small"): 1e-4,
    ("umamba_bot", "golden_small_2d"): 2e-4,
    ("umamba_enc", "golden_small"): 2e-3,
    ("umamba_enc", "golden_small_2d"): 2e-3,
}
PARAMETERS = {
    ("mambaclinix", "state_dict"): 48_874_189,
    ("umamba_bot", "state_dict"): 41_945_158,
    ("umamba_bot", "state_dict_2d"): 47_533_012,
    ("umamba_enc", "state_dict"): 42_842_798,
    ("umamba_enc", "state_dict_2d"): 47_015_538,
}
SIX_STAGES = {
    "spatial_dims": 3,
    "in_channels": 1,
    "num_classes": 3,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": 3,
    "strides": [1, 2, 2, 2, 2, 2],
}
SMALL = {
    "in_channels": 2,
    "num_classes": 3,
    "features_per_stage": [4, 8, 16],
    "kernel_sizes": [[1, 3, 3], 3, 3],
    "strides": [1, [1, 2, 2], 2],
}
MORE = {"umamba_bot": {}, "umamba_enc": {"input_size": [4, 8, 16]}, "resenc_unet": {}, "mambaclinix": {}}


def a_small_net(name, **options):
    torch.manual_seed(0)
    return build_model(name, SMALL | MORE[name] | options)


def a_golden_net(name, file, golden, described):
    arrays, arguments = golden(name, file), described(name, file)["builder_arguments"]
    net = build_model(ARCHITECTURE_OF[arguments["kind"]], options_of(arguments, deep_supervision=True)).eval()
    weights = {key.removeprefix("w::"): value for key, value in arrays.items() if key.startswith("w::")}
    report = load_published_weights(net, weights)
    assert set(report.loaded) == set(net.state_dict())
    outputs = [arrays[key] for key in sorted(key for key in arrays if key[0] == "y")]
    return net, arrays["input"], outputs


@pytest.mark.parametrize(("name", "file"), GOLDEN)
def test_golden_vectors_of_the_released_code(name, file, golden, described):
    net, x, expected = a_golden_net(name, file, golden, described)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=GOLDEN[name, file])
    with torch.inference_mode():  # the streaming path
        torch.testing.assert_close(net(x), expected, rtol=0, atol=GOLDEN[name, file])
    net.config.__dict__["deep_supervision"] = False
    torch.testing.assert_close(net(x), expected[0], rtol=0, atol=GOLDEN[name, file])


@pytest.mark.parametrize(("name", "file"), GOLDEN)
def test_golden_weights_in_double_precision_agree_with_the_step_by_step_scan(
    name, file, golden, described, monkeypatch
):
    net, x, expected = a_golden_net(name, file, golden, described)
    net.double()
    with torch.no_grad():
        actual = net(x.double())
        scan = mamba_block.selective_scan
        monkeypatch.setattr(mamba_block, "selective_scan", lambda *a, **k: scan(*a, **k, backend="reference"))
        torch.testing.assert_close(actual, net(x.double()), rtol=1e-10, atol=1e-10)
    assert all(logits.dtype == torch.float64 for logits in actual)
    torch.testing.assert_close([y.float() for y in actual], expected, rtol=0, atol=GOLDEN[name, file])


@pytest.mark.parametrize(("name", "file"), PARAMETERS)
def test_published_sizes_have_the_published_parameters_and_names(name, file, described):
    facts = described(name, file)
    net = build_model(name, options_of(facts["config"]))
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[name, file]
    state_dict = {f"module.{key}": torch.zeros(1).expand(shape) for key, shape, _ in facts["state_dict"]}
    report = load_published_weights(net, state_dict)  # aliases among them
    assert len(report.loaded) == facts["n_unique_tensors"]


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("umamba_bot", {}, 42_121_199),
        ("umamba_enc", {"input_size": [128, 128, 128]}, 42_751_727),
        ("resenc_unet", {}, 42_121_199 - 675_200 - 640),  # a Mamba of width 320 and its LayerNorm less
        ("mambaclinix", {"num_classes": 2}, 48_874_189),
    ],
)
def test_number_of_parameters_of_six_stages(name, more, expected):
    net = build_model(name, SIX_STAGES | more)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", MORE)
def test_gradients_reach_every_parameter(name, spatial_dims):
    options = {"spatial_dims": spatial_dims, "kernel_sizes": 3, "strides": [1, 2, 2], "deep_supervision": True}
    size = [16, 12, 8][:spatial_dims]
    net = a_small_net(name, **options, **({"input_size": size} if name == "umamba_enc" else {}))
    full, half = net(torch.randn(2, 2, *size))
    assert full.shape == (2, 3, *size)
    assert half.shape == (2, 3, *(n // 2 for n in size))
    (full.square().mean() + half.square().mean()).backward()
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.abs().any()] == []
    assert all(name.endswith("skip_scale") for name in set(dict(net.named_parameters())) - set(trained))


@pytest.mark.parametrize("name", ["umamba_bot", "umamba_enc", "mambaclinix"])
def test_streaming_gives_what_training_mode_gives(name, monkeypatch):
    net, x = a_small_net(name).eval().double(), torch.randn(1, 2, 4, 8, 16).double()
    expected = net(x)
    monkeypatch.setattr(streamed_mixer, "PIECE_ELEMENTS", 1)  # a plane at a time
    with torch.inference_mode():
        torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MORE)
def test_a_size_it_cannot_take_is_refused_before_any_work(name):
    net = a_small_net(name)
    assert net.config.size_multiples == (2, 4, 4)
    assert net.size_multiple == 4
    with pytest.raises(ShapeError, match=r"\(4, 8, 6\) must be a multiple of \(2, 4, 4\)"):
        net(torch.zeros(1, 2, 4, 8, 6))
    with pytest.raises(ShapeError, match=r"\(1, 1, 4, 8, 8\); expected \(batch, 2\)"):
        net(torch.zeros(1, 1, 4, 8, 8))
    with pytest.raises(ShapeError, match="3 spatial sizes"):
        net(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ShapeError, match="one voxel at the lowest resolution"):
        net(torch.zeros(1, 2, 2, 4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims is 4"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"features_per_stage": [4]}, "two or more"),
        ({"kernel_sizes": [3, 3]}, "kernel_sizes is .*expected 3 entries"),
        ({"kernel_sizes": [[3, 3], 3, 3]}, "each with 3 numbers"),
        ({"kernel_sizes": 2}, "must be odd"),
        ({"strides": [2, 2, 2]}, r"strides\[0\]"),
        ({"strides": [1, 2, 0]}, "at least 1"),
        ({"depth": 3}, "depth"),
    ],
)
@pytest.mark.parametrize("name", MORE)
def test_options_that_make_no_sense(name, options, message):
    with pytest.raises(ConfigError, match=message):
        a_small_net(name, **options)
