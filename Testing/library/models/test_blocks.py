import pytest
import torch
from torch import nn

from MambaSegmentLib.models.blocks import DepthwiseSeparableConv, mix_channels


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("conv", "spatial", "layout"),
    [
        (nn.Conv2d, (5, 6), torch.channels_last),
        (nn.Conv3d, (4, 5, 6), torch.channels_last_3d),
    ],
)
def test_channels_are_mixed_as_by_the_convolution_and_stay_last(conv, spatial, layout, bias):
    torch.manual_seed(0)
    layer = conv(7, 4, 1, bias=bias).double()
    x = torch.randn(2, 7, *spatial, dtype=torch.float64)
    upstream = torch.randn(2, 4, *spatial, dtype=torch.float64)
    expected_gradients = torch.autograd.grad(layer(x), tuple(layer.parameters()), upstream)
    for laid_out in (x, x.to(memory_format=layout)):
        y = mix_channels(layer, laid_out)
        torch.testing.assert_close(y, layer(x), rtol=1e-12, atol=1e-12)
        gradients = torch.autograd.grad(y, tuple(layer.parameters()), upstream)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-12, atol=1e-12)
    assert y.is_contiguous(memory_format=layout)


def test_an_image_of_one_channel_becomes_channels_last():
    """Both layouts are the same memory for one channel; what follows the stem wants the channels last."""
    y = mix_channels(nn.Conv3d(1, 8, 1), torch.ones(1, 1, 4, 4, 4))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_depthwise_part_of_one_voxel_is_taken_together_with_what_mixes(dim, bias):
    torch.manual_seed(0)
    layer, x = DepthwiseSeparableConv(dim, 8, 3, kernel_size=1, bias=bias), torch.randn(2, *(4, 5, 6)[:dim], 8)
    x = x.movedim(-1, 1)
    with_gradients = layer(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), with_gradients, rtol=1e-5, atol=1e-6)
