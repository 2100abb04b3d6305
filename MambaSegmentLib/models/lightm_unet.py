"""LightM-UNet: a small U-Net whose encoder has no convolutions but Mamba over all voxels, in 2 or 3 dimensions.

Shapes: B batch, C channels, spatial sizes in array order (K, J, I), each a multiple of 2 per halving (8 by default).
Sources: Liao et al. 2024, arXiv:2403.05246, and the second released version of its code (2024-03-29), whose weights
load here. Where they differ the code is followed: one scalar adjustment factor instead of a vector, one LayerNorm used
twice, two RVM layers in each residual block (21 in all), a first stage that does not halve, GroupNorm and ReLU before
the decoder's convolution, enlarging at each level, logits instead of probabilities. The network has 5.0 million
parameters; the paper's 1.87 million leave out the Mamba weights of an earlier version. Written from the paper and a
description of the code.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError
from .blocks import CONVOLUTIONS, DepthwiseSeparableConv, HalvingPool, enlarge_twice, group_norm, mix_channels
from .recomputed import Recomputed
from .renaming import Renaming
from .token_mixers import AttentionLayer, ConvLayer, MixerFactory, RVMLayer, SPMLayer

_MIXERS = ("rvm", "spm", "conv", "attention")


@dataclass(frozen=True)
class LightMUNetConfig:
    """Sizes of a LightM-UNet; the defaults are the published ones.

    Attributes:
        spatial_dims: 2 or 3.
        in_channels, num_classes: channels of the image and of the logits, background included; a network of regions
            that overlap has one for each and none for the background, so that 1 is a single region.
        init_filters: width at full resolution, a multiple of 8; doubled at each halving.
        blocks_down: residual blocks in each encoder stage; every stage but the first starts with a halving.
        blocks_up: decoder blocks at each level, from the coarsest; one level fewer than the encoder has.
        mixer: "rvm", the paper's layer; "spm", segmented parallel Mamba; for the paper's ablation "conv", a
            3-convolution in Mamba's place, or "attention", self-attention in the blocks of the last stage and Mamba in
            the others, where there are too many voxels for it.
        spm_shared_scan: one Mamba for the four segments of "spm", or one for each.
        pooling: "max", or "max+avg", the sum of both.
        adjustment: a learned factor on the residual inside each mixing layer; without it the factor is one.
        residual: that residual itself. The decoder's blocks keep theirs, as the ablation is of the mixing layer.
    """

    in_channels: int
    num_classes: int
    spatial_dims: int = 3
    init_filters: int = 32
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    blocks_up: tuple[int, ...] = (1, 1, 1)
    mixer: str = "rvm"
    spm_shared_scan: bool = True
    pooling: str = "max"
    adjustment: bool = True
    residual: bool = True

    def __post_init__(self) -> None:
        for name in ("blocks_down", "blocks_up"):  # a bundle's JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims is {self.spatial_dims}; expected 2 or 3")
        if self.in_channels < 1 or self.num_classes < 1:
            raise ConfigError(
                f"in_channels {self.in_channels}, num_classes {self.num_classes}: expected at least 1 of both"
            )
        if self.init_filters < 8 or self.init_filters % 8:
            raise ConfigError(f"init_filters is {self.init_filters}; GroupNorm's 8 groups need a multiple of 8")
        if not self.blocks_down or min((*self.blocks_down, *self.blocks_up)) < 1:
            raise ConfigError(
                f"blocks_down {self.blocks_down}, blocks_up {self.blocks_up}: every count must be at least 1"
            )
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ConfigError(
                f"blocks_up has {len(self.blocks_up)} levels; {len(self.blocks_down)} encoder stages "
                f"need {len(self.blocks_down) - 1}"
            )
        if self.mixer not in _MIXERS:
            raise ConfigError(f"mixer is {self.mixer!r}; expected one of {', '.join(map(repr, _MIXERS))}")

    def make_mixer(self, *, bottleneck: bool = False) -> MixerFactory:
        """What builds the mixing layers: of the blocks of the last stage, or of everything before them."""
        switches: dict[str, Any] = {"adjustment": self.adjustment, "skip": self.residual}
        if self.mixer == "spm":
            return functools.partial(SPMLayer, shared=self.spm_shared_scan, **switches)
        if self.mixer == "conv":
            return functools.partial(ConvLayer, dim=self.spatial_dims, **switches)
        if self.mixer == "attention" and bottleneck:
            return functools.partial(AttentionLayer, **switches)
        return functools.partial(RVMLayer, **switches)


class ResidualMixerBlock(Recomputed):
    """x + mix(ReLU(GN(mix(ReLU(GN(x))))))."""

    def __init__(self, channels: int, make_mixer: MixerFactory) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.mixer1, self.mixer2 = make_mixer(channels, channels), make_mixer(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.mixer1, RVMLayer) and isinstance(self.mixer2, RVMLayer) and self.mixer1.in_one_walk(x):
            y = self.mixer1.after_norm(self.norm1, x)
            return self.mixer2.after_norm(self.norm2, y, added=x, in_place=True)
        y = self.mixer1(F.relu(self.norm1(x), inplace=True))
        y = F.relu(self.norm2(y), inplace=True)  # y is bound anew at each step, so that the old one is freed
        return self.mixer2(y).add_(x)


class Halving(Recomputed):
    """Mix into the new width at the old resolution, then pool."""

    def __init__(self, dim: int, in_channels: int, out_channels: int, make_mixer: MixerFactory, pooling: str) -> None:
        super().__init__()
        self.mixer = make_mixer(in_channels, out_channels)
        self.pool = HalvingPool(dim, pooling)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.pool(self.mixer(x))
        return torch.cat([self.pool(slab) for slab in self.mixer.stream(x, multiple=2)], dim=2)


class DecoderBlock(Recomputed):
    """ReLU(GN(conv(ReLU(GN(x))) + s x)), the convolution depthwise separable."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.conv = DepthwiseSeparableConv(dim, channels, channels)
        self.skip_scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x), inplace=True)  # y is bound anew at each step, so that the old one is freed
        y = self.conv.depthwise(y)
        y = mix_channels(self.conv.pointwise, y).addcmul_(x, self.skip_scale)
        return F.relu(self.norm2(y), inplace=True)


