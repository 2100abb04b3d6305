"""The compiled scan: a job is LANES channels of one batch entry; a call works through a share of the jobs.

The sequence is walked tile by tile. Each tile's inputs are brought into contiguous buffers, whatever their strides, so
that softplus, the recurrence, D and the gate all run on full vectors in the first-level cache. Nothing of size
(B, L, D, N) exists: the forward pass keeps the state at each tile's start, the backward pass replays tile by tile.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
from numba import types

from . import numba_loops, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import add_lane_sums, backward_state, forward_state, replay_state, sigmoid_rows, softplus_rows
from .numba_simd import LANES, LOG2_E
from .numba_tiles import FLOAT_BYTES, TILE, helper, load_row, load_tile, new_row, new_tile, store_tile

_LN_2 = np.float32(0.6931471805599453)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)

# u, delta, z: (B, D, L); A: (D, N); B, C: (B, G, N, L); D, bias: (D,). z, D, bias may be empty.
Inputs = namedtuple("Inputs", ("u", "delta", "A", "B", "C", "D", "z", "bias", "softplus"))
# where a job is: batch entry, group, first channel, number of channels
Job = namedtuple("Job", ("b", "g", "channel", "width"))
# rows of one value a channel: A times log2(e) (N, LANES); bias, D, zeros (LANES,)
Constants = namedtuple("Constants", ("a_log2", "bias", "D", "zeros"))
# tiles of the forward pass
Tiles = namedtuple("Tiles", ("raw", "step", "x", "drive", "out", "z", "gate"))
# tiles and rows of the backward pass; `before` has one row more
Adjoints = namedtuple(
    "Adjoints", ("dy", "d_step", "d_drive", "decays", "before", "d_b", "d_c", "state", "d_a", "d_bias", "d_D")
)


@helper
def job_of(index, inputs):
    channels, groups = inputs.u.shape[1], inputs.B.shape[1]
    per_group = channels // groups
    blocks = (per_group + LANES - 1) // LANES
    b, rest = divmod(index, groups * blocks)
    g, block = divmod(rest, blocks)
    return Job(b, g, g * per_group + block * LANES, min(LANES, per_group - block * LANES))


@helper
def new_constants(inputs):
    return Constants(new_tile(inputs.A.shape[1]), new_row(), new_row(), new_row())


@helper
def new_tiles():
    return Tiles(
        new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE)
    )


@helper
def new_adjoints(inputs):
    return Adjoints(
        new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE + 1), new_tile(TILE),
        new_tile(TILE), new_row(), new_tile(inputs.A.shape[1]), new_row(), new_row(),
    )  # fmt: skip


@helper
def load_constants(inputs, job, constants):
    """A is taken times log2(e) because the exponential is to base 2; lanes beyond the width stay zero."""
    load_row(inputs.bias, job.channel, job.width, constants.bias)
    load_row(inputs.D, job.channel, job.width, constants.D)
    for n in range(inputs.A.shape[1]):
        load_row(inputs.A[:, n], job.channel, job.width, constants.a_log2[n])
        for k in range(LANES):
            constants.a_log2[n, k] *= np.float32(LOG2_E)


@helper
def load_inputs(inputs, job, constants, start, steps, tiles):
    """Fill step (delta as it enters the recurrence), x (u), drive (delta u) and out (D u) for one tile."""
    load_tile(inputs.delta[job.b], job.channel, job.width, start, steps, tiles.raw)
    load_tile(inputs.u[job.b], job.channel, job.width, start, steps, tiles.x)
    if inputs.softplus:
        softplus_rows(tiles.raw.ctypes.data, constants.bias.ctypes.data, tiles.step.ctypes.data, steps)
    else:
        for t in range(steps):
            for k in range(LANES):
                tiles.step[t, k] = tiles.raw[t, k] + constants.bias[k]
    for t in range(steps):
        for k in range(LANES):
            tiles.drive[t, k] = tiles.step[t, k] * tiles.x[t, k]
            tiles.out[t, k] = constants.D[k] * tiles.x[t, k]


@helper
def load_gate(inputs, job, constants, start, steps, tiles):
    load_tile(inputs.z[job.b], job.channel, job.width, start, steps, tiles.z)
    sigmoid_rows(tiles.z.ctypes.data, constants.zeros.ctypes.data, tiles.gate.ctypes.data, steps)


@helper
def forward_tile(inputs, job, constants, start, steps, state, tiles):
    """out = y before the gate; `state` (N, LANES) moves on to the tile's end."""
    for n in range(inputs.A.shape[1]):
        b, c = inputs.B[job.b, job.g, n, start:], inputs.C[job.b, job.g, n, start:]
        forward_state(
            tiles.step.ctypes.data, tiles.drive.ctypes.data, tiles.out.ctypes.data,
            constants.a_log2[n].ctypes.data, state[n].ctypes.data,
            b.ctypes.data, b.strides[0] // FLOAT_BYTES, c.ctypes.data, c.strides[0] // FLOAT_BYTES, steps,
        )  # fmt: skip


