"""The convolution that asks oneDNN by name, against PyTorch's own."""

import pytest
import torch
from torch import nn
from torch.profiler import profile

from MambaSegmentLib.models.convolution import Conv3d

SHAPE = (10, 12, 14)


def operators_of(convolution: nn.Conv3d, x: torch.Tensor) -> set[str]:
    with profile() as seen:
        convolution(x)
    return {event.key for event in seen.key_averages()}


def same(convolution: Conv3d, x: torch.Tensor) -> None:
    plain = nn.Conv3d.forward
    double = nn.functional.conv3d(
        x.double(), convolution.weight.double(), None if convolution.bias is None else convolution.bias.double(),
        convolution.stride, convolution.padding, convolution.dilation, convolution.groups,
    )  # fmt: skip
    torch.testing.assert_close(plain(convolution, x).double(), double, rtol=0, atol=2e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": (1, 2, 2), "padding": (0, 1, 1)},
        {"dilation": 2, "padding": 2},
        {"bias": False},
    ],
)
@torch.inference_mode()
def test_one_small_image_is_convolved_by_onednn_with_the_same_answer(options):
    convolution, x = Conv3d(3, 5, 3, **{"padding": 1} | options), torch.randn(1, 3, *SHAPE)
    names = operators_of(convolution, x)
    assert "aten::mkldnn_convolution" in names
    assert "aten::slow_conv3d_forward" not in names
    same(convolution, x)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@torch.inference_mode()
def test_pytorch_still_unfolds_such_an_image():
    """If not, the class has no reason to be any more."""
    assert "aten::slow_conv3d_forward" in operators_of(nn.Conv3d(3, 5, 3, padding=1), torch.randn(1, 3, *SHAPE))


def test_gradients_take_pytorchs_way():
    convolution, x = Conv3d(2, 2, 3, padding=1), torch.randn(1, 2, *SHAPE, requires_grad=True)
    convolution(x).sum().backward()
    expected = nn.Conv3d(2, 2, 3, padding=1)
    expected.load_state_dict(convolution.state_dict())
    other = x.detach().clone().requires_grad_()
    expected(other).sum().backward()
    assert torch.equal(x.grad, other.grad)
    assert torch.equal(convolution.weight.grad, expected.weight.grad)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("convolution", "x"),
    [
        (Conv3d(2, 3, 1), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 2, 3, groups=2, padding=1), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 3, 3, padding="same"), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 3, 3, padding=1, padding_mode="replicate"), torch.randn(1, 2, *SHAPE)),
        (Conv3d(2, 3, 3).double(), torch.randn(1, 2, *SHAPE).double()),
        (Conv3d(2, 3, 3), torch.randn(2, *SHAPE)),  # an image without the axis of a batch
        (Conv3d(2, 3, 3), torch.randn(1, 2, 120, 90, 4)),  # large: oneDNN anyway
    ],
)
def test_everything_else_is_left_to_pytorch(convolution, x):
    assert not convolution._would_be_unfolded(x, convolution.weight)
    assert torch.equal(convolution(x), nn.Conv3d.forward(convolution, x))
