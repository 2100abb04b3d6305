"""Weights as the authors of the networks published them: other names for the same tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import BundleError
from .registry import ARCHITECTURES
from .renaming import Renaming, renamed

_CHECKPOINT_KEY = "network_weights"  # of nnU-Net
_WRAPPERS = (f"{_CHECKPOINT_KEY}.", "module.", "_orig_mod.")  # of data-parallel and compiled training
_SHOWN = 8


@dataclass(frozen=True)
class LoadReport:
    """What became of a state dict: our names of what was loaded and missing, their names of what was too much."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_published_weights(net: nn.Module, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Put the authors' weights into a network made by `build_model`. All of them, or none.

    Args:
        net: the network; its options must be those of the published one.
        state_dict: tensors by the authors' names, wrapper prefixes such as "module." allowed; or an nnU-Net checkpoint
            that holds them as "network_weights". Where the authors' code has several names for one tensor, any of them
            will do, and more than one if they agree.
    Raises:
        BundleError: another version of the network; tensors missing, unknown, of another shape, or that differ though
            they are one; each is named.
    """
    architecture = ARCHITECTURES[str(net.architecture_name)]
    inner = state_dict.get(_CHECKPOINT_KEY)
    if isinstance(inner, Mapping):
        state_dict = inner
    reason = architecture.refuse_other_versions({_without_wrappers(name): name for name in state_dict})
    if reason is not None:
        raise BundleError(reason)
    ours = _without_aliases(state_dict, architecture.published_names)
    wanted = net.state_dict()
    missing = tuple(name for name in wanted if name not in ours)
    unexpected = tuple(name for our_name, name in ours.items() if our_name not in wanted)
    report = LoadReport(tuple(name for name in wanted if name in ours), missing, unexpected)
    misshapen = [
        f"{ours[name]} {tuple(state_dict[ours[name]].shape)} instead of {tuple(wanted[name].shape)}"
        for name in report.loaded
        if state_dict[ours[name]].shape != wanted[name].shape
    ]
    if missing or unexpected or misshapen:
        raise BundleError(
            f"the weights do not fit {net.architecture_name}: {len(report.loaded)} of {len(wanted)} tensors found"
            f"{_listed('missing', missing)}{_listed('unknown', unexpected)}{_listed('of another shape', misshapen)}; "
            "build the network with the options it was trained with"
        )
    net.load_state_dict({name: state_dict[ours[name]] for name in wanted})
    return report


def _without_wrappers(name: str) -> str:
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def _without_aliases(state_dict: Mapping[str, Tensor], names: Renaming) -> dict[str, str]:
    """Our name -> one of theirs. Raises BundleError if two of their names for one tensor hold different values."""
    ours: dict[str, str] = {}
    for name, tensor in state_dict.items():
        first = ours.setdefault(renamed(_without_wrappers(name), names), name)
        if first != name and not _equal(state_dict[first], tensor):
            raise BundleError(
                f"{first} and {name} are two names of one tensor but hold different values; the file is damaged or was "
                "put together from several networks"
            )
    return ours


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _listed(what: str, names: tuple[str, ...] | list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; {what}: {', '.join(names[:_SHOWN])}{more}"
