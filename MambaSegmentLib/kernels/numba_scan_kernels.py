"""The compiled scan, forward. Nothing of size (B, L, D, N) exists: what is kept is the state at each tile's start.

Where channels do not fill the threads, the sequence is cut into chunks. Each chunk first runs from zeros, as if nothing
came before. Since the recurrence is linear in the state, what came before is added afterwards: a second walk carries
the true state of the chunk's start through the decays alone, and ends where nothing of it is left.
"""

from types import SimpleNamespace

import numpy as np
from numba import types

from . import numba_loops, numba_maps, numba_moves, numba_scan_tiles, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import STATES, forward_states, gate_rows
from .numba_maps import BY_AXIS, first_run, lies_in_rows, write_tile
from .numba_moves import BYTES, SINGLE, ignore_denormals, restore_float_mode
from .numba_scan_tiles import (
    DELTA,
    ROW_BYTES,
    B,
    C,
    Inputs,
    U,
    Y,
    Z,
    all_vanished,
    course_of,
    is_gated,
    job_of,
    lines_to_come,
    load_constants,
    load_state,
    map_rows,
    new_constants,
    new_tiles,
    of_state,
    passed_on,
    prepare,
    state_rows,
    store_state,
)
from .numba_simd import LANES
from .numba_tiles import helper, new_tile

_ZERO = np.float32(0.0)


@helper
def forward_tile(inputs, job, constants, course, state, b, c, tiles):
    """out = y before the gate; `state` (N, LANES) moves on to the tile's end.

    The next tile is brought near meanwhile, line by line: all at once would stall, and not at all too.
    """
    row = course.first_row
    pair = lines_to_come(inputs, job, DELTA, course), lines_to_come(inputs, job, U, course)
    other_pair = lines_to_come(inputs, job, Z, course), lines_to_come(inputs, job, Y, course)
    for n in range(0, state.shape[0], STATES):
        forward_states(
            tiles.step.ctypes.data + row, tiles.drive.ctypes.data + row, tiles.out.ctypes.data + row,
            constants.a_log2[n:].ctypes.data, state[n:].ctypes.data,
            *of_state(b, n, course.steps, course.by_row), *of_state(c, n, course.steps, course.by_row),
            course.by_row, course.steps, *pair[0], *pair[1],
        )  # fmt: skip
        pair = other_pair


@helper
def finish_tile(inputs, job, course, tiles, add):
    """The gate, and out to its place in y."""
    view, extents = inputs.views[job.k, Y], inputs.extents[job.k]
    if is_gated(inputs, job):
        z = map_rows(inputs, job, Z, course, tiles.z)
        out = tiles.out.ctypes.data
        if not add and job.width == LANES and lies_in_rows(view, extents, course.start, course.steps):
            address, _ = first_run(view, extents, job.b, 0, job.channel, course.start)
            gate_rows(z.address, z.by_row, out, address, view[BY_AXIS + 2] * BYTES[SINGLE], course.steps)
            return
        gate_rows(z.address, z.by_row, out, out, ROW_BYTES, course.steps)
    write_tile(tiles.out, view, extents, job.b, job.channel, job.width, course.start, course.steps, add)


@helper
def forward_job(inputs, job, constants, tiles, state, checkpoints, add):
    for visited in range(job.first, job.end):
        course = course_of(visited, inputs.extents[job.k], False)
        if checkpoints.shape[0] > 0:
            checkpoints[job.k, job.block, course.tile] = state
        raw = map_rows(inputs, job, DELTA, course, tiles.step)
        x = map_rows(inputs, job, U, course, tiles.drive)
        prepare(inputs, constants, raw, x, course.steps, tiles)
        b, c = state_rows(inputs, job, B, course, tiles.b), state_rows(inputs, job, C, course, tiles.c)
        forward_tile(inputs, job, constants, course, state, b, c, tiles)
        finish_tile(inputs, job, course, tiles, add)


