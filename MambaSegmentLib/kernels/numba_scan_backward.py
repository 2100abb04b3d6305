"""The compiled way back: tile by tile from the last to the first, replaying each tile from the state at its start.

Chunks as in the forward pass: all derivatives but those of C, D and z are linear in the derivative by the state, so a
second walk adds what comes from the chunks behind, and ends where nothing of it is left.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
from numba import types

from . import numba_loops, numba_maps, numba_moves, numba_scan_tiles, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import add_lane_sums, backward_state, replay_state, sigmoid_rows
from .numba_maps import write_tile
from .numba_moves import ignore_denormals, restore_float_mode
from .numba_scan_tiles import (
    D_DELTA,
    DELTA,
    DU,
    DY,
    DZ,
    ROW_BYTES,
    B,
    C,
    Inputs,
    U,
    Z,
    all_vanished,
    course_of,
    is_gated,
    job_of,
    load_constants,
    load_map,
    load_state,
    load_states,
    new_constants,
    new_tiles,
    passed_on,
    prepare,
    rows_of,
    store_state,
)
from .numba_simd import LANES
from .numba_tiles import TILE, helper, new_row, new_tile

_LN_2 = np.float32(0.6931471805599453)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)

# tiles and rows of the backward pass
Adjoints = namedtuple(
    "Adjoints",
    ("raw", "x", "gate", "dy", "d_step", "d_drive", "decays", "before", "d_b", "d_c", "state", "d_a", "d_bias", "d_D"),
)
# (B, K G, N, L rounded up to LANES), (K D, N), (K D,): sums over channels, over time, of this share of the jobs
Sums = namedtuple("Sums", ("A", "B", "C", "D", "bias"))


@helper
def new_adjoints(states):
    return Adjoints(
        new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE),
        new_tile(TILE), new_tile(TILE), new_tile(TILE), new_row(), new_tile(states), new_row(), new_row(),
    )  # fmt: skip


@helper
def load_inputs(inputs, job, constants, course, tiles, adjoints):
    """All inputs of the recurrence in tiles, delta and u as they came too."""
    load_map(inputs, job, DELTA, course, adjoints.raw)
    load_map(inputs, job, U, course, adjoints.x)
    load_states(inputs, job, B, course, tiles.b)
    load_states(inputs, job, C, course, tiles.c)
    prepare(inputs, constants, rows_of(adjoints.raw), rows_of(adjoints.x), course.steps, tiles)


@helper
def backward_gate(steps, tiles, adjoints):
    """dy becomes the derivative by y before the gate; z becomes that by z but for the factor y, not known yet."""
    for t in range(steps):
        for k in range(LANES):
            dy, z, gate = adjoints.dy[t, k], tiles.z[t, k], adjoints.gate[t, k]
            adjoints.dy[t, k] = dy * z * gate
            tiles.z[t, k] = dy * gate * (_ONE + z * (_ONE - gate))


@helper
def backward_tile(inputs, job, constants, course, groups, checkpoints, adjoint, tiles, adjoints, sums):
    """The adjoint of forward_tile: d_step (per log2 e) and d_drive; dB and dC are added to; `adjoint` moves back."""
    squares = (course.steps + LANES - 1) // LANES
    last, by_row = course.first_row, course.by_row  # the way back; the replay goes the other way
    first = (course.steps - 1) * ROW_BYTES - last
    adjoints.d_step[:] = _ZERO
    adjoints.d_drive[:] = _ZERO
    group = job.k * groups + job.g
    step, drive, state = tiles.step.ctypes.data, tiles.drive.ctypes.data, adjoints.state.ctypes.data
    decays, before = adjoints.decays.ctypes.data, adjoints.before.ctypes.data
    for n in range(inputs.A.shape[1]):
        adjoints.state[:] = checkpoints[job.k, job.block, course.tile, n]
        a_log2 = constants.a_log2[n].ctypes.data
        place = n // LANES * TILE * ROW_BYTES + n % LANES * 4
        b, c = tiles.b.ctypes.data + place, tiles.c.ctypes.data + place
        replay_state(
            step + first, drive + first, tiles.out.ctypes.data + first, a_log2, state, b + first, c + first,
            decays + first, before + first, -by_row, course.steps,
        )  # fmt: skip
        backward_state(
            drive + last, adjoints.dy.ctypes.data + last, a_log2, state, adjoint[n].ctypes.data, b + last, c + last,
            decays + last, before + last, step + last,
            adjoints.d_step.ctypes.data + last, adjoints.d_drive.ctypes.data + last, adjoints.d_a[n].ctypes.data,
            adjoints.d_b.ctypes.data + last, adjoints.d_c.ctypes.data + last, by_row, course.steps,
        )  # fmt: skip
        add_lane_sums(adjoints.d_b.ctypes.data, sums.B[job.b, group, n, course.start :].ctypes.data, squares)
        add_lane_sums(adjoints.d_c.ctypes.data, sums.C[job.b, group, n, course.start :].ctypes.data, squares)


@helper
def backward_inputs(inputs, constants, steps, tiles, adjoints):
    """The adjoint of load_inputs: d_step becomes the derivative by delta, d_drive that by u; adds to d_D, d_bias."""
    for t in range(steps):
        for k in range(LANES):
            dy, x, d_drive = adjoints.dy[t, k], adjoints.x[t, k], adjoints.d_drive[t, k]
            adjoints.d_D[k] += dy * x
            adjoints.d_step[t, k] = adjoints.d_step[t, k] * _LN_2 + d_drive * x
            adjoints.d_drive[t, k] = d_drive * tiles.step[t, k] + constants.D[k] * dy
    if inputs.softplus:
        sigmoid_rows(adjoints.raw.ctypes.data, constants.bias.ctypes.data, adjoints.gate.ctypes.data, steps)
        for t in range(steps):
            for k in range(LANES):
                adjoints.d_step[t, k] *= adjoints.gate[t, k]
    for t in range(steps):
        for k in range(LANES):
            adjoints.d_bias[k] += adjoints.d_step[t, k]


@helper
def store_map(tile, inputs, job, which, course, add):
    view, extents = inputs.views[job.k, which], inputs.extents[job.k]
    write_tile(tile, view, extents, job.b, job.channel, job.width, course.start, course.steps, add)


@helper
def backward_job(inputs, job, constants, groups, tiles, adjoints, checkpoints, adjoint, sums):
    for visited in range(job.end - 1, job.first - 1, -1):
        course = course_of(visited, inputs.extents[job.k], True)
        load_inputs(inputs, job, constants, course, tiles, adjoints)
        load_map(inputs, job, DY, course, adjoints.dy)
        gated = is_gated(inputs, job)
        if gated:
            load_map(inputs, job, Z, course, tiles.z)
            sigmoid_rows(tiles.z.ctypes.data, constants.zeros.ctypes.data, adjoints.gate.ctypes.data, course.steps)
            backward_gate(course.steps, tiles, adjoints)
        backward_tile(inputs, job, constants, course, groups, checkpoints, adjoint, tiles, adjoints, sums)
        if gated:
            for t in range(course.steps):
                for k in range(LANES):
                    tiles.z[t, k] *= tiles.out[t, k]
            store_map(tiles.z, inputs, job, DZ, course, False)
        backward_inputs(inputs, constants, course.steps, tiles, adjoints)
        store_map(adjoints.d_drive, inputs, job, DU, course, job.k > 0)
        store_map(adjoints.d_step, inputs, job, D_DELTA, course, False)


@helper
def correct_backward_job(inputs, job, constants, groups, tiles, adjoints, checkpoints, adjoint, sums):
    """Add what the derivative by the state behind the chunk leads to, as far as anything of it is left."""
    adjoints.dy[:] = _ZERO
    for visited in range(job.end - 1, job.first - 1, -1):
        if all_vanished(adjoint):
            adjoint[:] = _ZERO
            return
        course = course_of(visited, inputs.extents[job.k], True)
        load_inputs(inputs, job, constants, course, tiles, adjoints)
        backward_tile(inputs, job, constants, course, groups, checkpoints, adjoint, tiles, adjoints, sums)
        backward_inputs(inputs, constants, course.steps, tiles, adjoints)
        store_map(adjoints.d_drive, inputs, job, DU, course, True)
        store_map(adjoints.d_step, inputs, job, D_DELTA, course, True)


@helper
def add_sums(job, channels, adjoints, sums):
    adjoint_rows = job.k * channels + job.channel
    for k in range(job.width):
        sums.D[adjoint_rows + k] += adjoints.d_D[k]
        sums.bias[adjoint_rows + k] += adjoints.d_bias[k]
        for n in range(sums.A.shape[1]):
            sums.A[adjoint_rows + k, n] += adjoints.d_a[n, k]


@helper
def forget_sums(adjoints):
    adjoints.d_a[:] = _ZERO
    adjoints.d_bias[:] = _ZERO
    adjoints.d_D[:] = _ZERO


def _build(sources):
    """The two kernels; `sources` makes their cache depend on the files imported here."""

    def backward(
        first, stride, jobs, from_k, to_k, chunks, groups, channels, views, extents, A, D, bias, softplus,
        states, checkpoints, ends, dA, dB, dC, dD, d_bias,
    ):  # fmt: skip
        """The derivatives of every `stride`-th job, for the directions from_k .. to_k - 1.

        states (B, K D, N): the derivative by the last state on entry, by the initial one on return if there is one
        chunk. ends: as in the forward pass, of the derivatives at the chunks' starts.
        dA .. d_bias are added to; they belong to this share of the jobs, and the caller sums them in a fixed order.
        """
        _ = sources
        mode = ignore_denormals()
        inputs, sums = Inputs(views, extents, A, D, bias, softplus), Sums(dA, dB, dC, dD, d_bias)
        padded = ends.shape[3] - 1
        constants, tiles, adjoints = new_constants(padded), new_tiles(padded), new_adjoints(padded)
        adjoint = new_tile(padded)
        for index in range(first, jobs, stride):
            for k in range(from_k, to_k):
                job, chunk = job_of(index, k, chunks, groups, channels, extents[k]), index % chunks
                load_constants(inputs, job, channels, constants)
                forget_sums(adjoints)
                adjoint[:] = _ZERO
                tiles.total[:] = _ZERO
                if chunk == chunks - 1:
                    load_state(states, job, channels, adjoint)
                backward_job(inputs, job, constants, groups, tiles, adjoints, checkpoints, adjoint, sums)
                add_sums(job, channels, adjoints, sums)
                if chunks == 1:
                    store_state(adjoint, states, job, channels)
                else:
                    ends[k, job.block, chunk, :padded] = adjoint
                    ends[k, job.block, chunk, padded] = tiles.total
        restore_float_mode(mode)

    def correct(
        first, stride, jobs, k, chunks, groups, channels, views, extents, A, D, bias, softplus,
        states, checkpoints, ends, dA, dB, dC, dD, d_bias,
    ):  # fmt: skip
        """For every `stride`-th chunk but the last of a block: add what the chunks behind it contribute."""
        _ = sources
        mode = ignore_denormals()
        inputs, sums = Inputs(views, extents, A, D, bias, softplus), Sums(dA, dB, dC, dD, d_bias)
        padded = ends.shape[3] - 1
        constants, tiles, adjoints = new_constants(padded), new_tiles(padded), new_adjoints(padded)
        adjoint = new_tile(padded)
        for index in range(first, jobs, stride):
            job, chunk = job_of(index, k, chunks, groups, channels, extents[k]), index % chunks
            if chunk == chunks - 1:
                continue
            load_constants(inputs, job, channels, constants)
            forget_sums(adjoints)
            adjoint[:] = ends[k, job.block, chunks - 1, :padded]
            for behind in range(chunks - 2, chunk, -1):
                passed_on(constants.a_log2, ends[k, job.block, behind], adjoint, adjoint)
            correct_backward_job(inputs, job, constants, groups, tiles, adjoints, checkpoints, adjoint, sums)
            add_sums(job, channels, adjoints, sums)
            if chunk == 0:
                adjoint += ends[k, job.block, chunk, :padded]
                store_state(adjoint, states, job, channels)
        restore_float_mode(mode)

    matrix, cube, four, five = (types.Array(types.float32, dimensions, "C") for dimensions in (2, 3, 4, 5))
    row = types.Array(types.float32, 1, "C")
    inputs = (types.int64[:, :, ::1], types.int64[:, ::1], matrix, row, row, types.boolean)
    results = (cube, five, five, matrix, four, four, row, row)
    return SimpleNamespace(
        backward=cached_on_disk(types.void(*([types.int64] * 8), *inputs, *results))(backward),
        correct=cached_on_disk(types.void(*([types.int64] * 7), *inputs, *results))(correct),
    )


_kernels = _build(checksum_of(numba_loops, numba_maps, numba_moves, numba_scan_tiles, numba_simd, numba_tiles))
backward, correct = _kernels.backward, _kernels.correct
