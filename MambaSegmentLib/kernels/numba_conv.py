"""The causal convolution with SiLU on the CPU: one pass over memory forward, one backward."""

import math
from typing import Any

import torch
from torch import Tensor

from . import numba_conv_kernels as kernels
from .numba_simd import LANES
from .numba_tiles import empty_laid_out_like
from .threads import in_shares


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor) -> Tensor:
    """See `causal_conv.causal_conv_silu`; float32 only, any strides."""
    return _NumbaCausalConv.apply(x, weight, bias, tail)


class _NumbaCausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor) -> Tensor:
        y = empty_laid_out_like(x)
        arrays = [tensor.detach().numpy() for tensor in (x, weight, bias, tail)]
        jobs = _count_jobs(x)
        in_shares(jobs, lambda first, shares: kernels.forward(first, shares, jobs, *arrays, y.numpy()))
        ctx.save_for_backward(x, weight, bias, tail)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias, tail = ctx.saved_tensors
        dx, d_tail = empty_laid_out_like(x), torch.empty(tail.shape)
        d_weight, d_bias = torch.empty(x.shape[0], *weight.shape), torch.empty(x.shape[:2])
        arrays = [tensor.detach().numpy() for tensor in (x, weight, bias, tail, dy, dx, d_weight, d_bias, d_tail)]
        jobs = _count_jobs(x)
        in_shares(jobs, lambda first, shares: kernels.backward(first, shares, jobs, *arrays))
        return dx, d_weight.sum(0), d_bias.sum(0), d_tail


def _count_jobs(x: Tensor) -> int:
    return x.shape[0] * math.ceil(x.shape[1] / LANES)
