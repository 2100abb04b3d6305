"""The compiled convolution against PyTorch's own, values and gradients."""

import pytest
import torch

from MambaSegmentLib.kernels import causal_conv_silu, tail_after


def conv_inputs(batch, channels, length, taps, channels_last):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, length, channels) if channels_last else (batch, channels, length)
    x = torch.randn(*shape, generator=generator)
    return [
        x.transpose(1, 2) if channels_last else x,
        torch.randn(channels, taps, generator=generator),
        torch.randn(channels, generator=generator),
        torch.randn(batch, channels, taps - 1, generator=generator),
    ]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("channels", [1, 16, 20])
@pytest.mark.parametrize(("length", "taps"), [(1, 4), (2, 4), (63, 4), (64, 3), (65, 2), (130, 4)])
def test_matches_double_precision_with_gradients(length, taps, channels, channels_last):
    inputs = conv_inputs(2, channels, length, taps, channels_last)
    single = [tensor.clone().requires_grad_() for tensor in inputs]
    double = [tensor.double().requires_grad_() for tensor in inputs]  # runs through PyTorch's convolution
    y, expected = causal_conv_silu(*single), causal_conv_silu(*double)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(y, single, upstream)
    for actual, wanted in zip(gradients, torch.autograd.grad(expected, double, upstream.double()), strict=True):
        torch.testing.assert_close(actual.double(), wanted, rtol=1e-4, atol=1e-4)


def test_hand_made_answer():
    """Taps (1, 10): p_t = x_(t-1) + 10 x_t, with 5 before the first step; then p / (1 + exp(-p))."""
    x = torch.tensor([[[1.0, 2.0]]])
    y = causal_conv_silu(x, torch.tensor([[1.0, 10.0]]), torch.zeros(1), torch.tensor([[[5.0]]]))
    torch.testing.assert_close(y, torch.tensor([[[15.0, 21.0]]]), rtol=1e-5, atol=1e-4)  # SiLU is the identity there


@pytest.mark.parametrize("cut", [1, 2, 3, 50])
def test_a_streamed_sequence_gives_the_result_of_one_pass(cut):
    x, weight, bias, tail = conv_inputs(1, 16, 100, 4, channels_last=True)
    first, second = x[..., :cut], x[..., cut:]
    pieces = [
        causal_conv_silu(first, weight, bias, tail),
        causal_conv_silu(second, weight, bias, tail_after(first, tail)),
    ]
    torch.testing.assert_close(torch.cat(pieces, 2), causal_conv_silu(x, weight, bias, tail))


def test_it_is_traced_as_a_whole():
    """The choice among kernels cannot be traced, and would cut a network that is compiled into pieces."""
    inputs = conv_inputs(1, 16, 40, 4, channels_last=True)
    traced = torch.compile(causal_conv_silu, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(*inputs), causal_conv_silu(*inputs))
