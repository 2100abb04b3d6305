"""The scan in plain PyTorch, on any device: spans of the sequence one after the other, each span in parallel.

A span is short enough that its states (B, span, D, N) fit a fixed budget; nothing of size (B, L, D, N) ever exists. The
backward pass recomputes each span from the state at its start, so memory does not grow with the length there either.
Within a span, chunks advance side by side, and a second sweep carries the state from chunk to chunk.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import ScanArguments

SPAN_ELEMENTS = 1 << 20  # of the states of one span, all channels and batch entries together
LONGEST_SPAN = 4096


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in the compute dtype; both differentiable."""
    dtype = arguments.compute_dtype
    u, delta, A, B, C, D, z, bias, state = (
        None if tensor is None else tensor.to(dtype) for tensor in arguments.tensors()
    )
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    if bias is not None:
        delta = delta + bias[:, None]
    if arguments.delta_softplus:
        delta = F.softplus(delta)
    if state is None:
        state = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    y, last_state = _ChunkedScan.apply(u, delta, A, B, C, state)
    if D is not None:
        y = y + D[:, None] * u
    if z is not None:
        y = y * F.silu(z)
    return y.to(arguments.u.dtype), last_state


class _ChunkedScan(torch.autograd.Function):
    """The bare recurrence, delta already positive. Grouped tensors inside are (B, G, D/G, ...)."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y = torch.empty_like(u)
        starts: list[Tensor] = []
        for span in _spans(u, A):
            starts.append(state)
            states, _ = _span_states(u, delta, A, B, state, span)
            y[:, :, span] = _read_out(states, C[..., span])
            state = states[:, -1]
        ctx.save_for_backward(u, delta, A, B, C, *starts)
        return y, state.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, adjoint: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *starts = ctx.saved_tensors
        groups = B.shape[1]
        du, d_delta, d_A = torch.empty_like(u), torch.empty_like(delta), torch.zeros_like(A)
        d_B, d_C = (torch.empty(tensor.shape, dtype=u.dtype, device=u.device) for tensor in (B, C))
        for span, start in reversed(list(zip(_spans(u, A), starts, strict=True))):
            states, decay = _span_states(u, delta, A, B, start, span)  # (B, S, D, N)
            dy_s, u_s, step = (tensor[:, :, span].transpose(1, 2) for tensor in (dy, u, delta))  # (B, S, D)
            b = _per_channel(B[..., span], u.shape[1])
            d_C[..., span] = _sum_over_channels(states * dy_s[..., None], groups)
            # the derivative by the state after each step obeys the same recurrence, backwards in time
            source = dy_s[..., None] * _per_channel(C[..., span], u.shape[1])
            source[:, -1] += adjoint
            later = torch.cat([decay[:, 1:], torch.zeros_like(decay[:, :1])], dim=1)
            g = linear_scan(later.flip(1), source.flip(1), torch.zeros_like(start)).flip(1)
            d_B[..., span] = _sum_over_channels(g * (step * u_s)[..., None], groups)
            d_drive = (g * b).sum(-1)
            before = torch.cat([start[:, None], states[:, :-1]], dim=1)
            d_exponent = g * decay * before
            du[:, :, span] = (d_drive * step).transpose(1, 2)
            d_delta[:, :, span] = (d_drive * u_s + (d_exponent * A).sum(-1)).transpose(1, 2)
            d_A += (d_exponent * step[..., None]).sum((0, 1))
            adjoint = g[:, 0] * decay[:, 0]
        return du, d_delta, d_A, d_B, d_C, adjoint


def linear_scan(decay: Tensor, source: Tensor, state: Tensor) -> Tensor:
    """s_t = decay_t s_(t-1) + source_t for all t: decay, source (B, S, D, N), state (B, D, N) before the first step.

    All chunks of about sqrt(S) steps are walked at once from zero; the true state at each chunk's start then comes in
    through the product of the chunk's decays. No division and no difference of logarithms, so nothing can overflow.
    """
    batch, steps, *rest = source.shape
    chunk = max(1, round(steps**0.5))
    chunks = -(-steps // chunk)
    missing = chunks * chunk - steps
    if missing:
        decay = F.pad(decay, (0, 0, 0, 0, 0, missing))
        source = F.pad(source, (0, 0, 0, 0, 0, missing))
    decay, source = (tensor.reshape(batch, chunks, chunk, *rest) for tensor in (decay, source))
    states, products = torch.empty_like(source), torch.empty_like(decay)
    states[:, :, 0], products[:, :, 0] = source[:, :, 0], decay[:, :, 0]
    for t in range(1, chunk):
        torch.addcmul(source[:, :, t], decay[:, :, t], states[:, :, t - 1], out=states[:, :, t])
        torch.mul(decay[:, :, t], products[:, :, t - 1], out=products[:, :, t])
    for c in range(chunks):
        states[:, c].addcmul_(products[:, c], state[:, None])
        state = states[:, c, -1]
    return states.reshape(batch, chunks * chunk, *rest)[:, :steps]


def _spans(u: Tensor, A: Tensor) -> list[slice]:
    """Consecutive pieces of the sequence whose states fit the budget."""
    length = min(LONGEST_SPAN, max(1, SPAN_ELEMENTS // (u.shape[0] * A.numel())))
    return [slice(start, min(start + length, u.shape[2])) for start in range(0, u.shape[2], length)]


def _span_states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, state: Tensor, span: slice) -> tuple[Tensor, Tensor]:
    """The states after each step of a span and the decays, both (B, S, D, N)."""
    step, u_s = (tensor[:, :, span].transpose(1, 2) for tensor in (delta, u))
    decay = torch.exp(step[..., None] * A)
    source = (step * u_s)[..., None] * _per_channel(B[..., span], u.shape[1])
    return linear_scan(decay, source, state), decay


def _per_channel(grouped: Tensor, channels: int) -> Tensor:
    """(B, G, N, S) -> (B, S, D or 1, N)."""
    tensor = grouped.permute(0, 3, 1, 2)
    return tensor if grouped.shape[1] == 1 else tensor.repeat_interleave(channels // grouped.shape[1], dim=2)


def _sum_over_channels(tensor: Tensor, groups: int) -> Tensor:
    """(B, S, D, N) -> (B, G, N, S)."""
    batch, steps, channels, states = tensor.shape
    return tensor.reshape(batch, steps, groups, channels // groups, states).sum(3).permute(0, 2, 3, 1)


def _read_out(states: Tensor, c: Tensor) -> Tensor:
    """y (B, D, S) from states (B, S, D, N) and C (B, G, N, S)."""
    return (states * _per_channel(c, states.shape[2])).sum(-1).transpose(1, 2)
