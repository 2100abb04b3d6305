"""3D convolutions that learn slice by slice, against PyTorch's own in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from MambaSegmentLib.models import convolution_gradient
from MambaSegmentLib.models.convolution import Conv3d
from MambaSegmentLib.models.convolution_gradient import learns_by_slices, weight_gradient

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


def gradients(layer: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    """The answer, and the gradients of a weighted sum of it: of the input, of the layer's parameters."""
    x = x.clone().requires_grad_()
    answer = layer(x)
    return [answer.detach(), *torch.autograd.grad((answer * weights).sum(), (x, *layer.parameters()))]


def in_float64(layer: Conv3d) -> nn.Conv3d:
    options = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")}
    plain = nn.Conv3d(layer.in_channels, layer.out_channels, bias=layer.bias is not None, **options).double()
    plain.load_state_dict({name: tensor.double() for name, tensor in layer.state_dict().items()})
    return plain


def test_the_gradient_of_a_sum_by_hand():
    """Three voxels along K: the centre of the kernel sees all, each end the two that have a neighbour there."""
    x, ones = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1, 1)
    found = weight_gradient(x, ones, torch.empty(1, 1, 3, 1, 1))
    assert found.flatten().tolist() == [1.0 + 2.0, 1.0 + 2.0 + 4.0, 2.0 + 4.0]


@needs_onednn
@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(*[st.sampled_from((1, 3, 5))] * 3).filter(lambda kernel: max(kernel) > 1),
    bias=st.booleans(),
    slices_bytes=st.sampled_from((1, 2000, 1 << 20)),
    seed=st.integers(0, 99),
)
def test_answers_and_gradients_are_those_of_float64(batch, channels, size, kernel, bias, slices_bytes, seed):
    torch.manual_seed(seed)
    padding = tuple(edge // 2 for edge in kernel)
    layer = Conv3d(*channels, kernel, padding=padding, bias=bias)
    x, weights = torch.randn(batch, channels[0], *size), torch.randn(batch, channels[1], *size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution_gradient, "_SLICES_BYTES", slices_bytes)
        patch.setattr(convolution_gradient, "_is_quicker", lambda *_: True)
        assert learns_by_slices(layer, x, layer.weight)
        found = gradients(layer, x, weights)
    for one, other in zip(found, gradients(in_float64(layer), x.double(), weights.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@needs_onednn
def test_gradients_can_be_differentiated_again():
    torch.manual_seed(1)
    layer = Conv3d(8, 8, 3, padding=1)
    x = torch.randn(2, 8, 12, 14, 13)
    second = []
    for each, image in ((layer, x), (in_float64(layer), x.double())):
        image = image.clone().requires_grad_()
        (first,) = torch.autograd.grad(each(image).square().sum(), image, create_graph=True)
        second.append(torch.autograd.grad(first.square().mean(), (image, each.weight)))
    for one, other in zip(*second, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


@needs_onednn
def test_the_same_again_has_the_same_bits_and_so_has_recomputation():
    torch.manual_seed(2)
    layer = Conv3d(16, 16, 3, padding=1)
    x, weights = torch.randn(2, 16, 20, 28, 20), torch.randn(2, 16, 20, 28, 20)
    first = gradients(layer, x, weights)
    assert all(torch.equal(one, other) for one, other in zip(first, gradients(layer, x, weights), strict=True))
    y = x.clone().requires_grad_()
    (checkpoint(layer, y, use_reentrant=False) * weights).sum().backward()
    assert torch.equal(y.grad, first[1])
    assert torch.equal(layer.weight.grad, first[2])


@needs_onednn
def test_what_is_held_still_gets_no_gradient_and_the_rest_does():
    layer = Conv3d(8, 8, 3, padding=1)
    x = torch.randn(1, 8, 16, 16, 16, requires_grad=True)
    layer.weight.requires_grad_(False)
    assert learns_by_slices(layer, x, layer.weight)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None and layer.bias.grad is not None


@needs_onednn
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Conv3d(8, 8, 3, padding=1, stride=2), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding=0), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding=2, dilation=2), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding=1, groups=2), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding="same"), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding=1, padding_mode="circular"), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 1), torch.randn(1, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding=1), torch.randn(8, 16, 16, 16)),  # an image without the axis of a batch
        (Conv3d(8, 8, 3, padding=1), torch.randn(1, 16, 16, 16, 8).movedim(-1, 1)),  # channels-last
        (Conv3d(8, 8, 3, padding=1).double(), torch.randn(1, 8, 16, 16, 16).double()),
        (Conv3d(1, 8, 3, padding=1), torch.randn(2, 1, 16, 16, 16)),  # as quick in PyTorch
        (Conv3d(8, 64, 3, padding=1), torch.randn(2, 8, 16, 16, 16)),
        (Conv3d(8, 8, 3, padding=1), torch.randn(2, 8, 6, 6, 6)),
    ],
)
def test_everything_else_is_left_to_pytorch(layer, x):
    assert not learns_by_slices(layer, x, layer.weight)


@needs_onednn
def test_where_nothing_learns_nothing_changes():
    layer, x = Conv3d(8, 8, 3, padding=1), torch.randn(2, 8, 16, 16, 16)
    assert learns_by_slices(layer, x, layer.weight)
    with torch.no_grad():
        assert not learns_by_slices(layer, x, layer.weight)
    layer.requires_grad_(False)
    assert not learns_by_slices(layer, x, layer.weight)


@needs_onednn
def test_whoever_counts_sees_the_usual_operator():
    layer, x = Conv3d(8, 8, 3, padding=1), torch.randn(2, 8, 16, 16, 16)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 2 * 8 * 8 * 27 * 16**3


@needs_onednn
def test_pytorch_still_unfolds_small_images_that_learn():
    """If not, that half of the module has no reason to be any more."""
    layer, x = nn.Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 16, 16, 16)
    with torch.profiler.profile() as seen:
        layer(x).sum().backward()
    assert "aten::slow_conv3d_forward" in {event.key for event in seen.key_averages()}
