"""Sizes of networks that follow from the shapes of their weights, by the authors' names without wrappers."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..models.swin_umamba import generation_of

if TYPE_CHECKING:
    from torch import Tensor

Weights = Mapping[str, "Tensor"]


def _lightm_unet(weights: Weights) -> dict[str, Any]:
    if "convInit.conv.weight" in weights:  # the first release, which loading refuses by name
        return {}
    first = _counts(weights, r"down_layers\.(\d+)\.(\d+)\.conv1\.")
    return {
        "init_filters": weights["convInit.1.conv.weight"].shape[0],
        # index 0 of each stage is the halving, or nothing
        "blocks_down": [highest for _, highest in sorted(first.items())],
        "blocks_up": [highest + 1 for _, highest in sorted(_counts(weights, r"up_layers\.(\d+)\.(\d+)\.").items())],
    }


def _mamba_unet(weights: Weights) -> dict[str, Any]:
    weights = {name.removeprefix("mamba_unet."): tensor for name, tensor in weights.items()}
    dims, depths = _stages(weights, r"layers\.(\d+)\.blocks\.(\d+)\.ln_1\.weight")
    return {"dims": dims, "depths": depths, "d_state": _states(weights, "layers.0.blocks.0.")}


def _swin_umamba(weights: Weights) -> dict[str, Any]:
    dims, depths = _stages(weights, r"vssm_encoder\.layers\.(\d+)\.blocks\.(\d+)\.ln_1\.weight")
    widths = [weights[f"encoder{number}.layer.conv1.conv.weight"].shape[0] for number in range(1, 6)]
    return {
        "feature_sizes": widths,
        "hidden_size": dims[-1],
        "encoder_dims": dims,
        "encoder_depths": depths,
        "d_state": _states(weights, "vssm_encoder.layers.0.blocks.0."),
        "generation": generation_of(weights),
    }


def _swin_umamba_d(weights: Weights) -> dict[str, Any]:
    dims, depths = _stages(weights, r"vssm_encoder\.layers\.(\d+)\.blocks\.(\d+)\.ln_1\.weight")
    _, decoder = _stages(weights, r"decoder\.stages\.(\d+)\.blocks\.(\d+)\.ln_1\.weight")
    return {
        "dims": dims,
        "encoder_depths": depths,
        "decoder_depths": decoder,
        "d_state": _states(weights, "vssm_encoder.layers.0.blocks.0."),
    }


def outputs_of(architecture: str, weights: Weights) -> int | None:
    """How many classes the head has; None where its name is not known."""
    heads = {
        "lightm_unet": r"conv_final\.2\.1\.conv\.weight",
        "mamba_unet": r"(mamba_unet\.)?output\.weight",
        "swin_umamba": r"out_layers\.0\.conv\.conv\.weight",
    }
    pattern = heads.get(architecture, r"decoder\.seg_layers\.0\.weight")
    found = [tensor.shape[0] for name, tensor in weights.items() if re.fullmatch(pattern, name)]
    return found[0] if found else None


def inputs_of(weights: Weights) -> int | None:
    """How many channels the first layer takes; None where its name is not known."""
    first = (
        r"convInit\.0\.conv\.weight",
        r"stem\.0\.weight",
        r"(mamba_unet\.|vssm_encoder\.)?patch_embed\.proj\.weight",
        r"encoder\.stem\.(0\.conv1|convs\.0\.conv)\.weight",
        r"encoder\.stages\.0\.0\.convs\.0\.conv\.weight",
    )
    for pattern in first:
        for name, tensor in weights.items():
            if re.fullmatch(pattern, name):
                depthwise = pattern == first[0]
                return int(tensor.shape[0] if depthwise else tensor.shape[1])
    return None


def _counts(weights: Weights, pattern: str) -> dict[int, int]:
    """First number of a name -> the largest second one."""
    largest: dict[int, int] = {}
    for name in weights:
        if found := re.match(pattern, name):
            largest[int(found[1])] = max(largest.get(int(found[1]), 0), int(found[2]))
    return largest


def _stages(weights: Weights, pattern: str) -> tuple[list[int], list[int]]:
    """Width and number of blocks of each stage."""
    depths = [highest + 1 for _, highest in sorted(_counts(weights, pattern).items())]
    widths: dict[int, int] = {}
    for name, tensor in weights.items():
        if found := re.fullmatch(pattern, name):
            widths[int(found[1])] = tensor.shape[0]
    return [width for _, width in sorted(widths.items())], depths


def _states(weights: Weights, block: str) -> int:
    return int(weights[f"{block}self_attention.A_logs"].shape[-1])


SIZES_FROM_WEIGHTS: dict[str, Callable[[Weights], dict[str, Any]]] = {
    "lightm_unet": _lightm_unet,
    "mamba_unet": _mamba_unet,
    "swin_umamba": _swin_umamba,
    "swin_umamba_d": _swin_umamba_d,
}
