"""What is Mamba-UNet's own: its channels, its names, its starting values. Its numbers: test_vss.py."""

import json

import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.models import build_model, load_published_weights
from Testing.library.models.vectors import VECTORS

VECTOR = VECTORS["mamba_unet"]
SMALL = VECTOR.options


def test_one_channel_is_tiled_to_three():
    torch.manual_seed(0)
    grey, coloured = (build_model("mamba_unet", {**SMALL, "in_channels": channels}).eval() for channels in (1, 3))
    coloured.load_state_dict(grey.state_dict())
    x = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(grey(x), coloured(x.expand(-1, 3, -1, -1)))


def test_other_numbers_of_channels_go_straight_in():
    net = build_model("mamba_unet", {**SMALL, "in_channels": 5})
    assert net.encoder.patch_embed.proj.weight.shape[1] == 5
    assert net(torch.randn(1, 5, 32, 64)).shape == (1, 2, 32, 64)


@pytest.mark.parametrize("prefix", ["", "module.", "mamba_unet.", "module.mamba_unet.", "_orig_mod.mamba_unet."])
def test_published_weights_load_with_any_usual_prefix(prefix):
    net = build_model("mamba_unet", SMALL)
    weights = {prefix + name.removeprefix("mamba_unet."): tensor for name, tensor in VECTOR.published_weights().items()}
    report = load_published_weights(net, weights)
    assert len(report.loaded) == len(net.state_dict()) == len(weights)


def test_every_published_name_of_the_full_size_is_known(shared):
    names = json.loads((shared / "reference" / "mamba_unet" / "state_dict.json").read_text())["state_dict"]
    with torch.device("meta"):
        net = build_model("mamba_unet", {"in_channels": 1, "num_classes": 4})
        report = load_published_weights(net, {name: torch.zeros(shape) for name, shape, _ in names})
    assert len(report.loaded) == 218


def test_weights_of_a_swin_umamba_are_refused_by_name():
    with pytest.raises(BundleError, match="of a Swin-UMamba"):
        load_published_weights(build_model("mamba_unet", SMALL), {"vssm_encoder.patch_embed.proj.bias": torch.zeros(4)})


def test_starting_values():
    torch.manual_seed(0)
    net = build_model("mamba_unet", {"in_channels": 1, "num_classes": 2, "dims": [32, 64], "depths": [1, 1]})
    for module in net.modules():
        if isinstance(module, nn.Linear):
            assert 0.017 < module.weight.std() < 0.023
            assert module.bias is None or not module.bias.any()
    assert net.head.bias is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": [1, 1, 1]}, "4 dims and 3 depths"),
        ({"depths": [1, 1, 1, 0]}, r"depths is \(1, 1, 1, 0\)"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"dims": []}, r"dims is \(\)"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("mamba_unet", {**SMALL, **options})
