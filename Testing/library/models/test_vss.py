"""The visual state space blocks, and what holds for each network built from them: Mamba-UNet and both Swin-UMambas."""

import hashlib
import json
import zlib

import numpy as np
import pytest
import torch

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.models import build_model, load_published_weights
from MambaSegmentLib.models.vss import DropPath, PatchExpand, PatchMerging
from Testing.formula_weights import formula_tensor

GOLDEN = {
    "mamba_unet": {"dims": [8, 16, 32, 64], "depths": [2, 1, 3, 1]},
    "swin_umamba": {
        "feature_sizes": [4, 5, 10, 20, 40],
        "hidden_size": 40,
        "encoder_dims": [5, 10, 20, 40],
        "encoder_depths": [1, 2, 1, 2],
        "deep_supervision": True,
    },
    "swin_umamba_d": {"dims": [8, 16, 32, 64], "encoder_depths": [1, 2, 1, 2], "deep_supervision": True},
}
FULL = {
    "mamba_unet": {"num_classes": 4},
    "swin_umamba": {"num_classes": 14, "deep_supervision": True},
    "swin_umamba_d": {"num_classes": 14, "deep_supervision": True},
}


def a_small_net(name, **options):
    return build_model(name, {"in_channels": 1, "num_classes": 4, **GOLDEN[name], **options}).eval()


def outputs(net, x):
    """The list of logits of one pass, largest first."""
    with torch.inference_mode():
        y = net(x)
    return y if isinstance(y, list) else [y]


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_vectors_of_the_released_code(name, dtype, golden, shared):
    """In double precision sharp enough to tell an epsilon of 1e-5 from 1e-6; in single, ten times the code's error."""
    arrays = golden(name)
    described = json.loads((shared / "reference" / name / "golden_small.json").read_text())
    net = a_small_net(name).to(dtype)
    report = load_published_weights(net, {key[3:]: value for key, value in arrays.items() if key.startswith("w::")})
    assert len(report.loaded) == len(net.state_dict())
    actual = outputs(net, arrays["x"].to(dtype))
    assert [list(y.shape) for y in actual] == described["output_shapes"]
    for index, (y, own_error) in enumerate(zip(actual, described["float32_vs_float64_max_rel"], strict=True)):
        expected = arrays[f"y{index}_f64" if dtype == torch.float64 else f"y{index}"]
        relative = 1e-8 if dtype == torch.float64 else 10 * own_error
        torch.testing.assert_close(y, expected, rtol=0, atol=relative * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_golden_vectors_of_the_published_sizes(name, shared):
    folder = shared / "reference" / name
    described = json.loads((folder / "golden_full.json").read_text())
    shapes = json.loads((folder / "state_dict.json").read_text())["state_dict"]
    net = build_model(name, {"in_channels": 1, **FULL[name]}).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == described["n_parameters"]
    load_published_weights(net, {key: formula_tensor(key, tuple(shape)).float() for key, shape, _ in shapes})
    seed = zlib.crc32(f"input|{described['input_formula_name']}".encode())
    x = torch.from_numpy(np.random.RandomState(seed).standard_normal(described["input_shape"])).float()
    assert hashlib.sha256(x.numpy().tobytes()).hexdigest() == described["input_sha256"]
    actual = outputs(net, x)
    with np.load(folder / "golden_full.npz", allow_pickle=False) as arrays:
        for index, (y, of_output) in enumerate(zip(actual, described["outputs"], strict=True)):
            tolerance, stride, (row, column) = 5e-5 * of_output["absmax"], of_output["stride"], of_output["offset"]
            assert list(y.shape) == of_output["shape"]
            expected = torch.from_numpy(arrays[f"y{index}_sub"])
            torch.testing.assert_close(y[..., row::stride, column::stride], expected, rtol=0, atol=tolerance)
            for moment, values in (("mean", y.double().mean((2, 3))), ("std", y.double().std((2, 3)))):
                expected = torch.from_numpy(arrays[f"y{index}_{moment}"])
                torch.testing.assert_close(values, expected, rtol=0, atol=tolerance)
        classes = torch.from_numpy(arrays["argmax0"])
    assert (actual[0].argmax(1) == classes).float().mean() > 0.9999  # all but near-ties


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mamba_unet", {"num_classes": 4}, 19_121_664),
        ("swin_umamba", {"num_classes": 14}, 59_889_368),
        ("swin_umamba", {"num_classes": 13}, 59_888_644),
        ("swin_umamba", {"num_classes": 14, "generation": 1}, 40_425_176),
        ("swin_umamba_d", {"num_classes": 14}, 27_497_720),
        ("swin_umamba_d", {"num_classes": 13}, 27_496_948),
    ],
)
def test_number_of_parameters_of_the_published_sizes(name, options, expected):
    with torch.device("meta"):
        net = build_model(name, {"in_channels": 1, **options})
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize("name", GOLDEN)
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    net = build_model(name, {"in_channels": 2, "num_classes": 3, **GOLDEN[name]}).eval()  # no branch dropped
    logits = net(torch.randn(2, 2, 64, 32))
    for y in logits if isinstance(logits, list) else [logits]:
        assert y.shape[:2] == (2, 3)
        (y * torch.randn_like(y)).sum().backward(retain_graph=True)
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


