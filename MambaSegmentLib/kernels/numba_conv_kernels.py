"""The compiled causal convolution with SiLU: a job is LANES channels of one batch entry.

    p_t = bias + sum over j of w_j x_(t - K + 1 + j),   y_t = p_t / (1 + exp(-p_t))

x before the first step is the tail of the piece before. Tiles as in the scan, with K - 1 rows of the neighbouring tile.
"""

from types import SimpleNamespace

import numpy as np
from numba import types

from . import numba_loops, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import sigmoid_rows
from .numba_simd import LANES
from .numba_tiles import TILE, helper, load_row, load_tile, new_tile, store_tile

_ROW, _MATRIX, _CUBE = (types.Array(types.float32, dimensions, "A") for dimensions in (1, 2, 3))


@helper
def load_weights(weight, channel, width, rows):
    """weight (D, K) -> (K, LANES)."""
    for j in range(weight.shape[1]):
        load_row(weight[:, j], channel, width, rows[j])


@helper
def load_with_history(x, tail, channel, width, start, steps, window):
    """Rows start - K + 1 .. start + steps - 1 of x into `window`; before the first step from the tail."""
    history = tail.shape[1]
    before = min(start, history)
    if before < history:
        load_tile(tail, channel, width, before, history - before, window)
    load_tile(x, channel, width, start - before, before + steps, window[history - before :])


@helper
def convolve(window, weights, bias, out, steps):
    """p for the steps of a tile."""
    for t in range(steps):
        for k in range(LANES):
            out[t, k] = bias[k]
        for j in range(weights.shape[0]):
            for k in range(LANES):
                out[t, k] += weights[j, k] * window[t + j, k]


@helper
def job_of(index, channels):
    blocks = (channels + LANES - 1) // LANES
    batch, block = divmod(index, blocks)
    return batch, block * LANES, min(LANES, channels - block * LANES)


def _build(sources):
    """The two kernels; `sources` makes their cache depend on the files imported here."""

    def forward(first, stride, jobs, x, weight, bias, tail, y):
        """x, y: (B, D, L); weight (D, K); bias (D,); tail (B, D, K - 1)."""
        _ = sources
        length, taps = x.shape[2], weight.shape[1]
        window, p, gate = new_tile(TILE + taps - 1), new_tile(TILE), new_tile(TILE)
        weights, bias_row, zeros = new_tile(taps), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        for index in range(first, jobs, stride):
            b, channel, width = job_of(index, x.shape[1])
            load_weights(weight, channel, width, weights)
            load_row(bias, channel, width, bias_row)
            for start in range(0, length, TILE):
                steps = min(TILE, length - start)
                load_with_history(x[b], tail[b], channel, width, start, steps, window)
                convolve(window, weights, bias_row, p, steps)
                sigmoid_rows(p.ctypes.data, zeros.ctypes.data, gate.ctypes.data, steps)
                for t in range(steps):
                    for k in range(LANES):
                        p[t, k] *= gate[t, k]
                store_tile(p, y[b], channel, width, start, steps)

    def backward(first, stride, jobs, x, weight, bias, tail, dy, dx, d_weight, d_bias, d_tail):
        """dx (B, D, L), d_tail (B, D, K - 1), d_weight (B, D, K) and d_bias (B, D) for each batch entry, all written.

        From the last tile to the first, since dx_t needs the derivative by p of the K - 1 steps after t.
        """
        _ = sources
        length, taps = x.shape[2], weight.shape[1]
        window, p, gate, out = new_tile(TILE + taps - 1), new_tile(TILE), new_tile(TILE), new_tile(TILE)
        dp = new_tile(TILE + taps - 1)  # the tile's rows, then the first K - 1 rows of the tile after it
        weights, d_weights = new_tile(taps), new_tile(taps)
        bias_row, zeros, d_bias_row = (
            np.zeros(LANES, np.float32),
            np.zeros(LANES, np.float32),
            np.zeros(LANES, np.float32),
        )
        for index in range(first, jobs, stride):
            b, channel, width = job_of(index, x.shape[1])
            load_weights(weight, channel, width, weights)
            load_row(bias, channel, width, bias_row)
            d_weights[:] = 0.0
            d_bias_row[:] = 0.0
            dp[:] = 0.0
            for tile in range((length + TILE - 1) // TILE - 1, -1, -1):
                start = tile * TILE
                steps = min(TILE, length - start)
                load_with_history(x[b], tail[b], channel, width, start, steps, window)
                convolve(window, weights, bias_row, p, steps)
                sigmoid_rows(p.ctypes.data, zeros.ctypes.data, gate.ctypes.data, steps)
                for j in range(taps - 1):  # of the tile after this one; it has TILE steps unless there is none
                    for k in range(LANES):
                        dp[steps + j, k] = dp[j, k]
                load_tile(dy[b], channel, width, start, steps, out)
                for t in range(steps):
                    for k in range(LANES):
                        dp[t, k] = out[t, k] * gate[t, k] * (np.float32(1.0) + p[t, k] * (np.float32(1.0) - gate[t, k]))
                        d_bias_row[k] += dp[t, k]
                        out[t, k] = np.float32(0.0)
                    for j in range(taps):
                        for k in range(LANES):
                            d_weights[j, k] += dp[t, k] * window[t + j, k]
                for t in range(steps):
                    for j in range(taps):
                        for k in range(LANES):
                            out[t, k] += weights[j, k] * dp[t + taps - 1 - j, k]
                store_tile(out, dx[b], channel, width, start, steps)
            for row in range(taps - 1):  # row of the tail lies taps - 1 - row steps before the first step
                for k in range(width):
                    total = np.float32(0.0)
                    for j in range(row + 1):
                        if row - j < length:
                            total += weights[j, k] * dp[row - j, k]
                    d_tail[b, channel + k, row] = total
            for k in range(width):
                d_bias[b, channel + k] = d_bias_row[k]
                for j in range(taps):
                    d_weight[b, channel + k, j] = d_weights[j, k]

    share = (types.int64, types.int64, types.int64)
    inputs = (_CUBE, _MATRIX, _ROW, _CUBE)
    return SimpleNamespace(
        forward=cached_on_disk(types.void(*share, *inputs, _CUBE))(forward),
        backward=cached_on_disk(types.void(*share, *inputs, _CUBE, _CUBE, _CUBE, _MATRIX, _CUBE))(backward),
    )


_kernels = _build(checksum_of(numba_loops, numba_simd, numba_tiles))
forward, backward = _kernels.forward, _kernels.backward
