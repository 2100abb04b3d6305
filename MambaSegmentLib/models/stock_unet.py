"""nnU-Net's own networks, for models that users have already: a plain U-Net and one with a residual encoder.

They are built by the package dynamic-network-architectures (Apache-2.0, Isensee et al.), which is not needed otherwise.
Source of the networks: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; 2024, arXiv:2404.09556. None of ours is one
of them: see resenc_unet.py.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError
from .blocks import CONVOLUTIONS
from .renaming import Renaming
from .residual_unet import ResidualUNetConfig

_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_INSTALL = "pip install --no-deps dynamic-network-architectures"


@dataclass(frozen=True, kw_only=True)
class StockUNetConfig(ResidualUNetConfig):
    """Sizes of one of nnU-Net's networks.

    Attributes:
        encoder_blocks: convolutions (plain) or residual blocks of each stage.
        decoder_blocks: convolutions of each decoder level, the coarsest first.
    """

    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, count in (("encoder_blocks", self.stages), ("decoder_blocks", self.stages - 1)):
            blocks = tuple(getattr(self, name))
            if len(blocks) != count or min(blocks) < 1:
                raise ConfigError(f"{name} is {blocks}; expected {count} numbers, each at least 1")
            object.__setattr__(self, name, blocks)


class StockUNet(nn.Module):
    """(B, in_channels, *spatial) -> logits (B, num_classes, *spatial); with deep supervision a list, largest first."""

    class_name = "PlainConvUNet"
    blocks_argument = "n_conv_per_stage"

    def __init__(self, config: StockUNetConfig) -> None:
        super().__init__()
        self.config = config
        built = self._built(config)
        self.encoder, self.decoder = built.encoder, built.decoder

    def _built(self, config: StockUNetConfig) -> Any:
        try:
            networks = importlib.import_module("dynamic_network_architectures.architectures.unet")
        except ImportError as problem:
            raise ConfigError(
                f"a network of stock nnU-Net needs the package dynamic-network-architectures ({problem}); install it "
                f"with `{_INSTALL}`"
            ) from problem
        return getattr(networks, self.class_name)(
            input_channels=config.in_channels,
            n_stages=config.stages,
            features_per_stage=list(config.features_per_stage),
            conv_op=CONVOLUTIONS[config.spatial_dims],
            kernel_sizes=[list(sizes) for sizes in config.kernel_sizes],
            strides=[list(sizes) for sizes in config.strides],
            num_classes=config.num_classes,
            n_conv_per_stage_decoder=list(config.decoder_blocks),
            conv_bias=True,
            norm_op=_NORMS[config.spatial_dims],
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=config.deep_supervision,
            **{self.blocks_argument: list(config.encoder_blocks)},
        )

    @property
    def size_multiple(self) -> int:
        return self.config.size_multiple

    def check_input(self, x: Tensor) -> None:
        """Raises ShapeError for what the network cannot take."""
        self.config.check_input(x)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self.check_input(x)
        return self.decoder(self.encoder(x))


class ResidualEncoderUNet(StockUNet):
    """Residual blocks in the encoder, plain ones in the decoder."""

    class_name = "ResidualEncoderUNet"
    blocks_argument = "n_blocks_per_stage"


PUBLISHED_NAMES: Renaming = ()  # they are built by the authors' code


def refuse_other_versions(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if any(".mamba." in name for name in state_dict):
        return "these weights have Mamba layers; nnU-Net's own networks have none"
    return None