@pytest.mark.parametrize("name", GOLDEN)
def test_a_size_it_cannot_take_is_refused_before_any_work(name):
    net = a_small_net(name)
    assert net.size_multiple == 32
    for height, width in ((66, 64), (48, 64), (64, 0)):  # the released code crops the first
        with pytest.raises(ShapeError, match=rf"\({height}, {width}\).*multiple of 32"):
            net(torch.zeros(1, 1, height, width))
    with pytest.raises(ShapeError, match=r"\(1, 2, 64, 64\); expected \(batch, 1\)"):
        net(torch.zeros(1, 2, 64, 64))
    with pytest.raises(ShapeError, match="2 spatial sizes"):
        net(torch.zeros(1, 1, 32, 32, 32))


@pytest.mark.parametrize("name", ["swin_umamba", "swin_umamba_d"])
def test_deep_supervision_can_be_switched(name):
    net, x = a_small_net(name), torch.randn(1, 1, 64, 64)
    every = outputs(net, x)
    assert len(every) == 4
    assert sorted(every, key=torch.numel, reverse=True) == every
    net.deep_supervision = False
    (finest,) = outputs(net, x)
    torch.testing.assert_close(finest, every[0])
    assert not a_small_net(name, deep_supervision=False).deep_supervision


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"d_state": 0}, "d_state is 0"),
        ({"width": 3}, "width"),
    ],
)
def test_options_that_make_no_sense(name, options, message):
    with pytest.raises(ConfigError, match=message):
        a_small_net(name, **options)


def test_merging_takes_the_corners_of_each_patch_column_by_column():
    merging = PatchMerging(1, 4)
    merging.norm, merging.reduction = torch.nn.Identity(), torch.nn.Identity()
    x = torch.arange(8.0).view(1, 2, 4, 1)  # rows 0 1 2 3 and 4 5 6 7
    assert merging(x).tolist() == [[[[0, 4, 1, 5], [2, 6, 3, 7]]]]


def test_expanding_writes_a_patch_row_by_row():
    expanding = PatchExpand(8, 2)
    expanding.norm, expanding.expand = torch.nn.Identity(), torch.nn.Identity()
    x = torch.arange(16.0).view(1, 1, 2, 8)
    assert expanding(x)[0, :, :, 0].tolist() == [[0, 2, 8, 10], [4, 6, 12, 14]]
    assert (expanding(x)[..., 1] == expanding(x)[..., 0] + 1).all()


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = DropPath(0.25), torch.ones(4000, 2, 3)
    y = layer(x)
    kept = y[:, 0, 0] != 0
    assert abs(kept.float().mean() - 0.75) < 0.03
    torch.testing.assert_close(y, kept.view(-1, 1, 1) * x / 0.75)
    assert layer.eval()(x) is x


def rates_of(module):
    return [round(part.rate, 6) for part in module.modules() if isinstance(part, DropPath)]


def test_drop_path_rates_are_those_of_the_released_code():
    rising = [round(0.2 * index / 14, 6) for index in range(15)]
    with torch.device("meta"):
        nets = {name: build_model(name, {"in_channels": 1, "num_classes": 2}) for name in GOLDEN}
    assert rates_of(nets["swin_umamba"]) == rates_of(nets["swin_umamba_d"].encoder) == rising
    assert rates_of(nets["swin_umamba_d"].decoder) == [0.2, 0.16, 0.12, 0.08, 0.04, 0]
    eight = [round(0.2 * index / 7, 6) for index in range(8)]
    assert rates_of(nets["mamba_unet"].encoder) == eight
    assert rates_of(nets["mamba_unet"].decoder) == [*eight[4:6], *eight[2:4], *eight[:2]]
