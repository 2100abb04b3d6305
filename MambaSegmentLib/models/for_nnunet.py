"""Our networks for stock nnU-Net, which builds what the `architecture` of a plan names:

    "architecture": {"network_class_name": "MambaSegmentLib.models.for_nnunet.build_network",
                     "arch_kwargs": {"name": "umamba_bot", "options": {...}}, "_kw_requires_import": []}

So nnU-Net (2.3 and later) trains and predicts with any of them wherever this package is installed.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from .registry import build_model, has_option

NETWORK = f"{__name__}.build_network"


def build_network(
    input_channels: int,
    num_classes: int,
    name: str,
    options: Mapping[str, Any],
    deep_supervision: bool = False,
    **_: Any,
) -> nn.Module:
    """Called by nnU-Net; the first two and the last are its own.

    Args:
        name, options: of `build_model`, but for what nnU-Net says itself.
        deep_supervision: return a list of logits, where the network can.
    Raises:
        ConfigError: as `build_model`.
    """
    given = {**options, "in_channels": input_channels, "num_classes": num_classes}
    if has_option(name, "deep_supervision"):
        given["deep_supervision"] = deep_supervision
    return build_model(name, given)


def architecture_entry(name: str, options: Mapping[str, Any], strides: Any = ()) -> dict[str, Any]:
    """The `architecture` of a plan.

    Args:
        strides: by which each output of a network with deep supervision is coarser than the one before, the first
            included; nnU-Net makes the targets by them.
    """
    own = {key: value for key, value in options.items() if key not in ("in_channels", "num_classes")}
    return {
        "network_class_name": NETWORK,
        "arch_kwargs": {"name": name, "options": own, **({"strides": strides} if strides else {})},
        "_kw_requires_import": [],
    }


def set_deep_supervision(network: nn.Module, enabled: bool) -> None:
    """Change what a network returns, a list or the finest logits, without building it anew."""
    config: Any = network.config
    if hasattr(config, "deep_supervision"):
        object.__setattr__(config, "deep_supervision", enabled)
