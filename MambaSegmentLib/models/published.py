"""Weights as the authors of the networks published them: other names for the same tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError
from .registry import architecture_named
from .renaming import Renaming, renamed

_NNUNET_ENTRY = "network_weights"  # of a checkpoint, next to the trainer's name and its arguments
_WRAPPERS = (f"{_NNUNET_ENTRY}.", "module.", "_orig_mod.")  # the last two of data-parallel and compiled training
_SHOWN = 8


@dataclass(frozen=True)
class LoadReport:
    """What became of a state dict: our names of what was loaded and missing, their names of what was too much."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_published_weights(net: nn.Module, state_dict: Mapping[str, Any]) -> LoadReport:
    """Put the authors' weights into a network made by `build_model`. All of them, or none.

    Args:
        net: the network; its options must be those of the published one.
        state_dict: tensors by the authors' names, wrapper prefixes such as "module." allowed; or a checkpoint of
            nnU-Net's training that holds them. A tensor may come under several names, if it is the same under each.
    Raises:
        BundleError: another version of the network, tensors missing, unknown, of another shape, or given twice with
            different values; each is named.
    """
    architecture = architecture_named(str(net.architecture_name))
    theirs = _tensors_of(state_dict)
    reason = architecture.refuse_other_versions({without_wrappers(name): tensor for name, tensor in theirs.items()})
    if reason is not None:
        raise BundleError(reason)
    ours, differing = _by_our_names(theirs, architecture.published_names)
    wanted = net.state_dict()
    missing = tuple(name for name in wanted if name not in ours)
    unexpected = tuple(name for our_name, name in ours.items() if our_name not in wanted)
    report = LoadReport(tuple(name for name in wanted if name in ours), missing, unexpected)
    misshapen = [
        f"{ours[name]} {tuple(theirs[ours[name]].shape)} instead of {tuple(wanted[name].shape)}"
        for name in report.loaded
        if theirs[ours[name]].shape != wanted[name].shape
    ]
    if missing or unexpected or misshapen or differing:
        raise BundleError(
            f"the weights do not fit {net.architecture_name}: {len(report.loaded)} of {len(wanted)} tensors found"
            f"{listed('missing', missing)}{listed('unknown', unexpected)}{listed('of another shape', misshapen)}"
            f"{listed('given twice with different values', differing)}; "
            "build the network with the options it was trained with"
        )
    net.load_state_dict({name: theirs[ours[name]] for name in wanted})
    return report


def _tensors_of(state_dict: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict itself, or the one inside a checkpoint.

    Raises:
        BundleError: entries that are no tensors, or tensors that cannot be weights.
    """
    tensors = state_dict.get(_NNUNET_ENTRY, state_dict) if isinstance(state_dict, Mapping) else state_dict
    if not isinstance(tensors, Mapping):
        raise BundleError(f"not a state dict but of type {type(tensors).__name__}; expected tensors by their names")
    others = [str(name) for name, value in tensors.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise BundleError(
            f"not a state dict{listed('no tensors', others)}; give the entry that holds the network's tensors"
        )
    unfit = [
        f"{name} ({tensor.dtype}, {tensor.layout})" for name, tensor in tensors.items() if not can_be_weights(tensor)
    ]
    if unfit:
        raise BundleError(f"weights must be dense and of real floating point{listed('other tensors', unfit)}")
    return tensors


def can_be_weights(tensor: Tensor) -> bool:
    """Others would be rounded, lose their imaginary part or stop torch halfway."""
    return tensor.is_floating_point() and tensor.layout == torch.strided


def _by_our_names(theirs: Mapping[str, Tensor], renaming: Renaming) -> tuple[dict[str, str], list[str]]:
    """From our names to the first of theirs, and further names of theirs whose tensor is not the same."""
    ours: dict[str, str] = {}
    differing = []
    for name, tensor in theirs.items():
        first = ours.setdefault(renamed(without_wrappers(name), renaming), name)
        if first != name and not _same(theirs[first], tensor):
            differing.append(f"{first} and {name}")
    return ours, differing


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def without_wrappers(name: str) -> str:
    """Wrappers nest in any order: a compiled network may be trained in parallel, or the other way round."""
    while name.startswith(_WRAPPERS):
        for prefix in _WRAPPERS:
            name = name.removeprefix(prefix)
    return name


def listed(what: str, names: tuple[str, ...] | list[str]) -> str:
    """A part of a message: the first few names and how many more; nothing for none."""
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; {what}: {', '.join(names[:_SHOWN])}{more}"
