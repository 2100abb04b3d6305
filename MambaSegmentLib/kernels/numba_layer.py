"""The residual Mamba layer on the CPU in one walk over the tokens; see numba_layer_kernels.py."""

import math

import numpy as np
import torch
from torch import Tensor

from . import numba_layer_kernels as kernels
from .mamba_layer import GroupNormWeights, MambaLayerWeights
from .numba_layer_kernels import STATE_COUNT, Weights, vectors_of, workspace_floats
from .numba_products import TAPS
from .numba_simd import LANES, LOG2_E
from .threads import count_shares, in_shares

_LINE_FLOATS = 16


def takes(weights: MambaLayerWeights) -> bool:
    """Whether the kernel is made for a layer of these sizes."""
    inner, states = weights.A_log.shape
    rank = weights.dt_proj.shape[1]
    return inner % LANES == 0 and states == STATE_COUNT and weights.conv_weight.shape[1] == TAPS and rank <= LANES


def residual_mamba_layer(
    tokens: Tensor,
    weights: MambaLayerWeights,
    tail: Tensor,
    state: Tensor,
    norm: GroupNormWeights | None = None,
    added: Tensor | None = None,
    *,
    in_place: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `mamba_layer.residual_mamba_layer`; float32 on the CPU, no gradients."""
    tokens, added = tokens.contiguous(), None if added is None else added.contiguous()
    batch, length, token = tokens.shape
    answer, inner = weights.proj_weight.shape[0], weights.A_log.shape[0]
    y = tokens if in_place else torch.empty(batch, length, answer)
    tail, state = tail.contiguous().clone(), state.contiguous().clone()
    arrays = _packed(weights)
    table = np.array([arrays[name].ctypes.data for name in Weights._fields], np.int64)
    scale, shift = (None, None) if norm is None else _factors(tokens, norm)
    workspaces = np.zeros((count_shares(batch), workspace_floats(token, answer, inner) + _LINE_FLOATS), np.float32)

    def work(first: int, shares: int) -> None:
        kernels.forward(
            first, shares, batch, _on_a_line(workspaces[first]), table.ctypes.data,
            token, answer, inner, weights.dt_proj.shape[1], length, tokens.data_ptr(), y.data_ptr(),
            0 if scale is None else scale.ctypes.data, 0 if shift is None else shift.ctypes.data,
            0 if added is None else added.data_ptr(), tail.data_ptr(), state.data_ptr(), weights.epsilon,
        )  # fmt: skip

    in_shares(batch, work)
    return y, tail, state


def _factors(tokens: Tensor, norm: GroupNormWeights) -> tuple[np.ndarray, np.ndarray]:
    """GroupNorm as scale x + shift: (B, vectors of channels), zeros beyond the channels."""
    batch, length, channels = tokens.shape
    counted = math.lcm(channels, LANES)
    totals = np.zeros((batch, 2, counted))
    in_shares(
        batch,
        lambda first, shares: kernels.moments(
            first, shares, batch, tokens.data_ptr(), length, channels, counted // LANES, totals
        ),
    )
    rows = tokens.detach().numpy()
    left = rows.reshape(batch, -1)[:, length * channels // counted * counted :].reshape(batch, -1, channels)
    left = left.astype(np.float64) - rows[:, :1]
    sums = totals.reshape(batch, 2, -1, channels).sum(axis=2) + np.stack([left.sum(1), (left**2).sum(1)], axis=1)
    means = rows[:, 0] + sums[:, 0] / length  # of each channel
    spreads = np.maximum(sums[:, 1] - sums[:, 0] ** 2 / length, 0.0)  # squares around its own mean
    by_group = (batch, norm.groups, channels // norm.groups)
    mean = means.reshape(by_group).mean(axis=2, keepdims=True)
    around = spreads.reshape(by_group) / length + (means.reshape(by_group) - mean) ** 2
    factor = 1.0 / np.sqrt(around.mean(axis=2, keepdims=True) + norm.epsilon)
    scale = (norm.weight.detach().numpy().reshape(by_group[1:]) * factor).reshape(batch, channels)
    shift = norm.bias.detach().numpy() - np.broadcast_to(mean, by_group).reshape(batch, channels) * scale
    padding = ((0, 0), (0, vectors_of(channels) * LANES - channels))
    return np.pad(scale, padding).astype(np.float32), np.pad(shift, padding).astype(np.float32)


def _on_a_line(workspace: np.ndarray) -> int:
    """Address of the first float on a cache line of its own."""
    address = workspace.ctypes.data
    return address + -address % (4 * _LINE_FLOATS)


def _packed(weights: MambaLayerWeights) -> dict[str, np.ndarray]:
    """The layout of numba_layer_kernels.Weights: outputs in vectors of LANES, for each input one after the other."""
    token, rank = weights.in_proj.shape[1], weights.dt_proj.shape[1]
    x_proj = weights.x_proj.new_zeros(3 * LANES, weights.x_proj.shape[1])
    x_proj[:rank] = weights.x_proj[:rank]
    x_proj[LANES:] = weights.x_proj[rank:]  # B and C have LANES states each
    packed = {
        "norm_inside": _row(torch.ones(token)),
        "norm_weight": _row(weights.norm_weight),
        "norm_bias": _row(weights.norm_bias),
        "in_proj": _matrix(weights.in_proj),
        "conv_weight": _matrix(weights.conv_weight),
        "conv_bias": _row(weights.conv_bias),
        "x_proj": _matrix(x_proj),
        "dt_proj": _matrix(weights.dt_proj),
        "dt_bias": _row(weights.dt_bias),
        "a_log2": _matrix(-torch.exp(weights.A_log) * LOG2_E),
        "d": _row(weights.D),
        "out_proj": _matrix(weights.out_proj),
        "skip": np.full(LANES, float(weights.skip), np.float32),
        "proj_weight": _matrix(weights.proj_weight),
        "proj_bias": _row(weights.proj_bias),
        "nothing": np.zeros(2 * len(weights.A_log) + 3 * LANES, np.float32),
    }
    assert set(packed) == set(Weights._fields)
    return packed


def _row(vector: Tensor) -> np.ndarray:
    padded = np.zeros(vectors_of(len(vector)) * LANES, np.float32)
    padded[: len(vector)] = vector.detach().numpy()
    return padded


def _matrix(weight: Tensor) -> np.ndarray:
    """(outputs, inputs) -> (vectors of outputs, inputs, LANES), zeros where there is no output."""
    outputs, inputs = weight.shape
    padded = np.zeros((vectors_of(outputs) * LANES, inputs), np.float32)
    padded[:outputs] = weight.detach().numpy()
    return np.ascontiguousarray(padded.reshape(-1, LANES, inputs).transpose(0, 2, 1))
