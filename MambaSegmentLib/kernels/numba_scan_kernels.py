"""The compiled scan, forward. Nothing of size (B, L, D, N) exists: what is kept is the state at each tile's start.

Where channels do not fill the threads, the sequence is cut into chunks. Each chunk first runs from zeros, as if nothing
came before. Since the recurrence is linear in the state, what came before is added afterwards: a second walk carries
the true state of the chunk's start through the decays alone, and ends where nothing of it is left.
"""

from types import SimpleNamespace

from numba import types

from . import numba_loops, numba_maps, numba_moves, numba_scan_tiles, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import STATES, forward_states, gate_rows
from .numba_maps import ROW_BYTES
from .numba_moves import add_to_rows, copy_rows, ignore_denormals, restore_float_mode, zero_rows
from .numba_scan_tiles import (
    DELTA,
    B,
    C,
    Inputs,
    U,
    Y,
    Z,
    all_vanished,
    count_members,
    course_of,
    is_present,
    job_of,
    lines_to_come,
    load_constants,
    load_state,
    map_rows,
    member_of,
    of_state,
    pass_on,
    places_of,
    prepare,
    state_rows,
    store_map,
    store_state,
    tiles_at,
)
from .numba_tiles import TILE, helper


@helper
def forward_tile(inputs, job, course, b, c, tiles):
    """out = y before the gate; the state moves on to the tile's end.

    The next tile is brought near meanwhile, line by line: all at once would stall, and not at all too.
    """
    row = course.first_row
    pair = lines_to_come(job, DELTA, course), lines_to_come(job, U, course)
    other_pair = lines_to_come(job, Z, course), lines_to_come(job, Y, course)
    for n in range(0, inputs.padded, STATES):
        forward_states(
            tiles.step + row, tiles.drive + row, tiles.out + row,
            tiles.a_log2 + n * ROW_BYTES, tiles.state + n * ROW_BYTES,
            *of_state(b, n, course.steps, course.by_row), *of_state(c, n, course.steps, course.by_row),
            course.by_row, course.steps, *pair[0], *pair[1],
        )  # fmt: skip
        pair = other_pair


@helper
def finish_tile(job, course, tiles, add):
    """The gate, and out to its place in y."""
    if not is_present(job, Z):
        store_map(tiles.out, job, Y, course, add)
        return
    z, y = map_rows(job, Z, course, tiles.z), places_of(job, Y, course)
    if y.address != 0 and not add:
        gate_rows(z.address, z.by_row, tiles.out, y.address, y.by_row, course.steps)
    else:
        gate_rows(z.address, z.by_row, tiles.out, tiles.out, ROW_BYTES, course.steps)
        store_map(tiles.out, job, Y, course, add)


@helper
def checkpoint_of(checkpoints, inputs, job, blocks, tile):
    """Address in an array (K, blocks, tiles, N, LANES)."""
    return checkpoints + ((job.k * blocks + job.block) * inputs.tiles + tile) * inputs.states * ROW_BYTES


@helper
def end_of(ends, inputs, job, blocks, chunks, chunk):
    """Address in an array (K, blocks, chunks, N + 1, LANES)."""
    return ends + ((job.k * blocks + job.block) * chunks + chunk) * (inputs.padded + 1) * ROW_BYTES


@helper
def forward_job(inputs, job, workspace, checkpoints, blocks, add):
    """Blocks that lie side by side in memory take turns at each tile, so that lines arrive in neighbourly order."""
    shared = tiles_at(workspace, inputs.padded, 0)
    for visited in range(job.first, job.end):
        course = course_of(visited, job, False)
        b, c = state_rows(inputs, job, B, course, shared.b), state_rows(inputs, job, C, course, shared.c)
        for index in range(count_members(job)):
            member, tiles = member_of(job, index), tiles_at(workspace, inputs.padded, index)
            if checkpoints != 0:
                copy_rows(tiles.state, checkpoint_of(checkpoints, inputs, member, blocks, course.tile), inputs.states)
            raw, x = map_rows(member, DELTA, course, tiles.step), map_rows(member, U, course, tiles.drive)
            prepare(inputs, raw, x, course.steps, tiles)
            forward_tile(inputs, member, course, b, c, tiles)
            finish_tile(member, course, tiles, add)


