"""The network of a run and the patch it sees."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.planned_patch import (
    enlarged_patch,
    follows_plan,
    planned_options,
    planned_patch,
    with_input_size,
)

from .augment import seeded
from .compat_nnunet import INSTALL
from .config import TrainingConfig
from .prepare import PreparedDataset

_INITIAL_WEIGHTS = 2  # purpose of random numbers; data.py has 0 and 1, loop.py 3


def build_network(dataset: PreparedDataset, config: TrainingConfig) -> nn.Module:
    """The network of a run, with its initial weights: the same for the same seed."""
    given = {"in_channels": len(dataset.channels), "num_classes": dataset.output_count}
    options = network_options(dataset, config)
    clash = [name for name, value in given.items() if options[name] != value]
    if clash:
        raise ConfigError(f"network.options.{clash[0]} is {options[clash[0]]}, but the data has {given[clash[0]]}")
    if "activation_checkpointing" in options:
        raise ConfigError(
            "activation_checkpointing is of the training, not of the model: set it without network.options before it"
        )
    options["activation_checkpointing"] = config.activation_checkpointing
    with seeded(np.random.SeedSequence((config.seed, _INITIAL_WEIGHTS))):
        return build_model(config.network.name, options)


def network_options(dataset: PreparedDataset, config: TrainingConfig) -> dict[str, Any]:
    """All options of `build_model`: those of the configuration, and what the data, the plan and the patch determine.

    Raises:
        ConfigError: a network that needs more than the data and the plan can tell.
    """
    name, plan = config.network.name, dataset.plan.to_json()
    given = {"in_channels": len(dataset.channels), "num_classes": dataset.output_count, **config.network.options}
    try:
        options = planned_options(name, given, plan)
    except ConfigError as problem:
        if dataset.plan.flat:
            advice = "the data set holds single slices: set spatial_dims to 2"
        else:
            advice = (
                f"{dataset.folder} was prepared without nnU-Net, which makes it: {INSTALL}, then run `mambatrain "
                "prepare` again; or give them all in network.options"
            )
        raise ConfigError(f"{problem}; {advice}") from problem
    return with_input_size(name, options, planned_patch(name, given, plan), config.data.patch_size)


def patch_size_of(network: nn.Module, dataset: PreparedDataset, config: TrainingConfig) -> tuple[int, ...]:
    """Voxels of a patch: (K, J, I), or (J, I) for a network of two dimensions, which sees slices across K.

    What the configuration leaves open is the planned patch, enlarged to the multiple that the network needs.

    Raises:
        ConfigError: a patch of other dimensions than the network's, or mirroring along an axis that it does not have.
        ShapeError: a size that the network cannot take.
    """
    structure: Any = network
    dims = structure.config.spatial_dims
    name, given = config.network.name, config.network.options
    planned = planned_patch(name, given, dataset.plan.to_json())
    patch = config.data.patch_size or enlarged_patch(network, planned)
    if dataset.plan.flat and dims == 3:
        raise ConfigError(f"the data set holds single slices, and {structure.architecture_name} here takes volumes")
    if len(patch) != dims:
        expected = "(K, J, I)" if dims == 3 else "(J, I), of a slice"
        raise ConfigError(f"data.patch_size is {patch}; {structure.architecture_name} here takes {dims}: {expected}")
    beyond = [axis for axis in config.augment.mirror_axes if axis >= dims]
    if beyond:
        raise ConfigError(f"augment.mirror_axes holds {beyond[0]}; the axes of this patch are 0 to {dims - 1}")
    try:
        structure.check_input(torch.empty(1, len(dataset.channels), *patch, device="meta"))
    except ShapeError as problem:
        if config.data.patch_size is None or not follows_plan(name, given):
            raise
        sizes = ",".join(map(str, patch))
        raise ShapeError(
            f"{problem}; or let `mambatrain prepare --patch-size {sizes}` plan the network for it"
        ) from problem
    return patch


def planned_patch_size(dataset: PreparedDataset, config: TrainingConfig) -> tuple[int, ...]:
    """`patch_size_of` the network that the configuration names, which is not built for it."""
    with torch.device("meta"):
        return patch_size_of(build_model(config.network.name, network_options(dataset, config)), dataset, config)


class HeldStill:
    """Parameters that do not train before a certain step.

    They have no gradient until then, so that the optimiser neither moves nor decays them and keeps nothing about them:
    its moments of them begin at the step where they begin to train.

    Args:
        names: of the network's parameters.
        steps: optimiser steps for which they are held.
    """

    def __init__(self, network: nn.Module, names: list[str], steps: int) -> None:
        self.steps = steps
        self._parameters: list[Tensor] = [network.get_parameter(name) for name in names] if steps > 0 else []

    def at(self, step: int) -> None:
        """Hold or free them for optimiser step `step`, whatever happened before."""
        for parameter in self._parameters:
            parameter.requires_grad_(step >= self.steps)
