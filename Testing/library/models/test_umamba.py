"""U-Mamba: where Mamba sits, channel tokens, and weights of other versions."""

import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError, ShapeError
from MambaSegmentLib.models import build_model, load_published_weights
from MambaSegmentLib.models.mamba_layers import ChannelMambaLayer, MambaLayer
from MambaSegmentLib.models.umamba import UMambaConfig

PLAN = {"in_channels": 1, "num_classes": 2, "kernel_sizes": 3}
FIVE_STAGES = PLAN | {"features_per_stage": [4, 4, 8, 8, 8], "strides": [1, 2, 2, 2, 2]}


def kinds(net):
    letters = {nn.Identity: "-", MambaLayer: "v", ChannelMambaLayer: "c"}
    return "".join(letters[type(mixer)] for mixer in net.mixers)


def test_blocks_per_stage_follow_the_published_rule():
    def blocks(stages):
        config = UMambaConfig(**PLAN, features_per_stage=(4,) * stages, strides=(1,) * stages)
        return config.encoder_blocks, config.decoder_blocks

    assert blocks(6) == ((2, 2, 2, 1, 1, 1), (2, 2, 2, 1, 1))
    assert blocks(7) == ((2, 2, 2, 2, 1, 1, 1), (2, 2, 2, 2, 1, 1))
    assert blocks(4) == ((2, 2, 1, 1), (2, 2, 1))


def test_other_numbers_of_blocks_can_be_given():
    net = build_model("umamba_bot", FIVE_STAGES | {"encoder_blocks": [1, 3, 1, 1, 2], "decoder_blocks": [1, 1, 2, 1]})
    assert [len(stage) for stage in net.stages] == [1, 3, 1, 1, 2]
    assert [len(level.blocks) for level in net.decoder] == [1, 1, 2, 1]
    with pytest.raises(ConfigError, match=r"decoder_blocks is .*expected 4 numbers"):
        build_model("umamba_bot", FIVE_STAGES | {"decoder_blocks": [1, 1, 1, 1, 1]})


def test_enc_has_channel_tokens_where_voxels_are_no_more_than_channels():
    """Voxels per stage 16^3, 8^3, 4^3, 8, 1 in 3D with 8 channels at most."""
    net = build_model("umamba_enc", FIVE_STAGES | {"input_size": [16, 16, 32]})
    assert kinds(net) == "vvvvc"  # 16, then 2 voxels, at the last two stages
    net = build_model("umamba_enc", FIVE_STAGES | {"input_size": [16, 16, 16]})
    assert kinds(net) == "vvvcc"
    with pytest.raises(ShapeError, match=r"\(32, 16, 16\).*takes the size it was built for alone, \(16, 16, 16\)"):
        net(torch.zeros(1, 1, 32, 16, 16))


def test_enc_in_2d_has_mamba_at_every_other_stage_counted_from_the_last():
    net = build_model("umamba_enc", FIVE_STAGES | {"spatial_dims": 2, "input_size": [64, 64]})
    assert kinds(net) == "v-v-v"
    assert net.eval()(torch.zeros(1, 1, 32, 48)).shape == (1, 2, 32, 48)  # no channel tokens, no fixed size
    four = {"features_per_stage": [4] * 4, "strides": [1, 2, 2, 2], "spatial_dims": 2, "input_size": [64, 64]}
    assert kinds(build_model("umamba_enc", PLAN | four)) == "-v-v"


def test_enc_refuses_an_input_size_it_could_not_take():
    with pytest.raises(ConfigError, match=r"input_size is \(16, 16, 24\); expected multiples of \(16, 16, 16\)"):
        build_model("umamba_enc", FIVE_STAGES | {"input_size": [16, 16, 24]})
    with pytest.raises(ConfigError, match="input_size"):
        build_model("umamba_enc", FIVE_STAGES)


def test_mamba_runs_in_single_precision_under_autocast():
    layer = MambaLayer(8)
    x = torch.randn(1, 8, 4, 4, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, layer(x.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("umamba_bot", ["decoder.transpconvs.0.weight", "mamba_layer.mamba.A_log"], "U-Mamba before 2024-03-27"),
        ("umamba_enc", ["decoder.transpconvs.0.weight", "encoder.mamba_layers.0.mamba.A_log"], "before 2024-03-27"),
        ("umamba_bot", ["encoder.mamba_layers.0.mamba.A_log"], "named umamba_enc"),
        ("umamba_enc", ["mamba_layer.mamba.A_log"], "named umamba_bot"),
        ("resenc_unet", ["mamba_layer.mamba.A_log"], "Mamba layers"),
        ("resenc_unet", ["decoder.transpconvs.0.weight"], "stock nnU-Net"),
        ("mambaclinix", ["decoder.transpconvs.0.weight"], "stock nnU-Net"),
    ],
)
def test_weights_of_other_networks_are_refused_by_name(name, keys, message):
    size = {"input_size": [16, 16, 32]} if name == "umamba_enc" else {}
    net = build_model(name, FIVE_STAGES | {"features_per_stage": [8, 8, 16, 16, 16]} | size)
    with pytest.raises(BundleError, match=message):
        load_published_weights(net, {f"module.{key}": torch.zeros(1) for key in keys})
