"""MambaClinix: HGCN on the finer encoder stages, residual Mamba on the coarser ones, in a residual U-Net; 3D and 2D.

Shapes: B batch, C channels, spatial sizes in array order (K, J, I), each a multiple of its axis' product of strides.
Sources: Bian et al. 2024, arXiv:2409.12533, and the code released in 2024-09, whose weights load here. Where they
differ the code is followed: HGCN adds where the paper multiplies (see hgcn.py); a LayerNorm before the last HGCN;
Mamba's two LayerNorms are one and a linear layer takes the place of the perceptron; a residual block with instance
normalisation instead of a 1-convolution with batch normalisation precedes each stage's mixer; interaction orders are
not limited to 6; a residual block on every skip and on the bottleneck, which the paper does not show. The released code
is 3D alone. The canonical network has 48.9 million parameters; the 17.4 million of the paper's table 4 are near those
of its encoder. Written from the paper and a description of the code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError
from .hgcn import ChannelLayerNorm, HGCNBlock
from .mamba_layers import ResidualMambaLayer
from .renaming import Renaming
from .residual_blocks import ConvNormAct, plain_block, pooling_block, projecting_block, start_convolutions
from .residual_unet import COMMON_NAMES, DecoderLevel, ResidualUNet, ResidualUNetConfig

STAGE_MIXERS = ("hgcn", "mamba", "residual")
_LARGEST_DROP_RATE = 0.5


def stage_mixers_of_plan(encoder_blocks: Sequence[int]) -> tuple[str, ...]:
    """What the released code makes of nnU-Net's blocks per stage: in the finer half 2 is HGCN and 1 Mamba; then Mamba.

    Raises:
        ConfigError: another number in the finer half, of which the released code makes nothing.
    """
    finer = list(encoder_blocks)[: math.ceil(len(encoder_blocks) / 2)]
    if any(count not in (1, 2) for count in finer):
        raise ConfigError(
            f"blocks per stage are {list(encoder_blocks)}; MambaClinix knows 1 (Mamba) and 2 (HGCN) alone"
        )
    return tuple("hgcn" if count == 2 else "mamba" for count in finer) + ("mamba",) * (len(encoder_blocks) - len(finer))


@dataclass(frozen=True, kw_only=True)
class MambaClinixConfig(ResidualUNetConfig):
    """Sizes of a MambaClinix.

    Attributes:
        stage_mixers: "hgcn", "mamba" or "residual" (nothing but the stage's residual block) for each stage; None: HGCN
            on the finer half, the middle one included, and Mamba on the others. The paper's ablation: all "residual" is
            its baseline, one kind alone, or "mamba" at the last stage alone.
        hgcn_orders: interaction order of each HGCN stage, finest first; None: the stage's index plus 2.
    """

    stage_mixers: tuple[str, ...] | None = None
    hgcn_orders: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        mixers = stage_mixers_of_plan([2] * self.stages) if self.stage_mixers is None else tuple(self.stage_mixers)
        if len(mixers) != self.stages or not set(mixers) <= set(STAGE_MIXERS):
            raise ConfigError(
                f"stage_mixers is {self.stage_mixers}; expected {self.stages} of {', '.join(map(repr, STAGE_MIXERS))}"
            )
        object.__setattr__(self, "stage_mixers", mixers)
        hgcn_stages = [stage for stage, mixer in enumerate(mixers) if mixer == "hgcn"]
        orders = tuple(stage + 2 for stage in hgcn_stages) if self.hgcn_orders is None else tuple(self.hgcn_orders)
        if len(orders) != len(hgcn_stages):
            raise ConfigError(
                f"hgcn_orders is {self.hgcn_orders}; expected one for each of {len(hgcn_stages)} HGCN stages"
            )
        object.__setattr__(self, "hgcn_orders", orders)


class MambaClinix(ResidualUNet):
    """(B, in_channels, *spatial) -> logits (B, num_classes, *spatial); with deep supervision a list, largest first."""

    config: MambaClinixConfig

    def __init__(self, config: MambaClinixConfig) -> None:
        widths, kernels, strides = config.features_per_stage, config.kernel_sizes, config.strides
        stages = [
            pooling_block(widths[max(stage - 1, 0)], widths[stage], kernels[stage], strides[stage])
            for stage in range(config.stages)
        ]
        decoder = [
            DecoderLevel(
                widths[skip + 1],
                widths[skip],
                strides[skip + 1],
                projecting_block(2 * widths[skip], widths[skip], kernels[skip]),
                plain_block(widths[skip], kernels[skip]),
                config.num_classes,
            )
            for skip in reversed(range(config.stages - 1))
        ]
        super().__init__(
            config,
            stem=ConvNormAct(config.in_channels, widths[0], kernels[0]),
            stages=stages,
            mixers=_mixers(config),
            bottleneck=plain_block(widths[-1], kernels[-1]),
            decoder=decoder,
        )
        hgcn_stages = [stage for stage, mixer in enumerate(self.mixers) if isinstance(mixer, HGCNBlock)]
        self.last_hgcn = hgcn_stages[-1] if hgcn_stages else None
        if self.last_hgcn is not None:
            self.last_hgcn_norm = ChannelLayerNorm(widths[self.last_hgcn])
        start_convolutions(self)

    def encode(self, stage: int, x: Tensor) -> Tensor:
        x = self.stages[stage](x)
        if stage == self.last_hgcn:
            x = self.last_hgcn_norm(x)
        return self.mixers[stage](x)


def _mixers(config: MambaClinixConfig) -> list[nn.Module]:
    """What follows the residual block of each stage."""
    assert config.stage_mixers is not None and config.hgcn_orders is not None
    orders = iter(config.hgcn_orders)
    mixers: list[nn.Module] = []
    for stage, (kind, width) in enumerate(zip(config.stage_mixers, config.features_per_stage, strict=True)):
        if kind == "hgcn":
            drop_rate = _LARGEST_DROP_RATE * stage / (config.stages - 1)
            mixers.append(HGCNBlock(width, next(orders), config.kernel_sizes[stage], drop_rate))
        else:
            mixers.append(ResidualMambaLayer(width) if kind == "mamba" else nn.Identity())
    return mixers


PUBLISHED_NAMES: Renaming = (
    *COMMON_NAMES,
    (r"^stem\.convs\.0\.", "stem."),
    (r"^stages\.(\d+)\.blocks\.0\.", r"stages.\1."),
    (r"\.skip\.[01]\.", ".shortcut."),  # 1 behind a pooling, 0 without
    (r"^encoder\.LayerNorm\.", "last_hgcn_norm."),
    (r"^encoder\.encoder_layers\.", "mixers."),
    (r"\.gamma1$", ".scale"),
    (r"\.lynorm([12])\.", r".norm\1."),
    (r"norm([12]?)\.gamma$", r"norm\1.weight"),
    (r"norm([12]?)\.beta$", r"norm\1.bias"),
    (r"\.transconv\.conv\.", ".reduce."),
    (r"\.hgConvs\.dwconv\.", ".interaction.neighbours."),
    (r"\.hgConvs\.reconv\.", ".interaction.widen."),
    (r"\.hgConvs\.", ".interaction."),
    (r"^decoder\.Init_Residual\.", "bottleneck."),
    (r"^decoder\.residual_blocks\.(\d+)\.", r"decoder.\1.refine_skip."),
    (r"^decoder\.stages\.(\d+)\.", r"decoder.\1.blocks."),
)


def refuse_other_versions(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if any(name.startswith("decoder.transpconvs.") for name in state_dict):
        return (
            "these weights are of old U-Mamba or of stock nnU-Net: the decoder has transposed convolutions, that of "
            "MambaClinix has none"
        )
    return None
