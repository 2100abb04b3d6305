"""The whole state of a training run in one file without pickle, and the state before it beside it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError

from .average import WeightAverage
from .run_folder import DAMAGED, LAST, PREVIOUS
from .tensor_file import DamagedFileError, read_tensors, write_tensors

_WEIGHTS, _AVERAGE, _OPTIMIZER = "weights/", "average/", "optimizer/"
_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_OPTIMIZER_TENSORS = {"AdamW": _ADAM, "Adam": _ADAM, "SGD": {"momentum_buffer"}}


@dataclass
class TrainingState:
    """Everything that changes while a network is trained.

    Attributes:
        step: optimiser steps taken.
        open_steps: of the epoch under way; loss_sum, loss_steps: of those that were not left out.
        elapsed_s: time spent, over all sittings.
        best_dice, best_epoch: of the best validation so far.
        worse_validations: in a row, since the best.
        bad_steps: in a row whose loss or gradients were no numbers; left_out of them in all.
        float32_from: the step from which a training in bfloat16 went on in float32.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    step: int = 0
    open_steps: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    elapsed_s: float = 0.0
    best_dice: float | None = None
    best_epoch: int | None = None
    worse_validations: int = 0
    bad_steps: int = 0
    left_out: int = 0
    float32_from: int | None = None

    def numbers(self) -> dict[str, Any]:
        parts = ("network", "optimizer", "average")
        return {name: value for name, value in vars(self).items() if name not in parts}


def save_newest(run: Path, state: TrainingState) -> None:
    """Write the state as the run's last; the one before is kept in case this one is ever found damaged."""
    save_state(run / LAST, state, keep=run / PREVIOUS)


def load_newest(run: Path, state: TrainingState) -> str | None:
    """Bring a freshly built `state` to the run's last, or to the one before where the last is missing or damaged.

    Returns:
        What to tell the user when it was not the last; else None.
    Raises:
        ConfigError: neither can be used, or they are of another network, optimiser or average.
    """
    try:
        load_state(run / LAST, state)
    except DamagedFileError as problem:
        if not (run / PREVIOUS).is_file():
            raise
        try:
            load_state(run / PREVIOUS, state)
        except DamagedFileError as other:
            raise ConfigError(f"{problem}; {other}: both states of the run are lost, start a new one") from other
        return f"{problem}; going on from the state before it, after step {state.step} ({PREVIOUS})"
    return None


def set_damaged_aside(run: Path) -> None:
    """Keep a last state that cannot be used from taking the place of the good one before it."""
    if (run / LAST).exists():
        os.replace(run / LAST, run / DAMAGED)  # noqa: PTH105


def has_state(run: Path) -> bool:
    """Whether the run was saved at least once."""
    return (run / LAST).exists() or (run / PREVIOUS).exists()


def save_state(path: Path, state: TrainingState, keep: Path | None = None) -> None:
    """Write all that an exact resumption needs. What the configuration determines, such as the rates, is not stored."""
    tensors = _prefixed(_WEIGHTS, state.network.state_dict())
    numbers = state.numbers()
    if state.average is not None:
        tensors |= _prefixed(_AVERAGE, state.average.tensors)
        numbers["average_updates"] = state.average.updates
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= _prefixed(f"{_OPTIMIZER}{index}/", entries)
    write_tensors(path, tensors, numbers, keep)


def load_state(path: Path, state: TrainingState) -> None:
    """Bring a freshly built `state` to where `save_state` left it.

    Raises:
        ConfigError: no such file, a damaged one, or one of another network, optimiser or average.
    """
    tensors, numbers = read_tensors(path)
    try:
        state.network.load_state_dict(_without_prefix(_WEIGHTS, tensors))
    except RuntimeError as error:
        raise ConfigError(f"{path} holds another network than the configuration names: {error}") from error
    if state.average is not None:
        stored = _without_prefix(_AVERAGE, tensors)
        if stored.keys() != state.average.tensors.keys():
            raise ConfigError(f"{path} holds no average of this network's weights; ema_decay was changed since")
        for name, tensor in stored.items():
            state.average.tensors[name].copy_(tensor)
        state.average.updates = numbers["average_updates"]
    _load_optimizer(state.optimizer, _without_prefix(_OPTIMIZER, tensors))
    for name, unset in state.numbers().items():
        setattr(state, name, numbers.get(name, unset))  # files of earlier versions have fewer


def save_weights(path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a network's weights alone, with JSON facts such as the epoch and its Dice."""
    write_tensors(path, _prefixed(_WEIGHTS, weights), facts)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_weights` wrote; of a whole state the weights and the numbers.

    Raises:
        ConfigError: no such file, or a damaged one.
    """
    tensors, facts = read_tensors(path)
    return _without_prefix(_WEIGHTS, tensors), facts


def _load_optimizer(optimizer: torch.optim.Optimizer, stored: Mapping[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, tensor in stored.items():
        index, _, name = key.partition("/")
        entries.setdefault(int(index), {})[name] = tensor
    own = getattr(optimizer, "optim", optimizer)  # sharded: what keeps this process's share of the moments
    known = _OPTIMIZER_TENSORS[type(own).__name__]
    foreign = {name for entry in entries.values() for name in entry} - known
    if foreign:  # PyTorch would load it, and begin anew without a word
        raise ConfigError(f"the checkpoint belongs to another optimiser: it has {', '.join(sorted(foreign))}")
    try:
        optimizer.load_state_dict({"state": entries, "param_groups": _numbered_groups(optimizer)})
    except (ValueError, KeyError) as error:
        raise ConfigError(f"the checkpoint belongs to another optimiser: {error}") from error
    if own is not optimizer:
        optimizer.state.clear()  # a second copy of the share, on the device


def _numbered_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The groups as in a state dict, which a sharded optimiser only gives once all shares were gathered."""
    groups: list[dict[str, Any]] = []
    first = 0
    for group in optimizer.param_groups:
        end = first + len(group["params"])
        groups.append(group | {"params": list(range(first, end))})
        first = end
    return groups


def _prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors refuses tensors that share memory, such as tied weights."""
    return {
        prefix + name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)  # SGD keeps None where a parameter had no gradient yet
    }


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
