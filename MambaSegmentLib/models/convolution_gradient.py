"""3D convolutions that learn on a CPU: the same gradients as PyTorch's, in less time and memory.

**The weights' gradient is taken slice by slice.** oneDNN computes it of 3D images by unfolding them, of 2D images by a
kernel made for it. A 3D convolution is, for each offset along K, a 2D convolution of the slices that far apart, so the
2D kernel serves here, over a few slices at a time that stay in the processor's cache. Both directions together, one
thread of an AMD EPYC (avx2), two patches of 40 x 56 x 40 voxels: 8 channels 84 -> 56 ms, 16: 221 -> 172, 32: 621 ->
527; of one patch 64 to 32 channels 680 -> 450. Few channels into many gain nothing, and go PyTorch's way.

**A single small image takes oneDNN by name,** as convolution.py does where nothing learns, in both directions: the
gradient of the input is the convolution of the output's gradient with the mirrored kernel. 128 channels of 10 x 14 x 10
voxels: 78 -> 52 ms.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.operator import somebody_looks

_SLICES_BYTES = 3 << 20  # of the slices at hand, which a core's cache holds
_FEWEST_CHANNELS, _FEWEST_VOXELS = 8, 2048  # of smaller images, PyTorch's own is as quick
_UNFOLDED_AT_MOST, _UNFOLDED_FEWEST_CHANNELS = 20480, 4


def learns_by_slices(convolution: nn.Conv3d, x: Tensor, weight: Tensor) -> bool:
    """Whether this call is one for `convolve`: it will be differentiated, and keeps the size."""
    return (
        torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and is_for_onednn(convolution, x, weight)
        and x.numel() > 0
        and x.is_contiguous()  # in channels-last, PyTorch's own is as quick
        and _keeps_the_size(convolution)
        and _is_quicker(convolution, x)
    )


def is_for_onednn(convolution: nn.Conv3d, x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can be asked by name: on a CPU, in float32, for a usual convolution of x (B, C, K, J, I)."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 5
        and convolution.groups == 1
        and max(convolution.kernel_size) > 1  # of one voxel it is a product of matrices, which is quick
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not somebody_looks(x)  # a tracer knows the usual operator better
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of x (B, C, K, J, I) with odd kernels, zeros beyond the edges; y (B, out, K, J, I)."""
    result: Tensor = _Convolution.apply(x, weight, bias)
    return result


def left_to_unfolding(x: Tensor) -> bool:
    """Whether x (B, C, K, J, I) is a single image that PyTorch 2.13 keeps from oneDNN for its size."""
    return len(x) == 1 and x[0, :, :, :, 0].numel() <= _UNFOLDED_AT_MOST


def _is_quicker(convolution: nn.Conv3d, x: Tensor) -> bool:
    if left_to_unfolding(x):
        return convolution.in_channels >= _UNFOLDED_FEWEST_CHANNELS
    enough = convolution.in_channels >= _FEWEST_CHANNELS and x[0, 0].numel() >= _FEWEST_VOXELS
    return enough and 2 * convolution.in_channels >= convolution.out_channels


def _keeps_the_size(convolution: nn.Conv3d) -> bool:
    padding = convolution.padding
    return (
        max(convolution.stride) == max(convolution.dilation) == 1
        and not isinstance(padding, str)
        and all(size == 2 * pad + 1 for size, pad in zip(convolution.kernel_size, padding, strict=True))
    )


class _Convolution(torch.autograd.Function):
    """Its backward pass is made of PyTorch's operators alone, so that it can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _same_size(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        mirrored = weight.flip(2, 3, 4).transpose(0, 1).contiguous() if of_x else None
        return (
            None if mirrored is None else _same_size(gradient, mirrored, None),
            weight_gradient(x, gradient, weight) if of_weight else None,
            gradient.sum((0, 2, 3, 4)) if of_bias else None,
        )


def _same_size(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padding = [size // 2 for size in weight.shape[2:]]
    result: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, [1, 1, 1], [1, 1, 1], 1)
    return result


def weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """Sum over all voxels v of gradient(v) x(v + offset), for each offset in the kernel: (out, C, K, J, I) of it.

    Args:
        x: (B, C, K, J, I).
        gradient: of the result, (B, out, K, J, I).
        weight: its sizes count.
    """
    slices, widest = x.shape[2], max(x.shape[1], gradient.shape[1])
    at_once = max(1, _SLICES_BYTES // (4 * x.shape[0] * widest * x[0, 0, 0].numel()))
    total: Tensor | None = None
    for first in range(0, slices, at_once):
        part = _of_slices(x, gradient, weight, first, min(slices, first + at_once))
        total = part if total is None else total + part
    assert total is not None
    return total


def _of_slices(x: Tensor, gradient: Tensor, weight: Tensor, first: int, end: int) -> Tensor:
    """The part of the sum over the result's slices `first` to `end`."""
    reach, slices = weight.shape[2] // 2, x.shape[2]
    lowest = max(0, first - reach)
    inputs = x[:, :, lowest : min(slices, end + reach)].transpose(1, 2).contiguous()  # (B, slices, C, J, I)
    gradients = gradient[:, :, first:end].transpose(1, 2).contiguous()
    parts = []
    for index in range(weight.shape[2]):
        offset = index - reach
        begin, stop = max(first, -offset), min(end, slices - offset)  # where the voxel so far away is in the image
        if begin < stop:
            of_input = inputs[:, begin + offset - lowest : stop + offset - lowest].flatten(0, 1)
            of_result = gradients[:, begin - first : stop - first].flatten(0, 1)
            parts.append(_in_2d(of_input, of_result, weight[:, :, index]))
        else:
            parts.append(torch.zeros_like(weight[:, :, index]))
    return torch.stack(parts, 2)


def _in_2d(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    padding = [size // 2 for size in weight.shape[2:]]
    _, result, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, [False, True, False]
    )
    found: Tensor = result
    return found
