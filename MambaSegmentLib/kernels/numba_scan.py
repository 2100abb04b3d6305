"""The scan on the CPU: compiled vector kernels, shared out among threads, with a backward pass of its own.

Importing this file imports numba and compiles the kernels (seconds the first time, then read from disk).
"""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import numba_kernels
from .arguments import ScanArguments
from .numba_simd import LANES

_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32; both differentiable.

    Computes in float32. Inputs of another dtype are converted once; float32 ones are read where they lie, on any strides.
    """
    tensors = [None if tensor is None else tensor.float() for tensor in arguments.tensors()]
    y, last_state = _NumbaScan.apply(arguments.delta_softplus, *tensors)
    return y.to(arguments.u.dtype), last_state


class _NumbaScan(torch.autograd.Function):
    """Forward keeps the state at each tile's start (N/64 of the size of u); backward replays the tiles from there."""

    @staticmethod
    def forward(ctx: Any, softplus: bool, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        u, _, A, B, _, _, _, _, initial_state = tensors
        assert u is not None and A is not None and B is not None
        batch, channels, length = u.shape
        states = A.shape[1]
        last = u.new_zeros(batch, channels, states) if initial_state is None else initial_state.clone()
        last = last.contiguous()
        y = _empty_laid_out_like(u)
        tiles = math.ceil(length / numba_kernels.TILE) if any(ctx.needs_input_grad) else 0
        checkpoints = torch.empty(batch if tiles else 0, channels, tiles, states)
        inputs = _kernel_inputs(softplus, tensors)
        jobs = _count_jobs(u, B)
        results = (last.numpy(), y.numpy(), checkpoints.numpy())
        _in_shares(jobs, lambda first, shares: numba_kernels.forward(first, shares, jobs, *inputs, *results))
        ctx.softplus = softplus
        ctx.save_for_backward(*tensors, checkpoints)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, checkpoints = ctx.saved_tensors
        u, delta, A, B, _, D, z, bias, initial_state = tensors
        batch, channels, length = u.shape
        groups, states = B.shape[1], A.shape[1]
        padded = math.ceil(length / LANES) * LANES
        jobs = _count_jobs(u, B)
        shares = _count_shares(jobs)
        adjoints = (u.new_zeros(batch, channels, states) if d_last is None else d_last.float()).clone().contiguous()
        du, d_delta = _empty_laid_out_like(u), _empty_laid_out_like(delta)
        dz = _empty_laid_out_like(z) if z is not None else u.new_empty(0, 0, 0)
        # one set a share, summed in order afterwards: the result does not depend on which thread was faster
        d_A, d_D, d_bias = (
            u.new_zeros(shares, channels, states),
            u.new_zeros(shares, channels),
            u.new_zeros(shares, channels),
        )
        d_B, d_C = (u.new_zeros(shares, batch, groups, states, padded) for _ in range(2))
        inputs = _kernel_inputs(ctx.softplus, tensors)
        written = (adjoints.numpy(), du.numpy(), d_delta.numpy(), dz.numpy())
        summed = [tensor.numpy() for tensor in (d_A, d_B, d_C, d_D, d_bias)]

        def work(first: int, stride: int) -> None:
            numba_kernels.backward(
                first,
                stride,
                jobs,
                *inputs,
                checkpoints.numpy(),
                dy.numpy(),
                *written,
                *(part[first] for part in summed),
            )

        _in_shares(jobs, work)
        return (
            None, du, d_delta, d_A.sum(0), d_B.sum(0)[..., :length], d_C.sum(0)[..., :length],
            None if D is None else d_D.sum(0), None if z is None else dz,
            None if bias is None else d_bias.sum(0), None if initial_state is None else adjoints,
        )  # fmt: skip


def _kernel_inputs(softplus: bool, tensors: Any) -> tuple[Any, ...]:
    """The tensors as NumPy views in the kernels' order; what is absent becomes an empty array."""
    u, delta, A, B, C, D, z, bias, _ = (None if tensor is None else tensor.detach().numpy() for tensor in tensors)
    no_row, no_cube = np.empty(0, np.float32), np.empty((0, 0, 0), np.float32)
    return (
        u, delta, A, B, C, no_row if D is None else D, no_cube if z is None else z,
        no_row if bias is None else bias, softplus,
    )  # fmt: skip


def _empty_laid_out_like(tensor: Tensor) -> Tensor:
    """An uninitialised tensor of the same shape, channels last in memory where `tensor` is."""
    batch, channels, length = tensor.shape
    if tensor.stride(1) == 1 and channels > 1:
        return torch.empty(batch, length, channels).transpose(1, 2)
    return torch.empty(batch, channels, length)


def _count_jobs(u: Tensor, B: Tensor) -> int:
    groups = B.shape[1]
    return u.shape[0] * groups * math.ceil(u.shape[1] // groups / LANES)


def _count_shares(jobs: int) -> int:
    return max(1, min(jobs, torch.get_num_threads()))


def _in_shares(jobs: int, work: Callable[[int, int], None]) -> None:
    """Run work(first, shares) for first = 0 .. shares - 1: the first one here, the others on threads of the pool."""
    shares = _count_shares(jobs)
    others = [_pool(shares).submit(work, first, shares) for first in range(1, shares)]
    try:
        work(0, shares)
    finally:  # the arrays must outlive every thread that writes to them
        outcomes = [other.exception() for other in others]
    for error in outcomes:
        if error is not None:
            raise error


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads are kept between calls. Python threads, since numba's own layers may not be entered from two threads."""
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="mambasegment-scan")
        return _pools[threads]


def _forget_pools() -> None:
    """A forked child has none of its parent's threads."""
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)
