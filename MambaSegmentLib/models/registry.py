"""Architecture name -> how to configure and build it, and how the authors named its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

from torch import nn

from ..errors import ConfigError
from . import lightm_unet, mamba_unet, mambaclinix, resenc_unet, stock_unet, swin_umamba, swin_umamba_d, umamba
from .recomputed import recompute_activations
from .renaming import Renaming

_CHECKPOINTING = "activation_checkpointing"  # an option of every network, on top of those of its configuration


@dataclass(frozen=True)
class Architecture:
    """One network of the literature.

    Attributes:
        config: frozen dataclass of its options, which checks itself.
        model: network class, built from one config.
        published_names: from the authors' parameter names to ours.
        refuse_other_versions: says why a state dict is of another network, or None.
    """

    config: type[Any]
    model: Callable[[Any], nn.Module]
    published_names: Renaming
    refuse_other_versions: Callable[[Mapping[str, Any]], str | None]


ARCHITECTURES: dict[str, Architecture] = {
    "lightm_unet": Architecture(
        lightm_unet.LightMUNetConfig,
        lightm_unet.LightMUNet,
        lightm_unet.PUBLISHED_NAMES,
        lightm_unet.refuse_other_versions,
    ),
    "mambaclinix": Architecture(
        mambaclinix.MambaClinixConfig,
        mambaclinix.MambaClinix,
        mambaclinix.PUBLISHED_NAMES,
        mambaclinix.refuse_other_versions,
    ),
    "resenc_unet": Architecture(
        resenc_unet.ResEncUNetConfig,
        resenc_unet.ResEncUNet,
        resenc_unet.PUBLISHED_NAMES,
        resenc_unet.refuse_other_versions,
    ),
    "umamba_bot": Architecture(
        umamba.UMambaConfig,
        umamba.UMambaBot,
        umamba.PUBLISHED_NAMES,
        umamba.refuse_bot_version,
    ),
    "umamba_enc": Architecture(
        umamba.UMambaEncConfig,
        umamba.UMambaEnc,
        umamba.PUBLISHED_NAMES,
        umamba.refuse_enc_version,
    ),
    "mamba_unet": Architecture(
        mamba_unet.MambaUNetConfig,
        mamba_unet.MambaUNet,
        mamba_unet.PUBLISHED_NAMES,
        mamba_unet.refuse_other_versions,
    ),
    "swin_umamba": Architecture(
        swin_umamba.SwinUMambaConfig,
        swin_umamba.SwinUMamba,
        swin_umamba.PUBLISHED_NAMES,
        swin_umamba.refuse_other_versions,
    ),
    "swin_umamba_d": Architecture(
        swin_umamba_d.SwinUMambaDConfig,
        swin_umamba_d.SwinUMambaD,
        swin_umamba_d.PUBLISHED_NAMES,
        swin_umamba_d.refuse_other_versions,
    ),
}

# built by another package, for models that users have already
STOCK_ARCHITECTURES: dict[str, Architecture] = {
    "plain_conv_unet": Architecture(
        stock_unet.StockUNetConfig,
        stock_unet.StockUNet,
        stock_unet.PUBLISHED_NAMES,
        stock_unet.refuse_other_versions,
    ),
    "residual_encoder_unet": Architecture(
        stock_unet.StockUNetConfig,
        stock_unet.ResidualEncoderUNet,
        stock_unet.PUBLISHED_NAMES,
        stock_unet.refuse_other_versions,
    ),
}


def architecture_named(name: str) -> Architecture:
    """Raises: ConfigError, for a name that is not known."""
    known = ARCHITECTURES | STOCK_ARCHITECTURES
    if name not in known:
        raise ConfigError(f"unknown architecture {name!r}; known: {', '.join(sorted(known))}")
    return known[name]


def _check_kinds(name: str, config: type[Any], options: Mapping[str, Any]) -> None:
    """A bundle and a recipe are other people's JSON: 1.5 channels or "yes" for True would fail far from here.

    Raises: ConfigError, for a value of another kind than the option's.
    """
    for field in fields(config):
        if field.name not in options:
            continue
        value = options[field.name]
        if field.type is bool and not isinstance(value, bool):
            raise ConfigError(f"{name}: {field.name} is {value!r:.100}; expected true or false")
        if field.type is int and not _is_whole(value):
            raise ConfigError(f"{name}: {field.name} is {value!r:.100}; expected a whole number")
        whole_numbers = isinstance(value, list | tuple) and all(map(_is_whole, value))
        if field.type == tuple[int, ...] and not whole_numbers:
            raise ConfigError(f"{name}: {field.name} is {value!r:.100}; expected whole numbers")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def build_model(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build the network that a bundle or a training config names.

    Args:
        options: those of its configuration, and `activation_checkpointing` (False), which each network has: in training
            its blocks keep their inputs alone and compute the rest again in the backward pass. Output and gradients
            stay the same to the bit; a step costs a second forward pass. The memory that a step of one image holds
            beyond weights and gradients falls to 0.46 of what it was in LightM-UNet (32 x 64 x 64 voxels), 0.25 in
            Mamba-UNet (224 x 224), 0.26 in Swin-UMamba and 0.21 in Swin-UMamba† (320 x 320), and 0.45 to 0.53 in
            MambaClinix and both U-Mambas (six stages, 32 x 64 x 64), as measured on a CPU in single precision.
    Raises:
        ConfigError: unknown name, an option that it does not have, or a value that makes no sense.
    """
    architecture = architecture_named(name)
    _check_kinds(name, architecture.config, options)
    try:
        config = architecture.config(**{key: options[key] for key in options if key != _CHECKPOINTING})
    except TypeError as error:  # a misspelt or missing option
        raise ConfigError(f"{name}: {error}") from error
    model = architecture.model(config)
    model.architecture_name = name  # type: ignore[assignment]  # which published names belong to it
    recompute = options.get(_CHECKPOINTING, False)
    if not isinstance(recompute, bool):
        raise ConfigError(f"{_CHECKPOINTING} is {recompute!r}; expected true or false")
    if recompute and recompute_activations(model) == 0:
        raise ConfigError(f"{name} has no blocks that can be computed again; leave out {_CHECKPOINTING}")
    return model
