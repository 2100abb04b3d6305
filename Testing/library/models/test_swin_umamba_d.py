"""What is Swin-UMamba†'s own: its names and starting values. Its numbers: test_vss.py."""

import json

import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.models import build_model, load_published_weights
from Testing.library.models.vectors import VECTORS

SMALL = VECTORS["swin_umamba_d"].options


def test_every_published_name_of_the_full_size_is_known(shared):
    names = json.loads((shared / "reference" / "swin_umamba_d" / "state_dict.json").read_text())["state_dict"]
    with torch.device("meta"):
        net = build_model("swin_umamba_d", {"in_channels": 1, "num_classes": 14})
        report = load_published_weights(net, {f"module.{name}": torch.zeros(shape) for name, shape, _ in names})
    assert len(report.loaded) == 312


def test_weights_of_the_variant_with_the_other_decoder_are_refused_by_name():
    with pytest.raises(BundleError, match="build 'swin_umamba'"):
        load_published_weights(
            build_model("swin_umamba_d", SMALL),
            VECTORS["swin_umamba"].published_weights(),
        )


def test_starting_values():
    torch.manual_seed(0)
    net = build_model("swin_umamba_d", {**SMALL, "dims": [32, 64, 64, 64]})
    for module in net.encoder.modules():
        if isinstance(module, nn.Linear):
            assert 0.017 < module.weight.std() < 0.023
    for module in net.decoder.modules():
        if isinstance(module, nn.Linear):  # the library's default: uniform in +- 1 / sqrt(fan in)
            assert 0.9 < module.weight.abs().max() * module.in_features**0.5 <= 1
    depthwise = net.encoder.stages[0][0].ss2d.conv2d
    assert not depthwise.bias.any()
    assert 0.8 < depthwise.weight.std() / (2 / 9) ** 0.5 < 1.2  # He: sqrt(2 / fan in), fan in 3 x 3
    assert 0.8 < net.encoder.patch_embed.proj.weight.std() / (2 / 32) ** 0.5 < 1.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_depths": [1, 1]}, "4 dims need 4 encoder_depths and 3 decoder_depths; got 4 and 2"),
        ({"encoder_depths": [1, 1, 1]}, "got 3 and 3"),
        ({"decoder_depths": [1, 0, 1]}, r"decoder_depths is \(1, 0, 1\)"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("swin_umamba_d", {**SMALL, **options})
