"""The patch that a network is trained on where nobody chose one, and the option of a network that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from .registry import architecture_named, build_model


def enlarged_patch(network: nn.Module, planned: Sequence[int]) -> tuple[int, ...]:
    """Voxels (K, J, I), or (J, I) for a network of two dimensions, each enlarged to the multiple that its axis needs.

    Args:
        planned: (K, J, I), from the data alone.
    """
    structure: Any = network
    dims = structure.config.spatial_dims
    multiples = getattr(structure.config, "size_multiples", (structure.size_multiple,) * dims)
    return tuple(-(-size // multiple) * multiple for size, multiple in zip(planned[-dims:], multiples, strict=True))


def with_input_size(
    name: str, options: Mapping[str, Any], planned: Sequence[int], given: Sequence[int] | None = None
) -> dict[str, Any]:
    """The options of `build_model`, and `input_size` for U-Mamba_Enc, which is built for the patch that it sees.

    Args:
        planned: (K, J, I); given: the patch that was chosen instead, if one was.
    Raises:
        ConfigError: as `build_model`.
    """
    asked = {field.name for field in fields(architecture_named(name).config)}
    if "input_size" not in asked or "input_size" in options:
        return dict(options)
    with torch.device("meta"):
        same_sizes = build_model("umamba_bot", options)  # of both kinds of U-Mamba, but for where Mamba is
    return {**options, "input_size": list(given or enlarged_patch(same_sizes, planned))}
