"""Small parts that several networks share: convolutions, normalisation, pooling and enlarging in 2 or 3 dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..kernels.operator import somebody_looks
from .convolution import Conv2d, Conv3d

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: Conv2d, 3: Conv3d}
_GROUPS = 8


def group_norm(channels: int) -> nn.GroupNorm:
    """Eight groups, as the networks after MONAI's SegResNet use."""
    return nn.GroupNorm(_GROUPS, channels)


def mix_channels(conv: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """The 1-convolution `conv` of x; the layout stays where channels lie last in memory.

    There it is a product of matrices. PyTorch's 3D convolution would write the other layout, in which the depthwise
    convolution after it is many times slower and copies its input and output.
    """
    if x.stride(1) != 1 and x.shape[1] > 1:
        return conv(x)
    return F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias).movedim(-1, 1)


class DepthwiseSeparableConv(nn.Module):
    """A convolution on each channel by itself, then one that mixes channels at each voxel.

    Args:
        dim: 2 or 3.
        kernel_size: odd; the depthwise part keeps the size.
        bias: on both parts.
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = False) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dim]
        self.depthwise = convolution(
            in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=in_channels, bias=bias
        )
        self.pointwise = convolution(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        alone = not (torch.is_grad_enabled() or somebody_looks(x))  # who counts wants the network as it is published
        if alone and max(self.depthwise.kernel_size) == 1:
            return self._as_one_product(x)
        return mix_channels(self.pointwise, self.depthwise(x))

    def _as_one_product(self, x: Tensor) -> Tensor:
        """A depthwise part of one voxel only scales: both parts are one matrix, and the tensor between is spared."""
        weight = self.pointwise.weight.flatten(1)
        bias = self.pointwise.bias
        if self.depthwise.bias is not None:
            bias = weight @ self.depthwise.bias + (0 if bias is None else bias)
        return F.linear(x.movedim(1, -1), weight * self.depthwise.weight.flatten(), bias).movedim(-1, 1)


class HalvingPool(nn.Module):
    """Halve every axis: the maximum of each 2-cube, or maximum plus mean ("max+avg", the combined pooling)."""

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        if kind not in ("max", "max+avg"):
            raise ConfigError(f"pooling is {kind!r}; expected 'max' or 'max+avg'")
        self.kind = kind
        self.max = nn.MaxPool3d(2) if dim == 3 else nn.MaxPool2d(2)
        self.mean = nn.AvgPool3d(2) if dim == 3 else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.max(x) if self.kind == "max" else self.max(x) + self.mean(x)


def enlarge_twice(x: Tensor) -> Tensor:
    """Double every spatial axis by linear interpolation between voxel centres."""
    return F.interpolate(x, scale_factor=2, mode="trilinear" if x.dim() == 5 else "bilinear", align_corners=False)