@helper
def correct_job(inputs, job, constants, tiles, state, checkpoints):
    """Add what the state before the chunk leads to, as far as anything of it is left."""
    for visited in range(job.first, job.end):
        if all_vanished(state):
            state[:] = _ZERO
            return
        course = course_of(visited, inputs.extents[job.k], False)
        if checkpoints.shape[0] > 0:
            checkpoints[job.k, job.block, course.tile] += state
        raw = map_rows(inputs, job, DELTA, course, tiles.step)
        prepare(inputs, constants, raw, raw, course.steps, tiles)
        tiles.drive[:] = _ZERO
        tiles.out[:] = _ZERO
        b, c = state_rows(inputs, job, B, course, tiles.b), state_rows(inputs, job, C, course, tiles.c)
        forward_tile(inputs, job, constants, course, state, b, c, tiles)
        finish_tile(inputs, job, course, tiles, True)


def _build(sources):
    """The two kernels. `sources` is closed over: numba's cache key holds closures, but not the imported files."""

    def forward(
        first, stride, jobs, from_k, to_k, chunks, groups, channels, views, extents, A, D, bias, softplus,
        states, checkpoints, ends,
    ):  # fmt: skip
        """y and the last state of every `stride`-th job, for the directions from_k .. to_k - 1.

        states (B, K D, N): the initial state on entry, the last one on return if there is one chunk.
        checkpoints (K, blocks, tiles, N, LANES) or empty: the state at each tile's start.
        ends (K, blocks, chunks, N + 1, LANES): of each chunk, the state that zeros lead to, and the sum of its steps.
        """
        _ = sources
        mode = ignore_denormals()
        inputs = Inputs(views, extents, A, D, bias, softplus)
        padded = ends.shape[3] - 1
        constants, tiles, state = new_constants(padded), new_tiles(padded), new_tile(padded)
        for index in range(first, jobs, stride):
            for k in range(from_k, to_k):
                job = job_of(index, k, chunks, groups, channels, extents[k])
                load_constants(inputs, job, channels, constants)
                state[:] = _ZERO
                tiles.total[:] = _ZERO
                if job.first == 0:
                    load_state(states, job, channels, state)
                forward_job(inputs, job, constants, tiles, state, checkpoints, k > 0)
                if chunks == 1:
                    store_state(state, states, job, channels)
                else:
                    ends[k, job.block, index % chunks, :padded] = state
                    ends[k, job.block, index % chunks, padded] = tiles.total
        restore_float_mode(mode)

    def correct(
        first, stride, jobs, k, chunks, groups, channels, views, extents, A, D, bias, softplus,
        states, checkpoints, ends,
    ):  # fmt: skip
        """For every `stride`-th chunk but the first of a block: add to y and the checkpoints; the true last state."""
        _ = sources
        mode = ignore_denormals()
        inputs = Inputs(views, extents, A, D, bias, softplus)
        padded = ends.shape[3] - 1
        constants, tiles, state = new_constants(padded), new_tiles(padded), new_tile(padded)
        for index in range(first, jobs, stride):
            job, chunk = job_of(index, k, chunks, groups, channels, extents[k]), index % chunks
            if chunk == 0:
                continue
            load_constants(inputs, job, channels, constants)
            state[:] = ends[k, job.block, 0, :padded]
            for before in range(1, chunk):
                passed_on(constants.a_log2, ends[k, job.block, before], state, state)
            correct_job(inputs, job, constants, tiles, state, checkpoints)
            if chunk == chunks - 1:
                state += ends[k, job.block, chunk, :padded]
                store_state(state, states, job, channels)
        restore_float_mode(mode)

    matrix, cube, five = (types.Array(types.float32, dimensions, "C") for dimensions in (2, 3, 5))
    row = types.Array(types.float32, 1, "C")
    inputs = (types.int64[:, :, ::1], types.int64[:, ::1], matrix, row, row, types.boolean)
    results = (cube, five, five)
    return SimpleNamespace(
        forward=cached_on_disk(types.void(*([types.int64] * 8), *inputs, *results))(forward),
        correct=cached_on_disk(types.void(*([types.int64] * 7), *inputs, *results))(correct),
    )


_kernels = _build(checksum_of(numba_loops, numba_maps, numba_moves, numba_scan_tiles, numba_simd, numba_tiles))
forward, correct = _kernels.forward, _kernels.correct
