"""What a training plan decides about a network where nobody chose: its patch, its stages, and what follows from both.

A plan is the object `plan` of a work folder's dataset.json: `patch_size` (K, J, I), where K is 1 if all cases are
single slices, and `topologies`, an object "2d" and one "3d", each a patch and stages as nnU-Net plans them, if it was
there to plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from .registry import architecture_named, build_model

STAGES = ("features_per_stage", "kernel_sizes", "strides")


def follows_plan(name: str, given: Mapping[str, Any], kind: type | None = None) -> bool:
    """Whether the network has stages that the options leave open.

    Args:
        kind: the dataclass of the network's options, here and below; None for a network of the registry.
    """
    return any(option in _options_of(name, kind) and option not in given for option in STAGES)


def dimensions(name: str, options: Mapping[str, Any], kind: type | None = None) -> int:
    """Of the network: an option, its default, or a fixed number."""
    return int(options.get("spatial_dims", getattr(_kind(name, kind), "spatial_dims", 3)))


def planned_options(
    name: str, given: Mapping[str, Any], plan: Mapping[str, Any], kind: type | None = None
) -> dict[str, Any]:
    """The given options, and those that the plan has for what they leave open.

    Raises:
        ConfigError: the plan has no stages of the network's dimensions.
    """
    options = dict(given)
    if plan["patch_size"][0] == 1 and "spatial_dims" in _options_of(name, kind):
        options.setdefault("spatial_dims", 2)
    if follows_plan(name, given, kind):
        dims = dimensions(name, options, kind)
        topology = _topology(plan, dims)
        if topology is None:
            raise ConfigError(f"{name} takes {', '.join(STAGES)} from the plan, which has none of {dims} dimensions")
        options = {option: topology[option] for option in STAGES} | options
    return options


def planned_patch(
    name: str, given: Mapping[str, Any], plan: Mapping[str, Any], kind: type | None = None
) -> tuple[int, ...]:
    """The patch whose stages the network has; for others, one that most networks' multiples divide."""
    flat = {"spatial_dims": 2} if plan["patch_size"][0] == 1 and "spatial_dims" in _options_of(name, kind) else {}
    dims = dimensions(name, flat | dict(given), kind)
    topology = _topology(plan, dims)
    if topology is not None and (dims == 2 or follows_plan(name, given, kind)):
        return tuple(topology["patch_size"])
    return tuple(plan["patch_size"][-dims:])


def _topology(plan: Mapping[str, Any], dims: int) -> Mapping[str, Any] | None:
    return (plan.get("topologies") or {}).get(f"{dims}d")


def _options_of(name: str, kind: type | None = None) -> set[str]:
    return {field.name for field in fields(_kind(name, kind))}


def _kind(name: str, kind: type | None) -> type[Any]:
    return architecture_named(name).config if kind is None else kind


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
    if "input_size" not in _options_of(name) or "input_size" in options:
        return dict(options)
    with torch.device("meta"):
        same_sizes = build_model("umamba_bot", options)  # of both kinds of U-Mamba, but for where Mamba is
    return {**options, "input_size": list(given or enlarged_patch(same_sizes, planned))}
