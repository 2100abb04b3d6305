"""The scan and its convolution on tensors without data (device "meta"): shapes and memory as of the compiled kernels.

A network on the meta device can so be walked through in no time, at any size, to count its work and its memory. Each
call passes through an operator of its own, `torch.ops.mambasegment_meta`, which a dispatch mode sees.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .arguments import ScanArguments
    from .directions import DirectionalArguments

_STEPS_PER_CHECKPOINT = 64  # of the sequence; the compiled kernels keep a state so often for the backward pass
_BLOCK = 16  # channels that the compiled kernels take at once
_LIBRARY = torch.library.Library("mambasegment_meta", "FRAGMENT")
_LIBRARY.define("scan(Tensor u, Tensor A, bool skip, bool gate) -> Tensor")
_LIBRARY.define("causal_conv(Tensor x, Tensor weight) -> Tensor")
_LIBRARY.impl("scan", lambda u, A, skip, gate: torch.empty_like(u), "Meta")
_LIBRARY.impl("causal_conv", lambda x, weight: torch.empty_like(x), "Meta")
SCAN, CAUSAL_CONV = torch.ops.mambasegment_meta.scan, torch.ops.mambasegment_meta.causal_conv


def scan(arguments: "ScanArguments") -> tuple[Tensor, Tensor]:
    """y like u, and the last state (B, D, N) in the compute dtype; both have gradients, without data as well."""
    return _MetaScan.apply(*arguments.tensors())


def directional_scan(arguments: "DirectionalArguments") -> Tensor:
    """y like u, made in one go as by a backend that walks the map in place."""
    a = arguments
    return _MetaScan.apply(a.u, a.delta, a.A, a.B, a.C, a.D, None, a.delta_bias, None)[0]


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor) -> Tensor:
    """See `causal_conv.causal_conv_silu`."""
    return _MetaCausalConv.apply(x, weight, bias, tail)


class _MetaScan(torch.autograd.Function):
    """u (B, D, *spatial), A (K D, N) for K directions. Keeps what the compiled kernels keep: inputs, some states."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        u, _, A, B, _, D, z, _, _ = tensors
        assert u is not None and A is not None and B is not None
        y = SCAN(u, A, D is not None, z is not None)
        batch, _, *spatial = u.shape
        dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
        state = u.new_empty(batch, *A.shape, dtype=dtype)
        if any(ctx.needs_input_grad):
            checkpoints = math.ceil(math.prod(spatial) / _STEPS_PER_CHECKPOINT)
            groups = B.shape[1]  # of each direction and each group, whole blocks of channels are kept
            channels = groups * math.ceil(A.shape[0] / groups / _BLOCK) * _BLOCK
            ctx.save_for_backward(*tensors, u.new_empty(checkpoints, batch, channels, A.shape[1], dtype=dtype))
        return y, state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, _ = ctx.saved_tensors
        return tuple(None if tensor is None else torch.empty_like(tensor) for tensor in tensors)


class _MetaCausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias, tail)
        return CAUSAL_CONV(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors)
