"""The short convolution in front of the scan: depthwise, causal, followed by SiLU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import meta_scan
from .backends import choose_backend
from .operator import somebody_looks


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor) -> Tensor:
    """SiLU(bias + sum over j of weight_j x_(t - K + 1 + j)) for each channel.

    Args:
        x: (B, D, L), any strides.
        weight: (D, K). bias: (D,).
        tail: (B, D, K - 1), the inputs before the first step: zeros, or the last ones of the piece before.
    Returns:
        (B, D, L) in the dtype of x.
    """
    if x.device.type == "meta":
        return meta_scan.causal_conv_silu(x, weight, bias, tail)
    if somebody_looks(x):  # who cannot look into compiled kernels, nor follow the choice of them
        return _by_pytorch(x, weight, bias, tail)
    single = all(tensor.dtype == torch.float32 for tensor in (x, weight, bias, tail))
    if single and choose_backend(x.device, x.dtype).name == "numba":
        from . import numba_conv  # numba may not be there

        return numba_conv.causal_conv_silu(x, weight, bias, tail)
    return _by_pytorch(x, weight, bias, tail)


def _by_pytorch(x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor) -> Tensor:
    return F.silu(F.conv1d(torch.cat([tail, x], dim=2), weight[:, None], bias, groups=weight.shape[0]))


def tail_after(x: Tensor, tail: Tensor) -> Tensor:
    """The last K - 1 inputs, which the next piece of the sequence needs: (B, D, K - 1)."""
    taps = tail.shape[2]
    return x[:, :, x.shape[2] - taps :] if x.shape[2] >= taps else torch.cat([tail, x], dim=2)[:, :, -taps:]
