"""From a backend's name to a result: choose, check at first use, step back if it fails."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from . import backends, trust
from .arguments import ScanArguments

if TYPE_CHECKING:
    from .directions import DirectionalArguments

T = TypeVar("T")


def needs_gradients(*tensors: Tensor | None) -> bool:
    """Whether a backward pass through these may follow."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def scan_check(states: int, with_gradients: bool) -> tuple[object, ...]:
    """What trust.py remembers of a scan beside device and dtype: each is a kernel of its own."""
    return ("scan", states, with_gradients)


def run(name: str, arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y and the last state by backend `name`, or by the one that `auto` takes.

    A backend that `auto` took and that fails is given up with a warning, and `chunked` computes the result; one
    that the caller named raises what it raises.

    Raises:
        ConfigError: no such backend, or one that cannot take this input.
    """
    u = arguments.u
    chosen = backends.resolve(name, u.device, u.dtype, arguments.A.shape[1])
    backend = backends.BACKENDS[chosen]
    if name != "auto" or chosen == "chunked":
        return backend.load().scan(arguments)

    def compare() -> str | None:
        from .small_scans import compare_scans

        return compare_scans(backend.load().scan, _chunked, arguments)

    what = scan_check(arguments.A.shape[1], needs_gradients(*arguments.tensors()))
    return _stepping_back(
        _Check(chosen, what, u, compare if backend.checked else None), lambda: backend.load().scan(arguments),
        lambda: _chunked(arguments),
    )  # fmt: skip


def run_directional(
    name: str, arguments: "DirectionalArguments", composed: Callable[["DirectionalArguments", str], Tensor]
) -> Tensor:
    """The scan along several directions, fused where the backend can; else, or if that fails, `composed`.

    Raises:
        ConfigError: no such backend, or one that cannot take this input.
    """
    u, states = arguments.u, arguments.A.shape[1]
    chosen = backends.resolve(name, u.device, u.dtype, states)
    backend = backends.BACKENDS[chosen]
    if chosen in ("chunked", "reference"):
        return composed(arguments, name)
    if name != "auto":
        fused = getattr(backend.load(), "directional_scan", None)
        return composed(arguments, name) if fused is None else fused(arguments)

    def compare() -> str | None:
        from .small_scans import compare_directional

        scan = getattr(backend.load(), "directional_scan", None)
        if scan is None:
            return None  # the single scans are compared
        return compare_directional(scan, lambda a: composed(a, "chunked"), arguments)

    def attempt() -> Tensor:
        fused = getattr(backend.load(), "directional_scan", None)
        return composed(arguments, "auto") if fused is None else fused(arguments)

    what = ("directions", states, needs_gradients(*arguments.tensors()))
    check = _Check(chosen, what, u, compare if backend.checked else None)
    return _stepping_back(check, attempt, lambda: composed(arguments, "chunked"))


@dataclass(frozen=True)
class _Check:
    """What is to be found right, once, before it is used; `compare` is None for a backend that needs no check."""

    backend: str
    what: object
    like: Tensor
    compare: Callable[[], str | None] | None


def _stepping_back(check: _Check, attempt: Callable[[], T], instead: Callable[[], T]) -> T:
    """What `attempt` gives; if the backend fails the check or in it, give the backend up and do the other thing."""
    problem = None
    if check.compare is not None and not trust.was_checked(check.backend, check.what, check.like):
        if trust.is_captured(check.like):
            message = f"the scan backend {check.backend!r} cannot be checked in a CUDA graph: call it once before"
            warnings.warn(message, trust.BackendWarning, stacklevel=4)
            return instead()
        problem = trust.fault(check.backend, check.what, check.like, check.compare)
    try:
        if problem is None:
            return attempt()
    except Exception as error:  # compilers and drivers raise errors of many kinds
        if not trust.is_failure_of_backend(error):
            raise
        problem = f"{type(error).__name__}: {error}"
    trust.give_up(check.backend, check.like.device, problem)
    return instead()


def _chunked(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    return backends.BACKENDS["chunked"].load().scan(arguments)
