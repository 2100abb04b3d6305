"""Networks of other libraries under the same loop: what the papers compare themselves with.

    monai:SegResNet, monai:UNETR, monai:SwinUNETR, monai:AttentionUnet    pip install --no-deps monai einops
    nnunet:PlainConvUNet                                  pip install --no-deps dynamic-network-architectures

They train, validate, are evaluated and compared as any network of `MambaSegmentLib.models`, but are not exported: a
model file names networks that the library can build without those packages. Defaults are those of the papers' or the
packages' own 3-D configurations.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.registry import architecture_named

_MONAI = "pip install --no-deps monai einops"
_PLAIN = "pip install --no-deps dynamic-network-architectures"


@dataclass(frozen=True, kw_only=True)
class RivalConfig:
    """What all have."""

    spatial_dims: int = 3
    in_channels: int
    num_classes: int
    one_voxel_will_do: ClassVar[bool] = False  # in the coarsest stage; most normalise over the voxels there

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise ConfigError(f"spatial_dims is {self.spatial_dims}; expected 2 or 3")

    @property
    def size_multiples(self) -> tuple[int, ...]:
        """What each edge of the input must be a multiple of."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SegResNetConfig(RivalConfig):
    """Myronenko 2018, arXiv:1810.11654."""

    one_voxel_will_do: ClassVar[bool] = True
    init_filters: int = 32
    blocks_down: Sequence[int] = (1, 2, 2, 4)
    blocks_up: Sequence[int] = (1, 1, 1)

    @property
    def size_multiples(self) -> tuple[int, ...]:
        return (2 ** (len(self.blocks_down) - 1),) * self.spatial_dims


@dataclass(frozen=True, kw_only=True)
class UNETRConfig(RivalConfig):
    """Hatamizadeh et al. 2022, arXiv:2103.10504; built for one size of input."""

    one_voxel_will_do: ClassVar[bool] = True
    input_size: Sequence[int]
    feature_size: int = 16
    hidden_size: int = 768
    mlp_dim: int = 3072
    num_heads: int = 12

    @property
    def size_multiples(self) -> tuple[int, ...]:
        return (16,) * self.spatial_dims


@dataclass(frozen=True, kw_only=True)
class SwinUNETRConfig(RivalConfig):
    """Hatamizadeh et al. 2022, arXiv:2201.01266."""

    feature_size: int = 48
    depths: Sequence[int] = (2, 2, 2, 2)
    num_heads: Sequence[int] = (3, 6, 12, 24)
    window_size: int = 7

    @property
    def size_multiples(self) -> tuple[int, ...]:
        return (32,) * self.spatial_dims


@dataclass(frozen=True, kw_only=True)
class AttentionUnetConfig(RivalConfig):
    """Oktay et al. 2018, arXiv:1804.03999."""

    channels: Sequence[int] = (32, 64, 128, 256, 512)
    attention_strides: Sequence[int] = (2, 2, 2, 2)

    @property
    def size_multiples(self) -> tuple[int, ...]:
        return (math.prod(self.attention_strides),) * self.spatial_dims


@dataclass(frozen=True, kw_only=True)
class PlainConvUNetConfig(RivalConfig):
    """Isensee et al. 2021, nnU-Net's own U-Net, with the stages of the plan."""

    features_per_stage: Sequence[int]
    kernel_sizes: Any = 3
    strides: Sequence[Any]
    convolutions_per_stage: int = 2

    @property
    def size_multiples(self) -> tuple[int, ...]:
        rows = [(s,) * self.spatial_dims if isinstance(s, int) else tuple(s) for s in self.strides]
        return tuple(math.prod(row[axis] for row in rows) for axis in range(self.spatial_dims))


class Rival(nn.Module):
    """A network of another library, with what the training asks of a network.

    Input (B, C, *spatial), output logits (B, classes, *spatial).
    """

    def __init__(self, name: str, config: RivalConfig, network: nn.Module) -> None:
        super().__init__()
        self.architecture_name = name
        self.config = config
        self.network = network

    @property
    def size_multiple(self) -> int:
        return max(self.config.size_multiples)

    def check_input(self, x: Tensor) -> None:
        """Raises: ShapeError, when the network cannot take a tensor of this shape."""
        sizes, fixed = tuple(x.shape[2:]), getattr(self.config, "input_size", None)
        if len(sizes) != self.config.spatial_dims:
            raise ShapeError(f"{self.architecture_name} here takes {self.config.spatial_dims} axes; got {sizes}")
        if fixed is not None and sizes != tuple(fixed):
            raise ShapeError(f"this {self.architecture_name} was built for {tuple(fixed)} voxels; got {sizes}")
        if any(size % multiple for size, multiple in zip(sizes, self.config.size_multiples, strict=True)):
            raise ShapeError(
                f"{self.architecture_name} needs sizes that are multiples of {self.config.size_multiples}; got {sizes}"
            )
        if sizes == self.config.size_multiples and not self.config.one_voxel_will_do:
            raise ShapeError(
                f"{self.architecture_name} cannot train on {sizes} voxels, of which its coarsest stage has one left; "
                "choose a data.patch_size that is larger along some axis"
            )

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        return self.network(x)


