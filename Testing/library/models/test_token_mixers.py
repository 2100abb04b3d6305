"""LightM-UNet's layers: golden vectors, parameter counts, streaming, what the ablation puts in their place."""

import pytest
import torch

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import streamed_mixer
from MambaSegmentLib.models.blocks import HalvingPool
from MambaSegmentLib.models.token_mixers import AttentionLayer, ConvLayer, RVMLayer, SPMLayer

SPM_CASES = {
    "shared_normed_2d": {"out_channels": 64},
    "shared_normed_3d": {"out_channels": 32},
    "separate_normed_3d": {"out_channels": 32, "shared": False},
    "shared_raw_3d": {"out_channels": 32, "residual": "raw"},
}


@pytest.mark.parametrize("case", SPM_CASES)
def test_spm_golden_vectors(case, golden):
    arrays = golden("spm")
    layer = SPMLayer(32, **SPM_CASES[case])
    prefix = f"{case}::w::"
    layer.load_state_dict({key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)})
    x = arrays[f"{case}::input"]
    torch.testing.assert_close(layer(x), arrays[f"{case}::y"], rtol=1e-5, atol=2e-6)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), arrays[f"{case}::y"], rtol=1e-5, atol=2e-6)
    pooled = HalvingPool(x.dim() - 2, "max+avg")(x)
    torch.testing.assert_close(pooled, arrays[f"{case}::combined_pool_of_input"])


@pytest.mark.parametrize(
    ("channels", "rvm", "separate", "shared"),
    [(32, 11_041, 6_305, 2_417), (64, 36_929, 17_729, 7_649), (256, 504_065, 196_865, 98_945)],
)
def test_number_of_parameters(channels, rvm, separate, shared):
    layers = [RVMLayer(channels, channels), SPMLayer(channels, channels, shared=False), SPMLayer(channels, channels)]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [rvm, separate, shared]


@pytest.mark.parametrize("make", [RVMLayer, SPMLayer, lambda i, o: SPMLayer(i, o, shared=False)])
@pytest.mark.parametrize("shape", [(2, 16, 9, 4, 6), (1, 16, 11, 5)])
@pytest.mark.parametrize("planes", [1, 2, 4])
def test_streaming_by_slabs_gives_what_the_whole_gives(make, shape, planes, monkeypatch):
    torch.manual_seed(0)
    layer, x = make(16, 24), torch.randn(shape)
    whole = layer(x)
    elements_of_a_plane = shape[0] * 16 * layer.widening * x[0, 0, 0].numel()
    monkeypatch.setattr(streamed_mixer, "PIECE_ELEMENTS", planes * elements_of_a_plane)
    with torch.no_grad():
        slabs = list(layer.stream(x))
        torch.testing.assert_close(layer(x), whole, rtol=1e-5, atol=1e-5)
    assert [slab.shape[2] for slab in slabs][:-1] == [planes] * (len(slabs) - 1)
    assert len(slabs) == -(-shape[2] // planes)


def test_output_is_channels_last_in_memory():
    layer, x = RVMLayer(8, 16), torch.randn(1, 8, 4, 4, 4)
    assert layer(x).stride(1) == 1
    with torch.no_grad():
        assert layer(x).stride(1) == 1


def test_spm_refuses_what_it_cannot_split():
    with pytest.raises(ConfigError, match="4 equal parts; 30"):
        SPMLayer(30, 30)
    with pytest.raises(ConfigError, match="'normalized'"):
        SPMLayer(32, 32, residual="normalized")
    with pytest.raises(ConfigError, match="'median'"):
        HalvingPool(3, "median")


def without_mixing(make, **options):
    """A layer of width 2 whose mixing gives zero and whose last layer changes nothing: what is left is the residual."""
    layer = make(2, 2, **options)
    for part in (layer.conv if make is ConvLayer else layer.mamba.out_proj).parameters():
        torch.nn.init.zeros_(part)
    torch.nn.init.eye_(layer.proj.weight)
    torch.nn.init.zeros_(layer.proj.bias)
    return layer


@pytest.mark.parametrize(("make", "more"), [(RVMLayer, {}), (ConvLayer, {"dim": 2})])
def test_the_residual_alone(make, more):
    x = torch.tensor([[[[1.0, 5.0]], [[3.0, 1.0]]]])  # channels (1, 3) at one voxel, (5, 1) at the other
    normalised = torch.tensor([[[[-1.0, 1.0]], [[1.0, -1.0]]]])
    kept = without_mixing(make, **more)
    torch.testing.assert_close(kept(x), normalised, rtol=0, atol=1e-4)
    torch.nn.init.constant_(kept.skip_scale, -1.0)
    torch.testing.assert_close(kept(x), -normalised, rtol=0, atol=1e-4)
    assert without_mixing(make, adjustment=False, **more).skip_scale is None
    torch.testing.assert_close(without_mixing(make, adjustment=False, **more)(x), normalised, rtol=0, atol=1e-4)
    torch.testing.assert_close(without_mixing(make, skip=False, **more)(x), torch.zeros_like(x))


def test_a_convolution_sees_neighbours_and_attention_everything():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 8, 8)
    changed = x.clone()
    changed[:, 0, 0, 0] += 1
    reach = {}
    for layer in (ConvLayer(4, 4, dim=2), AttentionLayer(4, 4), RVMLayer(4, 4)):
        reach[type(layer).__name__] = ((layer(changed) - layer(x)).abs().amax((0, 1)) > 0).sum().item()
    assert reach == {"ConvLayer": 4, "AttentionLayer": 64, "RVMLayer": 64}


def test_layers_that_look_ahead_are_not_cut(monkeypatch):
    monkeypatch.setattr(streamed_mixer, "PIECE_ELEMENTS", 1)
    torch.manual_seed(0)
    for layer in (ConvLayer(8, 16, dim=3), AttentionLayer(8, 16)):
        x = torch.randn(2, 8, 6, 4, 2)
        whole = layer(x)
        assert whole.stride(1) == 1
        with torch.no_grad():
            (only,) = layer.stream(x, multiple=2)
            torch.testing.assert_close(only, whole)


def test_attention_refuses_a_width_that_its_heads_cannot_share():
    with pytest.raises(ConfigError, match="2 heads; 65"):
        AttentionLayer(65, 65)
