"""Mamba-UNet: a symmetric 2D U-Net of visual state space blocks, with patch merging down and patch expanding up.

Shapes: B batch, C channels, (H, W) image, both multiples of 32 at the published depth.
Sources: Wang et al. 2024, arXiv:2402.05079, and its released code, whose weights load here. Where they differ the code
is followed: skips are the maps before a stage's blocks, not after; an image of one channel is tiled to three; drop path
of up to 0.2; merging has a linear layer behind its LayerNorm. The code crops a size that is no multiple of 32 without a
word; here it is refused. Neither paper nor code has deep supervision. Written from the paper and a description of the
code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..errors import ConfigError
from .renaming import Renaming
from .vss import (
    PUBLISHED_NAMES_OF_PARTS,
    ExpandingLevel,
    PatchExpand,
    VSSEncoder,
    check_image,
    check_positive,
    drop_path_rates,
    start_linear_layers,
)

PATCH = 4


@dataclass(frozen=True)
class MambaUNetConfig:
    """Sizes of a Mamba-UNet; the defaults are the published ones.

    Attributes:
        in_channels, num_classes: channels of the image and of the logits, background included; a network of regions
            that overlap has one for each and none for the background, so that 1 is a single region.
        dims, depths: width and number of blocks of each stage; the decoder mirrors them.
        d_state: states of each scan.
        drop_path: largest drop path rate, in training alone.
    """

    spatial_dims: ClassVar[int] = 2
    in_channels: int
    num_classes: int
    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    d_state: int = 16
    drop_path: float = 0.2

    def __post_init__(self) -> None:
        for name in ("dims", "depths"):  # a bundle's JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_positive(in_channels=self.in_channels, num_classes=self.num_classes, d_state=self.d_state)
        check_positive(dims=self.dims, depths=self.depths)
        if len(self.depths) != len(self.dims):
            raise ConfigError(f"{len(self.dims)} dims and {len(self.depths)} depths; each stage needs one of both")
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path is {self.drop_path}; expected 0 to below 1")


class MambaUNet(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes, H, W)."""

    def __init__(self, config: MambaUNetConfig) -> None:
        super().__init__()
        self.config = config
        dims, d_state = config.dims, config.d_state
        embedded = 3 if config.in_channels == 1 else config.in_channels
        self.encoder = VSSEncoder(embedded, PATCH, dims, config.depths, d_state, config.drop_path)
        self.norm = nn.LayerNorm(dims[-1])
        rates = drop_path_rates(0, config.drop_path, config.depths)
        self.decoder = nn.ModuleList(  # from the coarsest; each level drops as the stage that it mirrors
            ExpandingLevel(dims[level + 1], dims[level], d_state, rates[level])
            for level in reversed(range(len(dims) - 1))
        )
        self.norm_up = nn.LayerNorm(dims[0])
        self.enlarge = PatchExpand(dims[0], dims[0], PATCH)
        self.head = nn.Conv2d(dims[0], config.num_classes, 1, bias=False)
        start_linear_layers(self)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return PATCH * 2 ** (len(self.config.dims) - 1)

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what the network cannot take."""
        check_image(x, self.config.in_channels, self.size_multiple)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        if self.config.in_channels == 1:
            x = x.expand(-1, 3, -1, -1)
        (*skips, _), after = self.encoder(x)
        x = self.norm(after[-1])
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(x, skip)
        x = self.enlarge(self.norm_up(x))
        return self.head(x.permute(0, 3, 1, 2))


# authors' names -> ours, applied in order; their first decoder layer is an expansion alone, so levels count from 1
PUBLISHED_NAMES: Renaming = (
    *PUBLISHED_NAMES_OF_PARTS,
    (r"^mamba_unet\.", ""),
    (r"^patch_embed\.", "encoder.patch_embed."),
    (r"^layers\.(\d+)\.blocks\.", r"encoder.stages.\1."),
    (r"^layers\.(\d+)\.downsample\.", r"encoder.mergings.\1."),
    (r"^layers_up\.0\.", "decoder.0.expand."),
    (r"^layers_up\.(\d+)\.upsample\.", r"decoder.\1.expand."),
    (r"^layers_up\.(\d+)\.blocks\.", lambda match: f"decoder.{int(match[1]) - 1}.blocks."),
    (r"^concat_back_dim\.(\d+)\.", lambda match: f"decoder.{int(match[1]) - 1}.fuse."),
    (r"^up\.", "enlarge."),
    (r"^output\.", "head."),
)


def refuse_other_versions(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if any(name.startswith("vssm_encoder.") for name in state_dict):
        return "these weights are of a Swin-UMamba; build 'swin_umamba' or 'swin_umamba_d'"
    return None
