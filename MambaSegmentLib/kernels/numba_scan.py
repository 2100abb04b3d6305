"""The scan on the CPU: compiled vector kernels, shared out among threads, with a backward pass of its own.

Importing this file imports numba and compiles the kernels (seconds the first time, then read from disk).
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import numba_scan_kernels as kernels
from .arguments import ScanArguments
from .numba_simd import LANES
from .numba_tiles import TILE, empty_laid_out_like
from .threads import count_shares, in_shares


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32; both differentiable.

    Computes in float32. Inputs of another dtype are converted once; float32 ones are read where they lie, any strides.
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
        y = empty_laid_out_like(u)
        tiles = math.ceil(length / TILE) if any(ctx.needs_input_grad) else 0
        checkpoints = torch.empty(batch if tiles else 0, channels, tiles, states)
        inputs = _kernel_inputs(softplus, tensors)
        jobs = _count_jobs(u, B)
        results = (last.numpy(), y.numpy(), checkpoints.numpy())
        in_shares(jobs, lambda first, shares: kernels.forward(first, shares, jobs, *inputs, *results))
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
        shares = count_shares(jobs)
        adjoints = (u.new_zeros(batch, channels, states) if d_last is None else d_last.float()).clone().contiguous()
        du, d_delta = empty_laid_out_like(u), empty_laid_out_like(delta)
        dz = empty_laid_out_like(z) if z is not None else u.new_empty(0, 0, 0)
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
            kernels.backward(
                first,
                stride,
                jobs,
                *inputs,
                checkpoints.numpy(),
                dy.numpy(),
                *written,
                *(part[first] for part in summed),
            )

        in_shares(jobs, work)
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


def _count_jobs(u: Tensor, B: Tensor) -> int:
    groups = B.shape[1]
    return u.shape[0] * groups * math.ceil(u.shape[1] // groups / LANES)
