"""The convolutional parts of the residual U-Nets: what U-Mamba, MambaClinix and their control without Mamba share.

After nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): instance normalisation (eps 1e-5, affine) and leaky
ReLU (0.01). `kernel` and `stride` have one entry per spatial axis.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import CONVOLUTIONS
from .recomputed import Recomputed

SLOPE = 0.01  # of the leaky ReLU for negative values
Sizes = tuple[int, ...]

_NORMS: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_MEAN_POOLS: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: Sizes,
    stride: Sizes | None = None,
    *,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """A convolution that keeps the size, or divides it by `stride`."""
    make: Callable[..., nn.Module] = CONVOLUTIONS[len(kernel)]
    padding = tuple(size // 2 for size in kernel)
    return make(in_channels, out_channels, kernel, stride or 1, padding, groups=groups, bias=bias)


def pointwise(dim: int, in_channels: int, out_channels: int, *, bias: bool = True) -> nn.Module:
    """Mix the channels of each voxel."""
    return convolution(in_channels, out_channels, (1,) * dim, bias=bias)


def instance_norm(dim: int, channels: int) -> nn.Module:
    return _NORMS[dim](channels, affine=True)


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def start_convolutions(net: nn.Module) -> None:
    """Kaiming's normal initialisation of every convolution over space, their biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ConvNormAct(Recomputed):
    """LReLU(IN(conv(x)))."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Sizes) -> None:
        super().__init__()
        self.conv = convolution(in_channels, out_channels, kernel)
        self.norm = instance_norm(len(kernel), out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.norm(self.conv(x)))


class PooledShortcut(nn.Module):
    """The mean over each stride, then IN(conv(x)) with a 1-convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: Sizes) -> None:
        super().__init__()
        dim = len(stride)
        self.pool = mean_pool(stride)
        self.conv = pointwise(dim, in_channels, out_channels, bias=False)
        self.norm = instance_norm(dim, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.pool(x)))


def mean_pool(stride: Sizes) -> nn.Module:
    return nn.Identity() if max(stride) == 1 else _MEAN_POOLS[len(stride)](stride, stride)


class ResidualBlock(Recomputed):
    """LReLU(IN(conv(LReLU(IN(conv(x))))) + shortcut(x)), the stride in the first convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Sizes, stride: Sizes, shortcut: nn.Module) -> None:
        super().__init__()
        dim = len(kernel)
        self.conv1 = convolution(in_channels, out_channels, kernel, stride)
        self.norm1 = instance_norm(dim, out_channels)
        self.conv2 = convolution(out_channels, out_channels, kernel)
        self.norm2 = instance_norm(dim, out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.norm1(self.conv1(x)))  # y is bound anew at each step, so that the old one is freed
        y = self.conv2(y)
        y = self.norm2(y)
        return activate(y.add_(self.shortcut(x)))


def projecting_block(in_channels: int, out_channels: int, kernel: Sizes, stride: Sizes | None = None) -> ResidualBlock:
    """The shortcut is a strided 1-convolution, even where sizes and channels stay."""
    stride = stride or (1,) * len(kernel)
    shortcut = convolution(in_channels, out_channels, (1,) * len(kernel), stride)
    return ResidualBlock(in_channels, out_channels, kernel, stride, shortcut)


def pooling_block(in_channels: int, out_channels: int, kernel: Sizes, stride: Sizes) -> ResidualBlock:
    """The shortcut pools where there is a stride, and projects where the channels change (He et al. 2018, ResNet-D)."""
    same_width = in_channels == out_channels
    shortcut = mean_pool(stride) if same_width else PooledShortcut(in_channels, out_channels, stride)
    return ResidualBlock(in_channels, out_channels, kernel, stride, shortcut)


def plain_block(channels: int, kernel: Sizes) -> ResidualBlock:
    """The shortcut is the identity."""
    return pooling_block(channels, channels, kernel, (1,) * len(kernel))
