"""The scan as an operator of PyTorch's own kind, for whatever looks at operators rather than running them.

torch.compile and torch.export, fake tensors and the FLOP counter cannot look into compiled kernels. For them
`selective_scan` is one operator with a rule for its shapes, its derivative and its cost. In an ordinary call nobody
looks, and the backend is called directly: an operator written in Python would add tens of microseconds to each call.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import trust
from .arguments import ScanArguments
from .backends import BACKENDS, resolve
from .dispatch import run, scan_check
from .gradients import gradients_by_autograd


def somebody_looks(u: Tensor) -> bool:
    """Whether this call is traced, counted or computed on tensors without data."""
    return (
        torch.compiler.is_compiling()
        or type(u) not in (Tensor, torch.nn.Parameter)
        or torch._C._len_torch_dispatch_stack() > 0
    )


@torch.library.custom_op("mambasegment::selective_scan", mutates_args=())
def scan_operator(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u, laid out as _like(u) says, and the last state; B and C (B, G, N, L)."""
    arguments = _arguments(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)
    with torch.no_grad():
        y, last = run(backend, arguments)
        wanted = _like(u)
        same = y.stride() == wanted.stride()
        return y if same else wanted.copy_(y), last.contiguous()


@scan_operator.register_fake
def _(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, delta_softplus: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    return _like(u), u.new_empty(u.shape[0], u.shape[1], A.shape[1], dtype=dtype)


@torch.library.custom_op("mambasegment::selective_scan_backward", mutates_args=())
def backward_operator(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    backend: str,
    dy: Tensor,
    d_last: Tensor,
) -> list[Tensor]:
    """The derivatives by the tensors that are there, in their order, contiguous."""
    arguments = _arguments(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus)
    chosen = resolve(backend, u.device, u.dtype, A.shape[1])
    own = getattr(BACKENDS[chosen].load(), "gradients", None)
    if backend == "auto" and not trust.was_checked(chosen, scan_check(A.shape[1], True), u):
        own = None  # the way through `run` checks it, and the next call is direct
    found = (
        own(arguments, dy, d_last) if own else gradients_by_autograd(lambda a: run(backend, a), arguments, dy, d_last)
    )
    return [gradient.contiguous().clone() for gradient in found if gradient is not None]


@backward_operator.register_fake
def _(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, delta_softplus: bool, backend: str, dy: Tensor,
    d_last: Tensor,
) -> list[Tensor]:  # fmt: skip
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return [tensor.new_empty(tensor.shape) for tensor in tensors if tensor is not None]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.softplus, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _derivative(ctx: Any, dy: Tensor, d_last: Tensor) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    found = iter(backward_operator(*tensors, ctx.softplus, ctx.backend, dy, d_last))
    return (*(None if tensor is None else next(found) for tensor in tensors), None, None)


scan_operator.register_autograd(_derivative, setup_context=_keep)


def _flops(u: Sequence[int], states: int, *, backward: bool) -> int:
    """Additions, multiplications and exponentials, each as one.

    A state and step: delta A, its exponential, delta u B, and two each to advance the state and to read it out. The way
    back: the same again for the state, and of the equations in docs/scan.md two each for g, w, dA, ddelta and d(delta
    u), one for each product of dB and dC and one for each of their sums over channels.
    """
    return math.prod(u) * states * (7 + 14 if backward else 7)


@register_flop_formula(torch.ops.mambasegment.selective_scan)
def _(u: Any, delta: Any, A: Any, *others: Any, out_shape: Any = None, **named: Any) -> int:
    return _flops(u, A[1], backward=False)


@register_flop_formula(torch.ops.mambasegment.selective_scan_backward)
def _(u: Any, delta: Any, A: Any, *others: Any, out_shape: Any = None, **named: Any) -> int:
    return _flops(u, A[1], backward=True)


def _like(u: Tensor) -> Tensor:
    """An uninitialised tensor of the shape and dtype of u, channels last in memory where u is."""
    batch, channels, length = u.shape
    if u.stride(1) == 1 and channels > 1:
        return u.new_empty(batch, length, channels).transpose(1, 2)
    return u.new_empty(batch, channels, length)


def _arguments(*tensors_and_softplus: Any) -> ScanArguments:
    *tensors, softplus = tensors_and_softplus
    plain: list[Any] = [None if tensor is None else tensor.detach() for tensor in tensors]
    u, delta, A, B, C, D, z, bias, initial = plain
    return ScanArguments(u, delta, A, B, C, D, z, bias, softplus, initial)
