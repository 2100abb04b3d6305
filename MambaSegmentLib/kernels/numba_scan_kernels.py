"""The compiled scan: a job is LANES channels of one batch entry; a call works through a share of the jobs.

The sequence is walked tile by tile. Each tile's inputs are brought into contiguous buffers, whatever their strides, so that
softplus, the recurrence, D and the gate all run on full vectors in the first-level cache. Nothing of size (B, L, D, N)
exists: the forward pass keeps the state at each tile's start, the backward pass replays one tile at a time.
"""

from types import SimpleNamespace

import numpy as np
from numba import types

from . import numba_loops, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import add_lane_sums, backward_state, forward_state, replay_state, sigmoid_rows, softplus_rows
from .numba_simd import LANES, LOG2_E
from .numba_tiles import FLOAT_BYTES, TILE, helper, load_row, load_tile, new_tile, store_tile

_LN_2 = np.float32(0.6931471805599453)
_ROW, _MATRIX, _CUBE, _FOUR = (types.Array(types.float32, dimensions, "A") for dimensions in (1, 2, 3, 4))


@helper
def load_decay_rates(A, channel, width, a_log2):
    """A (channels, N) -> (N, LANES), times log2(e) because the exponential is taken to base 2."""
    for n in range(A.shape[1]):
        for k in range(LANES):
            a_log2[n, k] = A[channel + k, n] * np.float32(LOG2_E) if k < width else np.float32(0.0)


@helper
def positive_steps(raw, bias, softplus, step, steps):
    """delta as it enters the recurrence."""
    if softplus:
        softplus_rows(raw.ctypes.data, bias.ctypes.data, step.ctypes.data, steps)
    else:
        for t in range(steps):
            for k in range(LANES):
                step[t, k] = raw[t, k] + bias[k]


@helper
def job_of(index, channels, groups):
    """Which (batch entry, group, block, first channel, width) job `index` is."""
    per_group = channels // groups
    blocks = (per_group + LANES - 1) // LANES
    batch, rest = divmod(index, groups * blocks)
    group, block = divmod(rest, blocks)
    return batch, group, group * per_group + block * LANES, min(LANES, per_group - block * LANES)


