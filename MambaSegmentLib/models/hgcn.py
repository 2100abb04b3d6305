"""HGCN: convolutions that join neighbourhoods of growing order, after MambaClinix (Bian et al. 2024, arXiv:2409.12533).

"Gated" by name alone: the paper's equations 3 and 6 have an activation and products, the released code, which is
followed here, only sums, so that the interaction is linear; the factor of its depthwise branch is the constant one. The
idea without those changes: Rao et al. 2022, "HorNet", arXiv:2207.14284.
"""

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .drop_path import DropPath
from .recomputed import Recomputed
from .residual_blocks import Sizes, activate, convolution, pointwise

_FIRST_LAYER_SCALE = 1e-6


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each voxel: (B, C, *spatial) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class HighOrderInteraction(nn.Module):
    """Parts of doubling width, each joined to what the narrower ones became.

    Args:
        channels: C, a multiple of 2^(order - 1).
        order: number of parts; they have C / 2^(order - 1), ..., C / 2, C channels.
        kernel: of the depthwise convolution that gives each part its neighbourhood.
    """

    def __init__(self, channels: int, order: int, kernel: Sizes) -> None:
        super().__init__()
        if order < 1 or channels % 2 ** (order - 1):
            raise ConfigError(
                f"an HGCN of order {order} halves its {channels} channels (half the stage's width) {order - 1} times, "
                f"which needs a multiple of {2 ** max(order - 1, 0)}; choose hgcn_orders or features_per_stage to fit"
            )
        dim = len(kernel)
        self.widths = [channels // 2**i for i in reversed(range(order))]
        total = sum(self.widths)
        self.proj_in = pointwise(dim, channels, 2 * channels)
        self.neighbours = convolution(total, total, kernel, groups=total)
        self.widen = nn.ModuleList(pointwise(dim, width, 2 * width) for width in self.widths[:-1])
        self.proj_out = pointwise(dim, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        base, rest = self.proj_in(x).split([self.widths[0], sum(self.widths)], dim=1)
        first, *others = self.neighbours(rest).split(self.widths, dim=1)
        joined = base + first
        for widen, part in zip(self.widen, others, strict=True):
            joined = widen(joined) + part
        return self.proj_out(joined)


class HGCNBlock(Recomputed):
    """x + conv(LReLU(conv(LN(t)))), t = r + scale * interaction(LN(r)), r = x reduced to half its channels.

    Args:
        channels: even.
        drop_rate: probability, while training, that a sample skips the interaction, and again that it skips all.
    """

    def __init__(self, channels: int, order: int, kernel: Sizes, drop_rate: float = 0.0) -> None:
        super().__init__()
        if channels % 2:
            raise ConfigError(f"an HGCN halves its channels; {channels} are odd")
        half = channels // 2
        self.reduce = pointwise(len(kernel), channels, half)
        self.norm1 = ChannelLayerNorm(half)
        self.interaction = HighOrderInteraction(half, order, kernel)
        self.scale = nn.Parameter(torch.full((half,), _FIRST_LAYER_SCALE))
        self.norm2 = ChannelLayerNorm(half)
        self.conv1 = convolution(half, channels, kernel)
        self.conv2 = convolution(channels, channels, kernel)
        self.drop_path = DropPath(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        scale = self.scale.view(-1, *[1] * (x.dim() - 2))
        reduced = reduced + self.drop_path(scale * self.interaction(self.norm1(reduced)))
        out = self.conv2(activate(self.conv1(self.norm2(reduced))))
        return x + self.drop_path(out)