def _segresnet(config: Any) -> nn.Module:
    from monai.networks.nets import SegResNet

    return SegResNet(
        spatial_dims=config.spatial_dims,
        init_filters=config.init_filters,
        in_channels=config.in_channels,
        out_channels=config.num_classes,
        blocks_down=tuple(config.blocks_down),
        blocks_up=tuple(config.blocks_up),
    )


def _unetr(config: Any) -> nn.Module:
    from monai.networks.nets import UNETR

    return UNETR(
        in_channels=config.in_channels,
        out_channels=config.num_classes,
        img_size=tuple(config.input_size),
        feature_size=config.feature_size,
        hidden_size=config.hidden_size,
        mlp_dim=config.mlp_dim,
        num_heads=config.num_heads,
        spatial_dims=config.spatial_dims,
    )


def _swin_unetr(config: Any) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(
        in_channels=config.in_channels,
        out_channels=config.num_classes,
        depths=tuple(config.depths),
        num_heads=tuple(config.num_heads),
        window_size=config.window_size,
        feature_size=config.feature_size,
        spatial_dims=config.spatial_dims,
    )


def _attention_unet(config: Any) -> nn.Module:
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(
        spatial_dims=config.spatial_dims,
        in_channels=config.in_channels,
        out_channels=config.num_classes,
        channels=tuple(config.channels),
        strides=tuple(config.attention_strides),
    )


def _plain_conv_unet(config: Any) -> nn.Module:
    """The library has it for models that were trained with nnU-Net; here it takes the stages of the plan."""
    stages, per_stage = len(config.features_per_stage), config.convolutions_per_stage
    return build_model(
        "plain_conv_unet",
        {
            "spatial_dims": config.spatial_dims,
            "in_channels": config.in_channels,
            "num_classes": config.num_classes,
            "features_per_stage": config.features_per_stage,
            "kernel_sizes": config.kernel_sizes,
            "strides": config.strides,
            "encoder_blocks": [per_stage] * stages,
            "decoder_blocks": [per_stage] * (stages - 1),
        },
    )


@dataclass(frozen=True)
class _Rival:
    config: type[RivalConfig]
    build: Callable[[Any], nn.Module]
    install: str


RIVALS: Mapping[str, _Rival] = {
    "monai:SegResNet": _Rival(SegResNetConfig, _segresnet, _MONAI),
    "monai:UNETR": _Rival(UNETRConfig, _unetr, _MONAI),
    "monai:SwinUNETR": _Rival(SwinUNETRConfig, _swin_unetr, _MONAI),
    "monai:AttentionUnet": _Rival(AttentionUnetConfig, _attention_unet, _MONAI),
    "nnunet:PlainConvUNet": _Rival(PlainConvUNetConfig, _plain_conv_unet, _PLAIN),
}


def is_rival(name: str) -> bool:
    """Whether it names a network of another library."""
    return ":" in name


def refuse_rival(name: str) -> None:
    """Raises: ConfigError, when the network is of another library and so cannot be exported."""
    if is_rival(name):
        raise ConfigError(
            f"{name} is a network of another library, for comparison alone: a model file names networks that 3D "
            "Slicer can build; `mambatrain evaluate` and `compare` take the run as it is"
        )


def options_type(name: str) -> type[Any]:
    """The dataclass of a network's options, of the library's networks and of rivals alike.

    Raises:
        ConfigError: an unknown name.
    """
    if not is_rival(name):
        return architecture_named(name).config
    if name not in RIVALS:
        raise ConfigError(f"unknown network {name!r}; known networks of other libraries: {', '.join(RIVALS)}")
    return RIVALS[name].config


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """`MambaSegmentLib.models.build_model`, or a rival.

    Raises:
        ConfigError: as `build_model`; or the rival's package is not installed.
    """
    if not is_rival(name):
        return build_model(name, options)
    kind, given = options_type(name), dict(options)
    if given.pop("activation_checkpointing", False):
        raise ConfigError(f"{name} has no activation checkpointing; leave the setting out")
    known = [entry.name for entry in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no option {unknown[0]!r}; known: {', '.join(known)}")
    try:
        config = kind(**given)
        with torch.device("cpu"):  # even where only its structure is asked for: some cannot be built without data
            return Rival(name, config, RIVALS[name].build(config))
    except ImportError as problem:
        raise ConfigError(
            f"{name} needs a package that is not installed ({problem}): {RIVALS[name].install}"
        ) from problem
    except (TypeError, ValueError, AssertionError) as problem:  # what those libraries raise for options they refuse
        raise ConfigError(f"{name}: {problem}") from problem


def with_rival_input_size(
    name: str, options: Mapping[str, Any], planned: Sequence[int], given: Sequence[int] | None
) -> dict[str, Any]:
    """The options, and `input_size` for UNETR: the patch, enlarged to its multiple."""
    known = {entry.name for entry in fields(options_type(name))}
    if "input_size" not in known or "input_size" in options:
        return dict(options)
    return {**options, "input_size": list(given or (-(-size // 16) * 16 for size in planned))}