def _build(sources):
    """The two kernels. `sources` is closed over because numba's cache key holds closures, but not the imported files."""

    def forward(first, stride, jobs, u, delta, A, B, C, D, z, bias, softplus, states, y, checkpoints):
        """y and the last state of every `stride`-th job.

        u, delta, z, y: (B, D, L); A: (D, N); B, C: (B, G, N, L); D, bias: (D,). z, D, bias may be empty.
        states (B, D, N): the initial state on entry, the last one on return.
        checkpoints (B, D, tiles, N) or empty: the state at each tile's start.
        """
        _ = sources
        length, n_states = u.shape[2], A.shape[1]
        raw, step, drive = (
            new_tile(TILE),
            new_tile(TILE),
            new_tile(TILE),
        )
        x, out, gate = (
            new_tile(TILE),
            new_tile(TILE),
            new_tile(TILE),
        )
        a_log2, state = new_tile(n_states), new_tile(n_states)
        bias_row, d_row, zeros = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        for index in range(first, jobs, stride):
            b, g, channel, width = job_of(index, u.shape[1], B.shape[1])
            load_decay_rates(A, channel, width, a_log2)
            load_row(bias, channel, width, bias_row)
            load_row(D, channel, width, d_row)
            for n in range(n_states):
                for k in range(width):
                    state[n, k] = states[b, channel + k, n]
            for start in range(0, length, TILE):
                steps = min(TILE, length - start)
                if checkpoints.shape[0] > 0:
                    for n in range(n_states):
                        for k in range(width):
                            checkpoints[b, channel + k, start // TILE, n] = state[n, k]
                load_tile(delta[b], channel, width, start, steps, raw)
                load_tile(u[b], channel, width, start, steps, x)
                positive_steps(raw, bias_row, softplus, step, steps)
                for t in range(steps):
                    for k in range(LANES):
                        drive[t, k] = step[t, k] * x[t, k]
                        out[t, k] = d_row[k] * x[t, k]
                for n in range(n_states):
                    b_n, c_n = B[b, g, n, start:], C[b, g, n, start:]
                    forward_state(
                        step.ctypes.data, drive.ctypes.data, out.ctypes.data, a_log2[n].ctypes.data, state[n].ctypes.data,
                        b_n.ctypes.data, b_n.strides[0] // FLOAT_BYTES, c_n.ctypes.data, c_n.strides[0] // FLOAT_BYTES, steps,
                    )  # fmt: skip
                if z.shape[0] > 0:
                    load_tile(z[b], channel, width, start, steps, raw)
                    sigmoid_rows(raw.ctypes.data, zeros.ctypes.data, gate.ctypes.data, steps)
                    for t in range(steps):
                        for k in range(LANES):
                            out[t, k] *= raw[t, k] * gate[t, k]
                store_tile(out, y[b], channel, width, start, steps)
            for n in range(n_states):
                for k in range(width):
                    states[b, channel + k, n] = state[n, k]

    def backward(
        first, stride, jobs, u, delta, A, B, C, D, z, bias, softplus, checkpoints, dy,
        adjoints, du, ddelta, dz, dA, dB, dC, dD, dbias,
    ):  # fmt: skip
        """The derivatives of every `stride`-th job.

        adjoints (B, D, N): the derivative by the last state on entry, by the initial state on return.
        du, ddelta, dz: (B, D, L), written. Added to: dA (D, N), dB and dC (B, G, N, L rounded up to LANES), dD, dbias (D,).
        The added ones belong to this share of the jobs alone; the caller sums the shares in a fixed order.
        """
        _ = sources
        length, n_states = u.shape[2], A.shape[1]
        raw, step, drive = (
            new_tile(TILE),
            new_tile(TILE),
            new_tile(TILE),
        )
        x, out, gate = (
            new_tile(TILE),
            new_tile(TILE),
            new_tile(TILE),
        )
        upstream, d_step, d_drive = (
            new_tile(TILE),
            new_tile(TILE),
            new_tile(TILE),
        )
        gate_in = new_tile(TILE)
        decays, before = new_tile(TILE), new_tile(TILE + 1)
        d_b, d_c = new_tile(TILE), new_tile(TILE)
        a_log2, d_a = new_tile(n_states), new_tile(n_states)
        adjoint, state = new_tile(n_states), np.zeros(LANES, np.float32)
        bias_row, d_row, zeros = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        d_bias_row, d_d_row = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        tiles = (length + TILE - 1) // TILE
        for index in range(first, jobs, stride):
            b, g, channel, width = job_of(index, u.shape[1], B.shape[1])
            load_decay_rates(A, channel, width, a_log2)
            load_row(bias, channel, width, bias_row)
            load_row(D, channel, width, d_row)
            d_a[:] = 0.0
            d_bias_row[:] = 0.0
            d_d_row[:] = 0.0
            for n in range(n_states):
                for k in range(width):
                    adjoint[n, k] = adjoints[b, channel + k, n]
            for tile in range(tiles - 1, -1, -1):
                start = tile * TILE
                steps = min(TILE, length - start)
                load_tile(delta[b], channel, width, start, steps, raw)
                load_tile(u[b], channel, width, start, steps, x)
                load_tile(dy[b], channel, width, start, steps, upstream)
                positive_steps(raw, bias_row, softplus, step, steps)
                for t in range(steps):
                    for k in range(LANES):
                        drive[t, k] = step[t, k] * x[t, k]
                        out[t, k] = d_row[k] * x[t, k]
                        d_step[t, k] = np.float32(0.0)
                        d_drive[t, k] = np.float32(0.0)
                if z.shape[0] > 0:  # from here on `upstream` is the derivative by y before the gate; `decays` keeps dy
                    load_tile(z[b], channel, width, start, steps, gate_in)
                    sigmoid_rows(gate_in.ctypes.data, zeros.ctypes.data, gate.ctypes.data, steps)
                    for t in range(steps):
                        for k in range(LANES):
                            ungated = upstream[t, k]
                            upstream[t, k] = ungated * gate_in[t, k] * gate[t, k]
                            gate_in[t, k] = (
                                ungated
                                * gate[t, k]
                                * (np.float32(1.0) + gate_in[t, k] * (np.float32(1.0) - gate[t, k]))
                            )
                for n in range(n_states):
                    for k in range(width):
                        state[k] = checkpoints[b, channel + k, tile, n]
                    b_n, c_n = B[b, g, n, start:], C[b, g, n, start:]
                    b_stride, c_stride = b_n.strides[0] // FLOAT_BYTES, c_n.strides[0] // FLOAT_BYTES
                    replay_state(
                        step.ctypes.data, drive.ctypes.data, out.ctypes.data, a_log2[n].ctypes.data, state.ctypes.data,
                        b_n.ctypes.data, b_stride, c_n.ctypes.data, c_stride, decays.ctypes.data, before.ctypes.data, steps,
                    )  # fmt: skip
                    backward_state(
                        step.ctypes.data, drive.ctypes.data, upstream.ctypes.data, a_log2[n].ctypes.data, adjoint[n].ctypes.data,
                        b_n.ctypes.data, b_stride, c_n.ctypes.data, c_stride, decays.ctypes.data, before.ctypes.data,
                        d_step.ctypes.data, d_drive.ctypes.data, d_a[n].ctypes.data, d_b.ctypes.data, d_c.ctypes.data, steps,
                    )  # fmt: skip
                    squares = (steps + LANES - 1) // LANES
                    add_lane_sums(d_b.ctypes.data, dB[b, g, n, start:].ctypes.data, squares)
                    add_lane_sums(d_c.ctypes.data, dC[b, g, n, start:].ctypes.data, squares)
                for t in range(steps):
                    for k in range(LANES):
                        d_d_row[k] += upstream[t, k] * x[t, k]
                        d_step[t, k] = d_step[t, k] * _LN_2 + d_drive[t, k] * x[t, k]
                        d_drive[t, k] = (
                            d_drive[t, k] * step[t, k] + d_row[k] * upstream[t, k]
                        )  # now the derivative by u
                store_tile(d_drive, du[b], channel, width, start, steps)
                if softplus:
                    sigmoid_rows(raw.ctypes.data, bias_row.ctypes.data, gate.ctypes.data, steps)
                    for t in range(steps):
                        for k in range(LANES):
                            d_step[t, k] *= gate[t, k]
                for t in range(steps):
                    for k in range(LANES):
                        d_bias_row[k] += d_step[t, k]
                        gate_in[t, k] *= out[t, k]
                store_tile(d_step, ddelta[b], channel, width, start, steps)
                if z.shape[0] > 0:
                    store_tile(gate_in, dz[b], channel, width, start, steps)
            for k in range(width):
                dD[channel + k] += d_d_row[k]
                dbias[channel + k] += d_bias_row[k]
                for n in range(n_states):
                    dA[channel + k, n] += d_a[n, k]
                    adjoints[b, channel + k, n] = adjoint[n, k]

    share = (types.int64, types.int64, types.int64)
    inputs = (_CUBE, _CUBE, _MATRIX, _FOUR, _FOUR, _ROW, _CUBE, _ROW, types.boolean)
    return SimpleNamespace(
        forward=cached_on_disk(types.void(*share, *inputs, _CUBE, _CUBE, _FOUR))(forward),
        backward=cached_on_disk(
            types.void(*share, *inputs, _FOUR, _CUBE, _CUBE, _CUBE, _CUBE, _CUBE, _MATRIX, _FOUR, _FOUR, _ROW, _ROW)
        )(backward),
    )


_kernels = _build(checksum_of(numba_loops, numba_simd, numba_tiles))
forward, backward = _kernels.forward, _kernels.backward
