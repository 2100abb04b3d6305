"""Convolutions that keep away from two faults of PyTorch's on CPUs. The same parameters and answers as torch.nn's.

**Strided 1-convolutions** read the voxels that they take and no others. On one thread the backward pass of PyTorch 2.13
over channels-last images writes beyond its memory there: heap corruption, in plain PyTorch as well.

**A single small image in 3D takes oneDNN.** PyTorch (2.13, `use_mkldnn` in ATen's Convolution.cpp) leaves an ungrouped
float32 3D convolution of one image on a CPU to its own unfolding if channels times the first two sizes are at most
20480. That takes up to ten times as long, and memory for 27 copies of the input: 1 channel, 56 x 112 x 112: 91 against
9 ms and 76 against 3 MB; 8 channels, 40 x 56 x 40: 89 against 10 ms. Here such a convolution is asked of oneDNN by
name; where something learns, convolution_gradient.py does that in both directions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution_gradient import convolve, is_for_onednn, learns_by_slices, left_to_unfolding


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` but for the faults above."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _only_skips(self):
            return F.conv2d(_taken(input, self.stride), weight, bias, groups=self.groups)
        return super()._conv_forward(input, weight, bias)


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` but for the faults above."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _only_skips(self):
            return F.conv3d(_taken(input, self.stride), weight, bias, groups=self.groups)
        if learns_by_slices(self, input, weight):
            return convolve(input, weight, bias)
        if not self._would_be_unfolded(input, weight):
            return super()._conv_forward(input, weight, bias)
        padding, stride, dilation = list(self.padding), list(self.stride), list(self.dilation)
        result: Tensor = torch.ops.aten.mkldnn_convolution(input, weight, bias, padding, stride, dilation, self.groups)
        return result

    def _would_be_unfolded(self, x: Tensor, weight: Tensor) -> bool:
        return not torch.is_grad_enabled() and is_for_onednn(self, x, weight) and left_to_unfolding(x)


def _only_skips(convolution: nn.Conv2d | nn.Conv3d) -> bool:
    """A kernel of one voxel that leaves voxels out."""
    padded = any(convolution.padding) if not isinstance(convolution.padding, str) else False
    return max(convolution.kernel_size) == 1 and max(convolution.stride) > 1 and not padded


def _taken(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    for axis, step in enumerate(stride, start=2):
        x = x[(slice(None),) * axis + (slice(None, None, step),)]
    return x.contiguous()
