"""Swin-UMamba: the encoder of VMamba-Tiny in a 2D U-Net whose stem, skips and decoder are convolutional.

Shapes: B batch, C channels, (H, W) image, both multiples of 32 at the published depth.
Sources: Liu et al. 2024, "Swin-UMamba", arXiv:2402.03302, and its released code, whose weights load here. Where they
differ the code is followed: the stem is a 7x7 convolution and an affine InstanceNorm; the decoder level at 1/16 has no
head. Trained files hold the coarsest head as it started, since its loss has the weight 0. There are two generations:
the code before 6 March 2024 has no decoder level at 1/16 and never uses its deepest VSS stage; the paper's figures
are of the second one. Written from the paper and a description of the code; the convolutional blocks are those of
UNETR (Hatamizadeh et al. 2021, arXiv:2103.10504).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .recomputed import Recomputed
from .renaming import Renaming
from .vss import PUBLISHED_NAMES_OF_PARTS, VSSEncoder, check_image, check_positive, start_linear_layers

DROP_PATH = 0.2
HEADS = 4


@dataclass(frozen=True)
class SwinUMambaConfig:
    """Sizes of a Swin-UMamba; the defaults are the published ones.

    Attributes:
        in_channels, num_classes: channels of the image and of the logits, background included; a network of regions
            that overlap has one for each and none for the background, so that 1 is a single region.
        feature_sizes: width of the stem, of the skips and of the decoder at 1, 1/2, 1/4, 1/8 and 1/16 of the size.
        hidden_size: width of the bottleneck, that of the last encoder stage.
        encoder_dims, encoder_depths: width and number of blocks of each VSS stage, from 1/4 to 1/32 of the size.
        d_state: states of each scan.
        deep_supervision: logits at four sizes instead of the full one alone.
        generation: 2, or 1 for weights of the first release.
    """

    spatial_dims: ClassVar[int] = 2
    in_channels: int
    num_classes: int
    feature_sizes: tuple[int, ...] = (48, 96, 192, 384, 768)
    hidden_size: int = 768
    encoder_dims: tuple[int, ...] = (96, 192, 384, 768)
    encoder_depths: tuple[int, ...] = (2, 2, 9, 2)
    d_state: int = 16
    deep_supervision: bool = False
    generation: int = 2

    def __post_init__(self) -> None:
        for name in ("feature_sizes", "encoder_dims", "encoder_depths"):  # a bundle's JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_positive(in_channels=self.in_channels, num_classes=self.num_classes, d_state=self.d_state)
        check_positive(
            feature_sizes=self.feature_sizes, encoder_dims=self.encoder_dims, encoder_depths=self.encoder_depths
        )
        if not len(self.feature_sizes) - 1 == len(self.encoder_dims) == len(self.encoder_depths) == 4:
            raise ConfigError(
                f"{len(self.feature_sizes)} feature_sizes, {len(self.encoder_dims)} encoder_dims and "
                f"{len(self.encoder_depths)} encoder_depths; expected 5, 4 and 4"
            )
        if self.hidden_size != self.encoder_dims[-1]:
            raise ConfigError(
                f"hidden_size is {self.hidden_size}; expected the last of encoder_dims {self.encoder_dims}"
            )
        if self.generation not in (1, 2):
            raise ConfigError(f"generation is {self.generation}; expected 1 (first release) or 2")


class ResidualConvBlock(Recomputed):
    """LeakyReLU(x + IN(conv(LeakyReLU(IN(conv(x)))))), 3x3; another width takes x through IN(1x1 conv)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(F.instance_norm(self.conv1(x)), 0.01, inplace=True)
        y = self.conv2(y)  # y is bound anew at each step, so that the old one is freed
        y = F.instance_norm(y)
        y = y + (x if self.shortcut is None else F.instance_norm(self.shortcut(x)))
        return F.leaky_relu(y, 0.01, inplace=True)


