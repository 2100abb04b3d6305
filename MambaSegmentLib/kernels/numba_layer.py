"""The residual Mamba layer on the CPU in one walk over the tokens; see numba_layer_kernels.py."""

import numpy as np
import torch
from torch import Tensor

from . import numba_layer_kernels as kernels
from .mamba_layer import MambaLayerWeights
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
    tokens: Tensor, weights: MambaLayerWeights, tail: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """See `mamba_layer.residual_mamba_layer`; float32 on the CPU, no gradients."""
    tokens = tokens.contiguous()
    batch, length, token = tokens.shape
    answer, inner = weights.proj_weight.shape[0], weights.A_log.shape[0]
    y = torch.empty(batch, length, answer)
    tail, state = tail.contiguous().clone(), state.contiguous().clone()
    arrays = _packed(weights)
    table = np.array([arrays[name].ctypes.data for name in Weights._fields], np.int64)
    workspaces = np.zeros((count_shares(batch), workspace_floats(token, answer, inner) + _LINE_FLOATS), np.float32)

    def work(first: int, shares: int) -> None:
        kernels.forward(
            first, shares, batch, _on_a_line(workspaces[first]), table.ctypes.data,
            token, answer, inner, weights.dt_proj.shape[1], length,
            tokens.data_ptr(), 4 * tokens.stride(0), y.data_ptr(), 4 * y.stride(0), tail.data_ptr(), state.data_ptr(),
            weights.epsilon,
        )  # fmt: skip

    in_shares(batch, work)
    return y, tail, state


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
