"""Weights as the authors of the networks published them: other names for the same tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import BundleError
from .registry import ARCHITECTURES
from .renaming import renamed

_WRAPPERS = ("module.", "_orig_mod.")  # of data-parallel and compiled training
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
        state_dict: tensors by the authors' names, wrapper prefixes such as "module." allowed.
    Raises:
        BundleError: another version of the network, tensors missing, unknown or of another shape; each is named.
    """
    architecture = ARCHITECTURES[str(net.architecture_name)]
    theirs = {_without_wrappers(name): tensor for name, tensor in state_dict.items()}
    reason = architecture.refuse_other_versions(theirs)
    if reason is not None:
        raise BundleError(reason)
    ours = {renamed(name, architecture.published_names): name for name in theirs}
    wanted = net.state_dict()
    missing = tuple(name for name in wanted if name not in ours)
    unexpected = tuple(name for our_name, name in ours.items() if our_name not in wanted)
    report = LoadReport(tuple(name for name in wanted if name in ours), missing, unexpected)
    misshapen = [
        f"{ours[name]} {tuple(theirs[ours[name]].shape)} instead of {tuple(wanted[name].shape)}"
        for name in report.loaded
        if theirs[ours[name]].shape != wanted[name].shape
    ]
    if missing or unexpected or misshapen:
        raise BundleError(
            f"the weights do not fit {net.architecture_name}: {len(report.loaded)} of {len(wanted)} tensors found"
            f"{_listed('missing', missing)}{_listed('unknown', unexpected)}{_listed('of another shape', misshapen)}; "
            "build the network with the options it was trained with"
        )
    net.load_state_dict({name: theirs[ours[name]] for name in wanted})
    return report


def _without_wrappers(name: str) -> str:
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def _listed(what: str, names: tuple[str, ...] | list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; {what}: {', '.join(names[:_SHOWN])}{more}"