class UpLevel(nn.Module):
    """Enlarge twice by a transposed convolution, put the skip behind, refine."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)
        self.block = ResidualConvBlock(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([self.enlarge(x), skip], dim=1))


class SwinUMamba(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes, H, W).

    With `deep_supervision`, which may be switched at any time, a list of logits at 1, 1/2, 1/4 and 1/8 of the size.
    """

    def __init__(self, config: SwinUMambaConfig) -> None:
        super().__init__()
        self.config, self.deep_supervision = config, config.deep_supervision
        sizes, dims = config.feature_sizes, config.encoder_dims
        self.stem = nn.Sequential(
            nn.Conv2d(config.in_channels, sizes[0], 7, stride=2, padding=3),
            nn.InstanceNorm2d(sizes[0], affine=True),
        )
        self.encoder = VSSEncoder(sizes[0], 2, dims, config.encoder_depths, config.d_state, DROP_PATH)
        skip_inputs = (config.in_channels, sizes[0], *dims[:3])  # image, stem, stages 0 to 2
        self.skips = nn.ModuleList(ResidualConvBlock(*widths) for widths in zip(skip_inputs, sizes, strict=True))
        level_inputs = (*sizes[1:], config.hidden_size)[: 3 + config.generation]
        self.decoder = nn.ModuleList(  # from the finest, so that the generations differ in the last one alone
            UpLevel(*widths) for widths in zip(level_inputs, sizes, strict=False)
        )
        self.last = ResidualConvBlock(sizes[0], sizes[0])
        self.heads = nn.ModuleList(nn.Conv2d(width, config.num_classes, 1) for width in sizes[:HEADS])
        start_linear_layers(self.encoder)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 32

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what the network cannot take."""
        check_image(x, self.config.in_channels, self.size_multiple)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self.check_input(x)
        stem = self.stem(x)
        _, stages = self.encoder(stem, stages=len(self.decoder) - 1)
        maps = [x, stem, *(stage.permute(0, 3, 1, 2) for stage in stages)]
        skips = [skip(y) for skip, y in zip(self.skips, maps, strict=False)]
        y = maps[-1] if self.config.generation == 2 else skips.pop()
        outputs = []  # from the coarsest
        for level, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            y = level(y, skip)
            outputs.append(y)
        outputs[-1] = self.last(y)
        if not self.deep_supervision:
            return self.heads[0](outputs[-1])
        return [head(y) for head, y in zip(self.heads, reversed(outputs), strict=False)]


# authors' names -> ours, applied in order
PUBLISHED_NAMES: Renaming = (
    *PUBLISHED_NAMES_OF_PARTS,
    (r"^vssm_encoder\.patch_embed\.", "encoder.patch_embed."),
    (r"^vssm_encoder\.layers\.(\d+)\.blocks\.", r"encoder.stages.\1."),
    (r"^vssm_encoder\.downsamples\.(\d+)\.", r"encoder.mergings.\1."),
    (r"^encoder(\d)\.layer\.", lambda match: f"skips.{int(match[1]) - 1}."),
    (r"^decoder1\.layer\.", "last."),
    (r"^decoder(\d)\.transp_conv\.conv\.", lambda match: f"decoder.{int(match[1]) - 2}.enlarge."),
    (r"^decoder(\d)\.conv_block\.", lambda match: f"decoder.{int(match[1]) - 2}.block."),
    (r"\.conv3\.conv\.weight$", ".shortcut.weight"),
    (r"\.(conv[12])\.conv\.weight$", r".\1.weight"),
    (r"^out_layers\.(\d+)\.conv\.conv\.", r"heads.\1."),
)


def generation_of(state_dict: Mapping[str, Any]) -> int:
    """Which generation these published weights are of: 1 without the decoder level at 1/16."""
    return 2 if any(".decoder6." in f".{name}" for name in state_dict) else 1


def refuse_other_versions(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if "decoder.seg_layers.0.weight" in state_dict:
        return "these weights are of Swin-UMamba† with the VSS decoder; build 'swin_umamba_d'"
    return None
