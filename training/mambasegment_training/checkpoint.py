"""The whole state of a training run in one file without pickle: safetensors, with the numbers as JSON in its header."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path

from .average import WeightAverage

_KEY = "mambatrain"
_WEIGHTS, _AVERAGE, _OPTIMIZER = "weights/", "average/", "optimizer/"
_OPTIMIZER_TENSORS = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}


@dataclass
class TrainingState:
    """Everything that changes while a network is trained.

    Attributes:
        step: optimiser steps taken.
        loss_sum, loss_steps: of the epoch under way.
        elapsed_s: time spent, over all sittings.
        best_dice, best_epoch: of the best validation so far.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None
    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    elapsed_s: float = 0.0
    best_dice: float | None = None
    best_epoch: int | None = None

    def numbers(self) -> dict[str, Any]:
        names = ("step", "loss_sum", "loss_steps", "elapsed_s", "best_dice", "best_epoch")
        return {name: getattr(self, name) for name in names}


def save_state(path: Path, state: TrainingState) -> None:
    """Write all that an exact resumption needs. What the configuration determines, such as the rates, is not stored."""
    tensors = _prefixed(_WEIGHTS, state.network.state_dict())
    numbers = state.numbers()
    if state.average is not None:
        tensors |= _prefixed(_AVERAGE, state.average.tensors)
        numbers["average_updates"] = state.average.updates
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= _prefixed(f"{_OPTIMIZER}{index}/", entries)
    _write(path, tensors, numbers)


def load_state(path: Path, state: TrainingState) -> None:
    """Bring a freshly built `state` to where `save_state` left it.

    Raises:
        ConfigError: no such file, a damaged one, or one of another network, optimiser or average.
    """
    tensors, numbers = _read(path)
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
    for name in state.numbers():
        setattr(state, name, numbers[name])


def save_weights(path: Path, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a network's weights alone, with JSON facts such as the epoch and its Dice."""
    _write(path, _prefixed(_WEIGHTS, weights), facts)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_weights` wrote; of a whole state the weights and the numbers.

    Raises:
        ConfigError: no such file, or a damaged one.
    """
    tensors, facts = _read(path)
    return _without_prefix(_WEIGHTS, tensors), facts


def _load_optimizer(optimizer: torch.optim.Optimizer, stored: Mapping[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, tensor in stored.items():
        index, _, name = key.partition("/")
        entries.setdefault(int(index), {})[name] = tensor
    known = _OPTIMIZER_TENSORS[type(optimizer).__name__]
    foreign = {name for entry in entries.values() for name in entry} - known
    if foreign:  # PyTorch would load it, and begin anew without a word
        raise ConfigError(f"the checkpoint belongs to another optimiser: it has {', '.join(sorted(foreign))}")
    try:
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    except (ValueError, KeyError) as error:
        raise ConfigError(f"the checkpoint belongs to another optimiser: {error}") from error


def _prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors refuses tensors that share memory, such as tied weights."""
    return {
        prefix + name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)  # SGD keeps None where a parameter had no gradient yet
    }


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _write(path: Path, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
    with atomic_path(path, ConfigError) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(facts, allow_nan=False)})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; there is nothing to go on from")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is damaged or no checkpoint of mambatrain: {error}") from error