@helper
def correct_job(inputs, job, tiles, checkpoints, blocks):
    """Add what the state before the chunk leads to, as far as anything of it is left."""
    for visited in range(job.first, job.end):
        if all_vanished(tiles.state, inputs.padded):
            zero_rows(tiles.state, inputs.padded)
            return
        course = course_of(visited, job, False)
        if checkpoints != 0:
            add_to_rows(tiles.state, checkpoint_of(checkpoints, inputs, job, blocks, course.tile), inputs.states)
        raw = map_rows(job, DELTA, course, tiles.step)
        prepare(inputs, raw, raw, course.steps, tiles)
        zero_rows(tiles.drive, TILE)
        zero_rows(tiles.out, TILE)
        b, c = state_rows(inputs, job, B, course, tiles.b), state_rows(inputs, job, C, course, tiles.c)
        forward_tile(inputs, job, course, b, c, tiles)
        finish_tile(job, course, tiles, True)


def _build(sources):
    """The two kernels. `sources` is closed over: numba's cache key holds closures, but not the imported files."""

    def forward(
        first, stride, jobs, from_k, to_k, chunks, together, blocks, workspace,
        views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence,
        states, checkpoints, ends,
    ):  # fmt: skip
        """y and the last state of every `stride`-th job, for the directions from_k .. to_k - 1.

        together, blocks: of channels in a job, and in all. workspace: see workspace_floats.
        views .. tiles_in_sequence: see Inputs. All arrays by address, float32:
        states (B, K D, N) or 0: the initial state on entry, the last one on return if there is one chunk.
        checkpoints (K, blocks, tiles, N, LANES) or 0: the state at each tile's start.
        ends (K, blocks, chunks, N + 1, LANES): of each chunk, the state that zeros lead to, and the sum of its steps.
        """
        _ = sources
        mode = ignore_denormals()
        inputs = Inputs(
            views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence
        )
        for index in range(first, jobs, stride):
            for k in range(from_k, to_k):
                job = job_of(index, k, chunks, together, inputs)
                for number in range(count_members(job)):
                    member, tiles = member_of(job, number), tiles_at(workspace, padded, number)
                    load_constants(inputs, member, tiles)
                    zero_rows(tiles.state, padded)
                    zero_rows(tiles.total, 1)
                    if job.first == 0:
                        load_state(states, inputs, member, tiles.state)
                forward_job(inputs, job, workspace, checkpoints, blocks, k > 0)
                for number in range(count_members(job)):
                    member, tiles = member_of(job, number), tiles_at(workspace, padded, number)
                    if chunks == 1:
                        store_state(tiles.state, states, inputs, member)
                    else:
                        end = end_of(ends, inputs, member, blocks, chunks, index % chunks)
                        copy_rows(tiles.state, end, padded)
                        copy_rows(tiles.total, end + padded * ROW_BYTES, 1)
        restore_float_mode(mode)

    def correct(
        first, stride, jobs, from_k, to_k, chunks, together, blocks, workspace,
        views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence,
        states, checkpoints, ends,
    ):  # fmt: skip
        """For every `stride`-th chunk but the first of a block: add to y and the checkpoints; the true last state."""
        _ = sources
        mode = ignore_denormals()
        inputs = Inputs(
            views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence
        )
        tiles = tiles_at(workspace, padded, 0)
        for index in range(first, jobs, stride):
            for k in range(from_k, to_k):
                job, chunk = job_of(index, k, chunks, together, inputs), index % chunks
                if chunk > 0:
                    load_constants(inputs, job, tiles)
                    copy_rows(end_of(ends, inputs, job, blocks, chunks, 0), tiles.state, padded)
                    for before in range(1, chunk):
                        end = end_of(ends, inputs, job, blocks, chunks, before)
                        pass_on(tiles.a_log2, end, tiles.state, padded)
                    correct_job(inputs, job, tiles, checkpoints, blocks)
                    if chunk == chunks - 1:
                        add_to_rows(end_of(ends, inputs, job, blocks, chunks, chunk), tiles.state, padded)
                        store_state(tiles.state, states, inputs, job)
        restore_float_mode(mode)

    compiled = cached_on_disk(types.void(*([types.int64] * 24)))
    return SimpleNamespace(forward=compiled(forward), correct=compiled(correct))


_kernels = _build(checksum_of(numba_loops, numba_maps, numba_moves, numba_scan_tiles, numba_simd, numba_tiles))
forward, correct = _kernels.forward, _kernels.correct
