"""The residual U-Net that U-Mamba, MambaClinix and their control without Mamba are built on, in 2 or 3 dimensions.

Shapes: B batch, C channels, spatial sizes in array order (K, J, I), each a multiple of its axis' product of strides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError
from .renaming import Renaming
from .residual_blocks import Sizes, pointwise

Logits = Tensor | list[Tensor]


@dataclass(frozen=True, kw_only=True)
class ResidualUNetConfig:
    """Sizes of a U-Net as nnU-Net plans them, one entry per stage from full resolution down.

    Attributes:
        spatial_dims: 2 or 3.
        in_channels, num_classes: channels of the image and of the logits, background included; a network of regions
            that overlap has one for each and none for the background, so that 1 is a single region.
        features_per_stage: width of each stage.
        kernel_sizes: odd, one per stage and axis; a single number stands for all axes, or for all stages.
        strides: by how much each stage divides each axis; the first stage must keep the size.
        deep_supervision: return the logits of every resolution but the lowest.
    """

    in_channels: int
    num_classes: int
    features_per_stage: tuple[int, ...]
    kernel_sizes: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    spatial_dims: int = 3
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims is {self.spatial_dims}; expected 2 or 3")
        if self.in_channels < 1 or self.num_classes < 1:
            raise ConfigError(
                f"in_channels {self.in_channels}, num_classes {self.num_classes}: expected at least 1 of both"
            )
        object.__setattr__(self, "features_per_stage", tuple(self.features_per_stage))  # a bundle's JSON has lists
        if self.stages < 2 or min(self.features_per_stage) < 1:
            raise ConfigError(f"features_per_stage {self.features_per_stage}: expected two or more positive widths")
        for name in ("kernel_sizes", "strides"):
            object.__setattr__(self, name, self._per_stage_and_axis(name, getattr(self, name)))
        if any(size % 2 == 0 for kernel in self.kernel_sizes for size in kernel):
            raise ConfigError(f"kernel_sizes {self.kernel_sizes}: every size must be odd")
        if max(self.strides[0]) > 1:
            raise ConfigError(f"strides[0] is {self.strides[0]}; the first stage must keep the size (1 for each axis)")

    def _per_stage_and_axis(self, name: str, value: Any) -> tuple[Sizes, ...]:
        rows = [value] * self.stages if isinstance(value, int) else list(value)
        sizes = tuple((row,) * self.spatial_dims if isinstance(row, int) else tuple(row) for row in rows)
        if len(sizes) != self.stages or any(len(row) != self.spatial_dims for row in sizes):
            raise ConfigError(
                f"{name} is {value}; expected {self.stages} entries as features_per_stage has, each with "
                f"{self.spatial_dims} numbers, one per axis"
            )
        if any(size < 1 for row in sizes for size in row):
            raise ConfigError(f"{name} is {value}; every number must be at least 1")
        return sizes

    @property
    def stages(self) -> int:
        return len(self.features_per_stage)

    @property
    def size_multiples(self) -> Sizes:
        """The product of the strides along each axis; a spatial size must be a multiple of it."""
        return tuple(math.prod(along_axis) for along_axis in zip(*self.strides, strict=True))

    @property
    def size_multiple(self) -> int:
        """A size whose every axis is a multiple of this fits; `size_multiples` says what each axis needs."""
        return math.lcm(*self.size_multiples)

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what a network of these sizes cannot take."""
        dims, channels, multiples = self.spatial_dims, self.in_channels, self.size_multiples
        if x.dim() != dims + 2 or x.shape[1] != channels:
            raise ShapeError(f"input has shape {tuple(x.shape)}; expected (batch, {channels}) and {dims} spatial sizes")
        spatial = tuple(x.shape[2:])
        if any(size == 0 or size % multiple for size, multiple in zip(spatial, multiples, strict=True)):
            raise ShapeError(f"spatial size {spatial} must be a multiple of {multiples}, axis by axis; pad the input")
        if spatial == multiples:
            raise ShapeError(
                f"spatial size {spatial} leaves one voxel at the lowest resolution, which instance normalisation "
                f"cannot take; give at least twice {multiples} along one axis"
            )


class DecoderLevel(nn.Module):
    """Reduce the channels, enlarge to the next finer resolution, join the encoder's features, refine.

    The authors enlarge first; copying voxels and mixing the channels of each commute, so the cheaper order is taken.

    Args:
        in_channels, channels: of the level below and of this one.
        stride: by which the level below is coarser.
        blocks: what refines the joined features: 2 `channels` in, or `channels` without a skip; `channels` out.
        refine_skip: what the encoder's features pass through; None for a level that takes none.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: Sizes,
        blocks: nn.Module,
        refine_skip: nn.Module | None,
        num_classes: int,
    ) -> None:
        super().__init__()
        dim = len(stride)
        self.stride = tuple(float(factor) for factor in stride)
        self.reduce = pointwise(dim, in_channels, channels)
        self.refine_skip = refine_skip
        self.blocks = blocks
        self.head = pointwise(dim, channels, num_classes)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), scale_factor=self.stride, mode="nearest")
        if self.refine_skip is not None:
            x = torch.cat([x, self.refine_skip(skip)], dim=1)
        return self.blocks(x)


class ResidualUNet(nn.Module):
    """(B, in_channels, *spatial) -> logits (B, num_classes, *spatial); with deep supervision a list, largest first.

    Args:
        stem: image to the width of the first stage.
        stages: the convolutions of each stage, which begin with its stride.
        mixers: what follows each stage; its output is the skip and the input of the next stage.
        bottleneck: what the decoder's input passes through.
        decoder: levels from the coarsest to full resolution.
    """

    def __init__(
        self,
        config: ResidualUNetConfig,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        mixers: Sequence[nn.Module],
        bottleneck: nn.Module,
        decoder: Sequence[DecoderLevel],
    ) -> None:
        super().__init__()
        self.config = config
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.mixers = nn.ModuleList(mixers)
        self.bottleneck = bottleneck
        self.decoder = nn.ModuleList(decoder)

    @property
    def size_multiple(self) -> int:
        return self.config.size_multiple

    def forward(self, x: Tensor) -> Logits:
        self.check_input(x)
        x = self.stem(x)
        skips: list[Tensor] = []
        for stage in range(len(self.stages)):
            x = self.encode(stage, x)
            skips.append(x)
        x = self.bottleneck(skips.pop())
        logits: list[Tensor] = []
        for level in self.decoder:
            assert isinstance(level, DecoderLevel)
            x = level(x, skips.pop())
            if self.config.deep_supervision or not skips:
                logits.insert(0, level.head(x))
        return logits if self.config.deep_supervision else logits[0]

    def encode(self, stage: int, x: Tensor) -> Tensor:
        """One stage of the encoder."""
        return self.mixers[stage](self.stages[stage](x))

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what the network cannot take."""
        self.config.check_input(x)


# authors' names -> ours, for the parts that all have in common; applied in order
COMMON_NAMES: Renaming = (
    (r"^decoder\.encoder\.", "encoder."),  # the authors' decoder holds the encoder: each tensor has a second name
    (r"\.all_modules\.0\.", ".conv."),  # and their convolution blocks hold each part twice
    (r"\.all_modules\.1\.", ".norm."),
    (r"^encoder\.(stem|stages)\.", r"\1."),
    (r"^decoder\.upsample_layers\.(\d+)\.conv\.", r"decoder.\1.reduce."),
    (r"^decoder\.seg_layers\.(\d+)\.", r"decoder.\1.head."),
    (r"\.conv([12])\.(conv|norm)\.", r".\2\1."),
    (r"\.conv3\.", ".shortcut."),
)
