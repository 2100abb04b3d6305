"""Swin-UMamba† ("D"): the encoder of VMamba-Tiny and a light 2D decoder of visual state space blocks.

Shapes: B batch, C channels, (H, W) image, both multiples of 32 at the published depth.
Sources: Liu et al. 2024, "Swin-UMamba", arXiv:2402.03302, and its released code, whose weights load here. Where they
differ the code is followed: after each concatenation a linear layer with bias halves the width; the decoder has drop
path too, falling from 0.2; convolutions, the depthwise ones included, start from He's normal distribution. Trained
files hold the coarsest head as it started, since its loss has the weight 0. The code crops a size that is no multiple
of 32 without a word; here it is refused. Written from the paper and a description of the code.
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
DROP_PATH = 0.2


@dataclass(frozen=True)
class SwinUMambaDConfig:
    """Sizes of a Swin-UMamba†; the defaults are the published ones.

    Attributes:
        in_channels, num_classes: channels of the image and of the logits, background included; a network of regions
            that overlap has one for each and none for the background, so that 1 is a single region.
        dims, encoder_depths: width and number of blocks of each encoder stage.
        decoder_depths: number of blocks of each decoder level, from the coarsest; one fewer than encoder stages.
        d_state: states of each scan.
        deep_supervision: logits of every decoder level instead of the finest alone.
    """

    spatial_dims: ClassVar[int] = 2
    in_channels: int
    num_classes: int
    dims: tuple[int, ...] = (96, 192, 384, 768)
    encoder_depths: tuple[int, ...] = (2, 2, 9, 2)
    decoder_depths: tuple[int, ...] = (2, 2, 2)
    d_state: int = 16
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        for name in ("dims", "encoder_depths", "decoder_depths"):  # a bundle's JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_positive(in_channels=self.in_channels, num_classes=self.num_classes, d_state=self.d_state)
        check_positive(dims=self.dims, encoder_depths=self.encoder_depths, decoder_depths=self.decoder_depths)
        stages = len(self.dims)
        if len(self.encoder_depths) != stages or len(self.decoder_depths) != stages - 1:
            raise ConfigError(
                f"{stages} dims need {stages} encoder_depths and {stages - 1} decoder_depths; "
                f"got {len(self.encoder_depths)} and {len(self.decoder_depths)}"
            )


class SwinUMambaD(nn.Module):
    """(B, in_channels, H, W) -> logits (B, num_classes, H, W).

    With `deep_supervision`, which may be switched at any time, a list of logits at 1, 1/4, 1/8 and 1/16 of the size.
    """

    def __init__(self, config: SwinUMambaDConfig) -> None:
        super().__init__()
        self.config, self.deep_supervision = config, config.deep_supervision
        dims, d_state = config.dims, config.d_state
        self.encoder = VSSEncoder(config.in_channels, PATCH, dims, config.encoder_depths, d_state, DROP_PATH)
        rates = drop_path_rates(DROP_PATH, 0, config.decoder_depths)
        self.decoder = nn.ModuleList(  # from the coarsest
            ExpandingLevel(coarse, fine, d_state, level_rates)
            for coarse, fine, level_rates in zip(dims[:0:-1], dims[-2::-1], rates, strict=True)
        )
        self.enlarge = PatchExpand(dims[0], dims[0], PATCH)
        self.heads = nn.ModuleList(  # of the decoder's levels and, last, of the enlarged map
            nn.Conv2d(width, config.num_classes, 1) for width in (*dims[-2::-1], dims[0])
        )
        start_linear_layers(self.encoder)
        _start_convolutions(self)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return PATCH * 2 ** (len(self.config.dims) - 1)

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what the network cannot take."""
        check_image(x, self.config.in_channels, self.size_multiple)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self.check_input(x)
        _, (*skips, x) = self.encoder(x)
        maps = []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(x, skip)
            maps.append(x)
        maps.append(self.enlarge(x))
        if not self.deep_supervision:
            return self.heads[-1](maps[-1].permute(0, 3, 1, 2))
        logits = [head(y.permute(0, 3, 1, 2)) for head, y in zip(self.heads, maps, strict=True)]
        return logits[::-1]


def _start_convolutions(root: nn.Module) -> None:
    """Every convolution from He's normal distribution for a leaky rectifier of slope 0.01, biases 0."""
    for module in root.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# authors' names -> ours, applied in order
PUBLISHED_NAMES: Renaming = (
    *PUBLISHED_NAMES_OF_PARTS,
    (r"^vssm_encoder\.patch_embed\.", "encoder.patch_embed."),
    (r"^vssm_encoder\.layers\.(\d+)\.blocks\.", r"encoder.stages.\1."),
    (r"^vssm_encoder\.downsamples\.(\d+)\.", r"encoder.mergings.\1."),
    (r"^decoder\.expand_layers\.3\.", "enlarge."),
    (r"^decoder\.expand_layers\.(\d+)\.", r"decoder.\1.expand."),
    (r"^decoder\.concat_back_dim\.(\d+)\.", r"decoder.\1.fuse."),
    (r"^decoder\.stages\.(\d+)\.blocks\.", r"decoder.\1.blocks."),
    (r"^decoder\.seg_layers\.", "heads."),
)


def refuse_other_versions(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if "stem.0.weight" in state_dict:
        return "these weights are of Swin-UMamba with the convolutional decoder; build 'swin_umamba'"
    return None
