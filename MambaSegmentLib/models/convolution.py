"""A 3D convolution that takes oneDNN for a single small image too.

PyTorch (2.13, `use_mkldnn` in ATen's Convolution.cpp) leaves an ungrouped float32 3D convolution of one image on a CPU
to its own unfolding if channels times the first two sizes are at most 20480. That takes up to ten times as long and
memory for 27 copies of the input: 1 channel, 56 x 112 x 112: 91 against 9 ms and 76 against 3 MB; 8 channels,
40 x 56 x 40: 89 against 10 ms. Here such a convolution is asked of oneDNN by name. The gradient would take the slow way
again, so this is for prediction alone; training with two images at once takes oneDNN by itself.
"""

import torch
from torch import Tensor, nn

from ..kernels.operator import somebody_looks

_UNFOLDED_AT_MOST = 20480


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`: the same parameters, the same answers but for rounding."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._would_be_unfolded(input, weight):
            return super()._conv_forward(input, weight, bias)
        padding, stride, dilation = list(self.padding), list(self.stride), list(self.dilation)
        result: Tensor = torch.ops.aten.mkldnn_convolution(input, weight, bias, padding, stride, dilation, self.groups)
        return result

    def _would_be_unfolded(self, x: Tensor, weight: Tensor) -> bool:
        return (
            not torch.is_grad_enabled()
            and x.device.type == "cpu"
            and x.dtype == weight.dtype == torch.float32
            and x.dim() == 5
            and len(x) == 1
            and x[0, :, :, :, 0].numel() <= _UNFOLDED_AT_MOST
            and self.groups == 1
            and max(self.kernel_size) > 1  # of one voxel it is a product of matrices, which is quick
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available()
            and bool(torch.backends.mkldnn.enabled)
            and not somebody_looks(x)  # a tracer knows the usual operator better
        )
