"""U-Mamba: a residual U-Net with Mamba at its lowest resolution (Bot) or after every encoder stage (Enc), in 2D and 3D.

Shapes: B batch, C channels, spatial sizes in array order (K, J, I), each a multiple of its axis' product of strides.
Sources: Ma et al. 2024, arXiv:2401.04722, and the code released from 2024-03-27 on, whose weights load here. Where they
differ, or the paper is silent, the code is followed: one residual block instead of two in the deeper half of the
encoder and of the decoder; a normalisation before Mamba and neither residual nor projection around it; copied voxels
and a 1-convolution instead of a transposed convolution; in 2D no skip at full resolution, and in Enc Mamba at every
other stage alone. Where a stage of Enc has no more voxels than channels its tokens are the channels, so that its
weights fit one input size alone. Written from the paper and a description of the code.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, ShapeError
from .mamba_layers import ChannelMambaLayer, MambaLayer
from .renaming import Renaming
from .residual_blocks import Sizes, plain_block, projecting_block, start_convolutions
from .residual_unet import COMMON_NAMES, DecoderLevel, ResidualUNet, ResidualUNetConfig


@dataclass(frozen=True, kw_only=True)
class UMambaConfig(ResidualUNetConfig):
    """Sizes of U-Mamba_Bot and of the control without Mamba.

    Attributes:
        encoder_blocks, decoder_blocks: residual blocks per stage and per decoder level (coarsest first). None: two, and
            one in the deeper half of the encoder and the last half of the decoder, as published.
    """

    encoder_blocks: tuple[int, ...] | None = None
    decoder_blocks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = self.stages - 1
        for name, count, halfway in (
            ("encoder_blocks", self.stages, math.ceil(self.stages / 2)),
            ("decoder_blocks", levels, math.ceil(levels / 2 + 0.5)),
        ):
            given = getattr(self, name)
            blocks = tuple(2 if i < halfway else 1 for i in range(count)) if given is None else tuple(given)
            if len(blocks) != count or min(blocks) < 1:
                raise ConfigError(f"{name} is {given}; expected {count} numbers, each at least 1")
            object.__setattr__(self, name, blocks)


@dataclass(frozen=True, kw_only=True)
class UMambaEncConfig(UMambaConfig):
    """Sizes of U-Mamba_Enc.

    Attributes:
        input_size: the patch it is trained for; decides which stages have channels for tokens.
    """

    input_size: Sizes

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "input_size", tuple(self.input_size))
        multiples = self.size_multiples
        if len(self.input_size) != self.spatial_dims or any(
            size < 1 or size % multiple for size, multiple in zip(self.input_size, multiples, strict=True)
        ):
            raise ConfigError(f"input_size is {self.input_size}; expected multiples of {multiples}, axis by axis")

    def voxels_of_stage(self, stage: int) -> int:
        """Of a patch at the resolution of that stage."""
        reductions = [math.prod(along_axis) for along_axis in zip(*self.strides[: stage + 1], strict=True)]
        return math.prod(size // reduction for size, reduction in zip(self.input_size, reductions, strict=True))


class UNetWithoutMamba(ResidualUNet):
    """The convolutional part of U-Mamba; `mixers` and `bottleneck` are the places for Mamba."""

    config: UMambaConfig

    def __init__(
        self, config: UMambaConfig, mixers: list[nn.Module] | None = None, bottleneck: nn.Module | None = None
    ) -> None:
        assert config.encoder_blocks is not None and config.decoder_blocks is not None
        widths, kernels, strides = config.features_per_stage, config.kernel_sizes, config.strides
        stem = _blocks(config.in_channels, widths[0], kernels[0], None, config.encoder_blocks[0])
        stages = [
            _blocks(widths[max(stage - 1, 0)], widths[stage], kernels[stage], strides[stage], blocks)
            for stage, blocks in enumerate(config.encoder_blocks)
        ]
        decoder = []
        for level, blocks in enumerate(config.decoder_blocks):
            skip = config.stages - 2 - level  # the stage that the level returns to
            width, takes_skip = widths[skip], config.spatial_dims == 3 or skip > 0
            refine = _blocks((1 + takes_skip) * width, width, kernels[skip], None, blocks)
            refine_skip = nn.Identity() if takes_skip else None
            decoder.append(
                DecoderLevel(widths[skip + 1], width, strides[skip + 1], refine, refine_skip, config.num_classes)
            )
        mixers = mixers or [nn.Identity() for _ in stages]
        super().__init__(config, stem, stages, mixers, bottleneck or nn.Identity(), decoder)
        start_convolutions(self)


def _blocks(in_channels: int, channels: int, kernel: Sizes, stride: Sizes | None, count: int) -> nn.Sequential:
    """One block that projects, and more that do not."""
    first = projecting_block(in_channels, channels, kernel, stride)
    return nn.Sequential(first, *(plain_block(channels, kernel) for _ in range(count - 1)))


class UMambaBot(UNetWithoutMamba):
    """Mamba once, on the lowest resolution."""

    def __init__(self, config: UMambaConfig) -> None:
        super().__init__(config, bottleneck=MambaLayer(config.features_per_stage[-1]))


class UMambaEnc(UNetWithoutMamba):
    """Mamba after each stage of the encoder; in 2D after the last, the third last and so on."""

    config: UMambaEncConfig

    def __init__(self, config: UMambaEncConfig) -> None:
        super().__init__(config, mixers=[self._mixer(config, stage) for stage in range(config.stages)])

    @staticmethod
    def _mixer(config: UMambaEncConfig, stage: int) -> nn.Module:
        if config.spatial_dims == 2 and (config.stages - 1 - stage) % 2:
            return nn.Identity()
        channels, voxels = config.features_per_stage[stage], config.voxels_of_stage(stage)
        return ChannelMambaLayer(voxels) if voxels <= channels else MambaLayer(channels)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        fixed = any(isinstance(mixer, ChannelMambaLayer) for mixer in self.mixers)
        if fixed and tuple(x.shape[2:]) != self.config.input_size:
            raise ShapeError(
                f"spatial size {tuple(x.shape[2:])}: a U-Mamba_Enc with channel tokens takes the size it was built for "
                f"alone, {self.config.input_size}; pad or cut the input into tiles of it"
            )


PUBLISHED_NAMES: Renaming = (
    *COMMON_NAMES,
    (r"^encoder\.mamba_layers\.", "mixers."),
    (r"^mamba_layer\.", "bottleneck."),
    (r"^decoder\.stages\.(\d+)\.", r"decoder.\1.blocks."),
)


def refuse_bot_version(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the U-Mamba_Bot built here, or None."""
    if any(name.startswith("encoder.mamba_layers.") for name in state_dict):
        return _of_old_version(state_dict) or "these weights are of U-Mamba_Enc; the architecture is named umamba_enc"
    return _of_old_version(state_dict)


def refuse_enc_version(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the U-Mamba_Enc built here, or None."""
    if any(name.startswith("mamba_layer.") for name in state_dict):
        return _of_old_version(state_dict) or "these weights are of U-Mamba_Bot; the architecture is named umamba_bot"
    return _of_old_version(state_dict)


def _of_old_version(state_dict: Mapping[str, Any]) -> str | None:
    if any(name.startswith("decoder.transpconvs.") for name in state_dict):
        return (
            "these weights are of U-Mamba before 2024-03-27 (or of the copy in LightM-UNet's repository), or of stock "
            "nnU-Net: the decoder has transposed convolutions; this library has the later version"
        )
    return None
