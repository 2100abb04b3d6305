"""MambaClinix: what each stage gets, the orders of its interactions, the ablation's networks."""

import itertools

import pytest
import torch

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.hgcn import ChannelLayerNorm, HGCNBlock, HighOrderInteraction
from MambaSegmentLib.models.mamba_layers import ResidualMambaLayer
from MambaSegmentLib.models.mambaclinix import MambaClinixConfig, stage_mixers_of_plan

SIX_STAGES = {
    "in_channels": 1,
    "num_classes": 2,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": 3,
    "strides": [1, 2, 2, 2, 2, 2],
}
PARTS = ("stem", "stages", "mixers", "last_hgcn_norm")


def residual_stages():
    """The encoder without mixers: a stem, and per stage two convolutions with biases and norms, and a projection."""
    widths = SIX_STAGES["features_per_stage"]
    count = 27 * widths[0] + 3 * widths[0]
    for before, width in zip([widths[0], *widths[:-1]], widths, strict=True):
        count += 27 * width * (before + width) + 6 * width
        count += width * before + 2 * width if before != width else 0
    return count


BASELINE = residual_stages()


def encoder_parameters(net):
    return sum(p.numel() for name, p in net.named_parameters() if name.startswith(PARTS))


@pytest.mark.parametrize(
    ("plan", "expected"),
    [([2] * 6, "hhhmmm"), ([2] * 5, "hhhmm"), ([2] * 7, "hhhhmmm"), ([2, 1, 2, 2, 2], "hmhmm"), ([1] * 4, "mmmm")],
)
def test_mixers_follow_the_plan(plan, expected):
    assert "".join(mixer[0] for mixer in stage_mixers_of_plan(plan)) == expected


def test_a_plan_of_residual_encoders_is_refused():
    with pytest.raises(ConfigError, match=r"\[1, 3, 4, 6, 6, 6\]; MambaClinix knows"):
        stage_mixers_of_plan([1, 3, 4, 6, 6, 6])


def test_the_default_is_the_published_network():
    config = MambaClinixConfig(**SIX_STAGES)
    assert config.stage_mixers == ("hgcn", "hgcn", "hgcn", "mamba", "mamba", "mamba")
    assert config.hgcn_orders == (2, 3, 4)
    net = build_model("mambaclinix", SIX_STAGES)
    assert [type(mixer) for mixer in net.mixers] == [HGCNBlock] * 3 + [ResidualMambaLayer] * 3
    assert [mixer.drop_path.rate for mixer in net.mixers[:3]] == pytest.approx([0, 0.1, 0.2])
    assert encoder_parameters(net) == 17_149_251  # as measured on the released code


@pytest.mark.parametrize(
    ("mixers", "orders", "parameters"),
    [
        (["residual"] * 6, None, BASELINE),
        (["mamba"] * 6, None, None),
        (["hgcn"] * 6, [2, 3, 4, 5, 6, 6], None),
        (["residual"] * 5 + ["mamba"], None, BASELINE + 675_200 + 640 + 320 * 321 + 1),
        (None, [4, 4, 4], None),
        (None, [4, 5, 5], None),
        (["residual", "hgcn", "mamba", "residual", "residual", "residual"], [1], None),
    ],
)
def test_the_ablation_builds_and_runs(mixers, orders, parameters):
    features = SIX_STAGES["features_per_stage"] if parameters else [32, 32, 64, 64, 64, 64]
    options = {"stage_mixers": mixers, "hgcn_orders": orders, "features_per_stage": features}
    net = build_model("mambaclinix", SIX_STAGES | options).eval()
    if parameters:
        assert encoder_parameters(net) == parameters
        return
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 32, 32, 64)).shape == (1, 2, 32, 32, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage_mixers": ["hgcn"] * 5}, "stage_mixers is .*expected 6"),
        ({"stage_mixers": ["hgcn"] * 5 + ["attention"]}, "'attention'"),
        ({"hgcn_orders": [2, 3]}, "expected one for each of 3 HGCN stages"),
        ({"hgcn_orders": [2, 3, 0]}, "order 0"),
        ({"stage_mixers": ["hgcn"] * 6}, "order 7 halves its 160 channels .* multiple of 64"),
        ({"features_per_stage": [32, 48, 24, 8, 8, 8]}, "order 4 halves its 12 channels"),
        ({"features_per_stage": [3, 8, 16, 8, 8, 8]}, "3 are odd"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("mambaclinix", SIX_STAGES | options)


def test_channel_norm_takes_each_voxel_by_itself():
    norm = ChannelLayerNorm(2)
    x = torch.tensor([[[[1.0, 4.0]], [[3.0, 4.0]]]])  # channels (1, 3) at one voxel, (4, 4) at the other
    torch.testing.assert_close(norm(x), torch.tensor([[[[-1.0, 0.0]], [[1.0, 0.0]]]]), rtol=0, atol=1e-5)


def test_the_interaction_is_linear():
    """The released code sums where the paper multiplies: twice the input gives twice the output, up to the biases."""
    torch.manual_seed(0)
    interaction, x = HighOrderInteraction(8, 3, (3, 3, 3)), torch.randn(1, 8, 4, 4, 4)
    offset = interaction(torch.zeros_like(x))
    torch.testing.assert_close(interaction(2 * x) - offset, 2 * (interaction(x) - offset), rtol=1e-4, atol=1e-5)
    assert interaction.widths == [2, 4, 8]


@pytest.mark.parametrize("orders", [[4, 4, 4], [4, 5, 6], [2, 3, 4, 5, 6, 6]])
def test_the_orders_of_the_ablation_fit_the_published_widths(orders):
    """Three on the finer half, or one for each stage of HGCN alone; each part is twice as wide as that before it."""
    only = {"stage_mixers": ["hgcn"] * 6} if len(orders) == 6 else {}
    with torch.device("meta"):
        net = build_model("mambaclinix", SIX_STAGES | only | {"hgcn_orders": orders})
    blocks = [mixer for mixer in net.mixers if isinstance(mixer, HGCNBlock)]
    assert [len(block.interaction.widths) for block in blocks] == orders
    assert all(2 * a == b for block in blocks for a, b in itertools.pairwise(block.interaction.widths))
