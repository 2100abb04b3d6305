"""The passes of gpu_passes.py as one differentiable function."""

import functools
from typing import Any

import torch
from torch import Tensor

from . import chunked, trust
from .arguments import ScanArguments
from .gpu_passes import Bind, ScanGradients, backward, forward, make_task
from .gradients import gradients_by_autograd

_PROCESSORS_ELSEWHERE = 4  # of a device that is no GPU: kernels under test on a CPU, where chunks should be cut too


def scan_with(bind: Bind, arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32, differentiable, by a backend's kernels."""
    tensors = arguments.tensors()
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        y, last = _Scan.apply(bind, arguments.delta_softplus, *tensors)
    else:
        y, last, _ = forward(bind, make_task(arguments, processors_of(arguments.u.device)))
    return y.to(arguments.u.dtype), last


def gradients_with(
    bind: Bind, arguments: ScanArguments, dy: Tensor, d_last: Tensor | None, carries: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """Derivatives in the order and with the dtypes of `arguments.tensors()`, None for what is absent."""
    task = make_task(arguments, processors_of(arguments.u.device))
    return _as_inputs(arguments, backward(bind, task, carries, dy, d_last))


class _Scan(torch.autograd.Function):
    """Forward keeps the state before each chunk; backward computes all other states again."""

    @staticmethod
    def forward(ctx: Any, bind: Bind, softplus: bool, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        arguments = _arguments_of(tensors, softplus)
        y, last, carries = forward(bind, make_task(arguments, processors_of(arguments.u.device)))
        ctx.bind, ctx.softplus = bind, softplus
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, carries)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, carries = ctx.saved_tensors
        arguments = _arguments_of(tuple(tensors), ctx.softplus)
        dy = torch.zeros_like(arguments.u) if dy is None else dy
        try:
            return (None, None, *gradients_with(ctx.bind, arguments, dy, d_last, carries))
        except Exception as error:  # drivers raise errors of many kinds
            if not trust.is_failure_of_backend(error):
                raise
            trust.give_up(ctx.bind.backend, arguments.u.device, f"{type(error).__name__}: {error}")
            return (None, None, *gradients_by_autograd(chunked.scan, arguments, dy, d_last))


def _arguments_of(tensors: tuple[Tensor | None, ...], softplus: bool) -> ScanArguments:
    u, delta, A, B, C, D, z, bias, initial = tensors
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    return ScanArguments(u, delta, A, B, C, D, z, bias, softplus, initial)


def _as_inputs(arguments: ScanArguments, gradients: ScanGradients) -> tuple[Tensor | None, ...]:
    found = (
        gradients.u, gradients.delta, gradients.A, gradients.B, gradients.C, gradients.D, gradients.z,
        gradients.delta_bias, gradients.initial_state,
    )  # fmt: skip
    return tuple(
        None if tensor is None or gradient is None else gradient.to(tensor.dtype)
        for tensor, gradient in zip(arguments.tensors(), found, strict=True)
    )


@functools.cache
def processors_of(device: torch.device) -> int:
    """Multiprocessors of a GPU."""
    if device.type != "cuda":
        return _PROCESSORS_ELSEWHERE
    return torch.cuda.get_device_properties(device).multi_processor_count