@helper
def forward_job(inputs, job, constants, tiles, state, y, checkpoints):
    for start in range(0, inputs.u.shape[2], TILE):
        steps = min(TILE, inputs.u.shape[2] - start)
        if checkpoints.shape[0] > 0:
            for n in range(state.shape[0]):
                for k in range(job.width):
                    checkpoints[job.b, job.channel + k, start // TILE, n] = state[n, k]
        load_inputs(inputs, job, constants, start, steps, tiles)
        forward_tile(inputs, job, constants, start, steps, state, tiles)
        if inputs.z.shape[0] > 0:
            load_gate(inputs, job, constants, start, steps, tiles)
            for t in range(steps):
                for k in range(LANES):
                    tiles.out[t, k] *= tiles.z[t, k] * tiles.gate[t, k]
        store_tile(tiles.out, y[job.b], job.channel, job.width, start, steps)


@helper
def backward_gate(steps, tiles, adjoints):
    """dy becomes the derivative by y before the gate; z becomes that by z but for the factor y, not known yet."""
    for t in range(steps):
        for k in range(LANES):
            dy, z, gate = adjoints.dy[t, k], tiles.z[t, k], tiles.gate[t, k]
            adjoints.dy[t, k] = dy * z * gate
            tiles.z[t, k] = dy * gate * (_ONE + z * (_ONE - gate))


@helper
def backward_tile(inputs, job, constants, tile, steps, checkpoints, adjoint, tiles, adjoints, dB, dC):
    """The adjoint of forward_tile: d_step (per log2 e) and d_drive; dB and dC are added to; `adjoint` moves back."""
    start, squares = tile * TILE, (steps + LANES - 1) // LANES
    adjoints.d_step[:] = _ZERO
    adjoints.d_drive[:] = _ZERO
    for n in range(inputs.A.shape[1]):
        for k in range(job.width):
            adjoints.state[k] = checkpoints[job.b, job.channel + k, tile, n]
        b, c = inputs.B[job.b, job.g, n, start:], inputs.C[job.b, job.g, n, start:]
        b_stride, c_stride = b.strides[0] // FLOAT_BYTES, c.strides[0] // FLOAT_BYTES
        replay_state(
            tiles.step.ctypes.data, tiles.drive.ctypes.data, tiles.out.ctypes.data,
            constants.a_log2[n].ctypes.data, adjoints.state.ctypes.data,
            b.ctypes.data, b_stride, c.ctypes.data, c_stride,
            adjoints.decays.ctypes.data, adjoints.before.ctypes.data, steps,
        )  # fmt: skip
        backward_state(
            tiles.step.ctypes.data, tiles.drive.ctypes.data, adjoints.dy.ctypes.data,
            constants.a_log2[n].ctypes.data, adjoint[n].ctypes.data,
            b.ctypes.data, b_stride, c.ctypes.data, c_stride,
            adjoints.decays.ctypes.data, adjoints.before.ctypes.data,
            adjoints.d_step.ctypes.data, adjoints.d_drive.ctypes.data, adjoints.d_a[n].ctypes.data,
            adjoints.d_b.ctypes.data, adjoints.d_c.ctypes.data, steps,
        )  # fmt: skip
        add_lane_sums(adjoints.d_b.ctypes.data, dB[job.b, job.g, n, start:].ctypes.data, squares)
        add_lane_sums(adjoints.d_c.ctypes.data, dC[job.b, job.g, n, start:].ctypes.data, squares)


@helper
def backward_inputs(inputs, constants, steps, tiles, adjoints):
    """The adjoint of load_inputs: d_step becomes the derivative by delta, d_drive that by u; adds to d_D, d_bias."""
    for t in range(steps):
        for k in range(LANES):
            dy, x, d_drive = adjoints.dy[t, k], tiles.x[t, k], adjoints.d_drive[t, k]
            adjoints.d_D[k] += dy * x
            adjoints.d_step[t, k] = adjoints.d_step[t, k] * _LN_2 + d_drive * x
            adjoints.d_drive[t, k] = d_drive * tiles.step[t, k] + constants.D[k] * dy
    if inputs.softplus:
        sigmoid_rows(tiles.raw.ctypes.data, constants.bias.ctypes.data, tiles.gate.ctypes.data, steps)
        for t in range(steps):
            for k in range(LANES):
                adjoints.d_step[t, k] *= tiles.gate[t, k]
    for t in range(steps):
        for k in range(LANES):
            adjoints.d_bias[k] += adjoints.d_step[t, k]


@helper
def backward_job(inputs, job, constants, tiles, adjoints, checkpoints, dy, adjoint, du, d_delta, dz, dB, dC):
    length = inputs.u.shape[2]
    for tile in range((length + TILE - 1) // TILE - 1, -1, -1):
        start = tile * TILE
        steps = min(TILE, length - start)
        load_inputs(inputs, job, constants, start, steps, tiles)
        load_tile(dy[job.b], job.channel, job.width, start, steps, adjoints.dy)
        if inputs.z.shape[0] > 0:
            load_gate(inputs, job, constants, start, steps, tiles)
            backward_gate(steps, tiles, adjoints)
        backward_tile(inputs, job, constants, tile, steps, checkpoints, adjoint, tiles, adjoints, dB, dC)
        if inputs.z.shape[0] > 0:
            for t in range(steps):
                for k in range(LANES):
                    tiles.z[t, k] *= tiles.out[t, k]
            store_tile(tiles.z, dz[job.b], job.channel, job.width, start, steps)
        backward_inputs(inputs, constants, steps, tiles, adjoints)
        store_tile(adjoints.d_drive, du[job.b], job.channel, job.width, start, steps)
        store_tile(adjoints.d_step, d_delta[job.b], job.channel, job.width, start, steps)


@helper
def load_state(states, job, rows):
    for n in range(rows.shape[0]):
        for k in range(job.width):
            rows[n, k] = states[job.b, job.channel + k, n]


@helper
def store_state(rows, states, job):
    for n in range(rows.shape[0]):
        for k in range(job.width):
            states[job.b, job.channel + k, n] = rows[n, k]


def _build(sources):
    """The two kernels. `sources` is closed over: numba's cache key holds closures, but not the imported files."""

    def forward(first, stride, jobs, u, delta, A, B, C, D, z, bias, softplus, states, y, checkpoints):
        """y and the last state of every `stride`-th job.

        states (B, D, N): the initial state on entry, the last one on return.
        checkpoints (B, D, tiles, N) or empty: the state at each tile's start.
        """
        _ = sources
        inputs = Inputs(u, delta, A, B, C, D, z, bias, softplus)
        constants, tiles, state = new_constants(inputs), new_tiles(), new_tile(A.shape[1])
        for index in range(first, jobs, stride):
            job = job_of(index, inputs)
            load_constants(inputs, job, constants)
            load_state(states, job, state)
            forward_job(inputs, job, constants, tiles, state, y, checkpoints)
            store_state(state, states, job)

    def backward(
        first, stride, jobs, u, delta, A, B, C, D, z, bias, softplus, checkpoints, dy,
        states, du, d_delta, dz, dA, dB, dC, dD, d_bias,
    ):  # fmt: skip
        """The derivatives of every `stride`-th job.

        states (B, D, N): the derivative by the last state on entry, by the initial state on return.
        du, d_delta, dz: (B, D, L), written. Added to: dA (D, N), dB and dC (B, G, N, L rounded up to LANES),
        dD and d_bias (D,). These belong to this share of the jobs; the caller sums the shares in a fixed order.
        """
        _ = sources
        inputs = Inputs(u, delta, A, B, C, D, z, bias, softplus)
        constants, tiles, adjoints = new_constants(inputs), new_tiles(), new_adjoints(inputs)
        adjoint = new_tile(A.shape[1])
        for index in range(first, jobs, stride):
            job = job_of(index, inputs)
            load_constants(inputs, job, constants)
            load_state(states, job, adjoint)
            adjoints.d_a[:] = _ZERO
            adjoints.d_bias[:] = _ZERO
            adjoints.d_D[:] = _ZERO
            backward_job(inputs, job, constants, tiles, adjoints, checkpoints, dy, adjoint, du, d_delta, dz, dB, dC)
            store_state(adjoint, states, job)
            for k in range(job.width):
                dD[job.channel + k] += adjoints.d_D[k]
                d_bias[job.channel + k] += adjoints.d_bias[k]
                for n in range(A.shape[1]):
                    dA[job.channel + k, n] += adjoints.d_a[n, k]

    row, matrix, cube, four = (types.Array(types.float32, dimensions, "A") for dimensions in (1, 2, 3, 4))
    share = (types.int64, types.int64, types.int64)
    inputs = (cube, cube, matrix, four, four, row, cube, row, types.boolean)
    gradients = (cube, cube, cube, cube, matrix, four, four, row, row)
    return SimpleNamespace(
        forward=cached_on_disk(types.void(*share, *inputs, cube, cube, four))(forward),
        backward=cached_on_disk(types.void(*share, *inputs, four, cube, *gradients))(backward),
    )


_kernels = _build(checksum_of(numba_loops, numba_simd, numba_tiles))
forward, backward = _kernels.forward, _kernels.backward
