"""Our networks for stock nnU-Net (2.3 and later), which builds what the `architecture` of a plan names:

    "architecture": {"network_class_name": "MambaSegmentLib.models.for_nnunet.build_network",
                     "arch_kwargs": {"name": "umamba_bot", "options": {...}}, "_kw_requires_import": []}

So its predictor reads them wherever this package is installed, with nothing of nnU-Net changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn

from .registry import architecture_named, build_model

NETWORK = f"{__name__}.build_network"
_SWITCH = "deep_supervision"
_OF_NNUNET = ("in_channels", "num_classes", _SWITCH)
# by which each output is coarser than the one before; nnU-Net leaves out the last
_SCALES_2D = {"swin_umamba": (1, 2, 2, 2, 2), "swin_umamba_d": (1, 4, 2, 2, 2)}


def build_network(
    input_channels: int,
    num_classes: int,
    name: str,
    options: Mapping[str, Any],
    strides: Sequence[Sequence[int]] = (),
    deep_supervision: bool = False,
) -> nn.Module:
    """Called by nnU-Net.

    Args:
        name, options: of `build_model`, but for what nnU-Net says itself.
        strides: there for nnU-Net, which makes the targets of deep supervision by them.
        deep_supervision: return a list of logits, where the network can.
    Raises:
        ConfigError: as `build_model`.
    """
    del strides
    given = {**options, "in_channels": input_channels, "num_classes": num_classes}
    return build_model(name, {**given, _SWITCH: deep_supervision} if can_supervise(name) else given)


def architecture_entry(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The `architecture` of a plan, for options as `build_model` takes them."""
    own = {key: value for key, value in options.items() if key not in _OF_NNUNET}
    scales = own.get("strides") or [[scale, scale] for scale in _SCALES_2D.get(name, ())]
    return {
        "network_class_name": NETWORK,
        "arch_kwargs": {"name": name, "options": own, "strides": scales},
        "_kw_requires_import": [],
    }


def can_supervise(name: str) -> bool:
    """Whether a network of that name has outputs of several resolutions to give."""
    return _SWITCH in {field.name for field in fields(architecture_named(name).config)}