class DecoderLevel(nn.Module):
    """Halve the channels, double the resolution, add the encoder's features (the last of `skips`), refine."""

    def __init__(self, dim: int, in_channels: int, blocks: int) -> None:
        super().__init__()
        channels = in_channels // 2
        self.reduce = CONVOLUTIONS[dim](in_channels, channels, 1, bias=False)
        self.blocks = nn.Sequential(*(DecoderBlock(dim, channels) for _ in range(blocks)))

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        return self.blocks(enlarge_twice(mix_channels(self.reduce, x)).add_(skips.pop()))


class LightMUNet(nn.Module):
    """(B, in_channels, *spatial) -> logits (B, num_classes, *spatial)."""

    def __init__(self, config: LightMUNetConfig) -> None:
        super().__init__()
        self.config = config
        dim, make_mixer = config.spatial_dims, config.make_mixer()
        widths = [config.init_filters * 2**stage for stage in range(len(config.blocks_down))]
        self.stem = DepthwiseSeparableConv(dim, config.in_channels, widths[0])
        self.encoder = nn.ModuleList()
        for stage, blocks in enumerate(config.blocks_down):
            block_mixer = config.make_mixer(bottleneck=stage == len(widths) - 1)
            layers: list[nn.Module] = [ResidualMixerBlock(widths[stage], block_mixer) for _ in range(blocks)]
            if stage > 0:
                layers.insert(0, Halving(dim, widths[stage - 1], widths[stage], make_mixer, config.pooling))
            self.encoder.append(nn.Sequential(*layers))
        self.decoder = nn.ModuleList(
            DecoderLevel(dim, width, blocks) for width, blocks in zip(widths[:0:-1], config.blocks_up, strict=True)
        )
        self.head_norm = group_norm(widths[0])
        self.head = DepthwiseSeparableConv(dim, widths[0], config.num_classes, kernel_size=1, bias=True)

    @property
    def size_multiple(self) -> int:
        """Every spatial size must be a multiple of this."""
        return 2 ** (len(self.config.blocks_down) - 1)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for level in self.decoder:
            x = level(x, skips)
        x = F.relu(self.head_norm(x), inplace=True)
        return self.head(x)

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what the network cannot take."""
        dims, channels = self.config.spatial_dims, self.config.in_channels
        if x.dim() != dims + 2 or x.shape[1] != channels:
            raise ShapeError(f"input has shape {tuple(x.shape)}; expected (batch, {channels}) and {dims} spatial sizes")
        if any(size == 0 or size % self.size_multiple for size in x.shape[2:]):
            raise ShapeError(
                f"spatial size {tuple(x.shape[2:])}: each must be a multiple of {self.size_multiple}; pad the input"
            )


# authors' names -> ours, applied in order
PUBLISHED_NAMES: Renaming = (
    (r"^convInit\.0\.conv\.", "stem.depthwise."),
    (r"^convInit\.1\.conv\.", "stem.pointwise."),
    (r"^down_layers\.(\d+)\.0\.0\.", r"encoder.\1.0.mixer."),
    (r"^down_layers\.0\.(\d+)\.", lambda match: f"encoder.0.{int(match[1]) - 1}."),  # index 0 is an identity there
    (r"^down_layers\.(\d+)\.(\d+)\.", r"encoder.\1.\2."),
    (r"^(encoder\.\d+\.\d+)\.conv([12])\.", r"\1.mixer\2."),
    (r"^up_samples\.(\d+)\.0\.conv\.", r"decoder.\1.reduce."),
    (r"^up_layers\.(\d+)\.(\d+)\.conv\.0\.conv\.", r"decoder.\1.blocks.\2.conv.depthwise."),
    (r"^up_layers\.(\d+)\.(\d+)\.conv\.1\.conv\.", r"decoder.\1.blocks.\2.conv.pointwise."),
    (r"^up_layers\.(\d+)\.(\d+)\.", r"decoder.\1.blocks.\2."),
    (r"^conv_final\.0\.", "head_norm."),
    (r"^conv_final\.2\.0\.conv\.", "head.depthwise."),
    (r"^conv_final\.2\.1\.conv\.", "head.pointwise."),
)


def refuse_other_versions(state_dict: Any) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if "convInit.conv.weight" in state_dict:
        return (
            "these weights are of the first released version of LightM-UNet (before 2024-03-29): its stem, head and "
            "decoder are full convolutions; this library has the second version"
        )
    return None
