"""The compiled way back: tile by tile from the last to the first, replaying each tile from the state at its start.

Chunks as in the forward pass: all derivatives but those of C, D and z are linear in the derivative by the state, so a
second walk adds what comes from the chunks behind, and ends where nothing of it is left.
"""

from collections import namedtuple
from types import SimpleNamespace

from numba import types

from . import numba_loops, numba_maps, numba_moves, numba_scan_kernels, numba_scan_tiles, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import (
    add_lane_sums,
    backward_gate_rows,
    backward_prepare_rows,
    backward_prepare_rows_softplus,
    backward_state,
    multiply_rows,
    replay_state,
)
from .numba_maps import ROW_BYTES
from .numba_moves import (
    add_to_rows,
    copy_rows,
    ignore_denormals,
    read_single,
    restore_float_mode,
    write_single,
    zero_rows,
)
from .numba_scan_kernels import checkpoint_of, end_of
from .numba_scan_tiles import (
    D_DELTA,
    DELTA,
    DU,
    DY,
    DZ,
    TILE_BYTES,
    B,
    C,
    Inputs,
    U,
    Z,
    all_vanished,
    course_of,
    is_present,
    job_of,
    load_constants,
    load_map,
    load_state,
    load_states,
    of_state,
    pass_on,
    prepare,
    rows_of,
    store_map,
    store_state,
    tiles_at,
    workspace_floats,
)
from .numba_simd import LANES
from .numba_tiles import TILE, helper

# addresses of further tiles and rows; the state of `Tiles` is here the derivative by the state
Adjoints = namedtuple(
    "Adjoints",
    (
        "raw",
        "x",
        "gate",
        "dy",
        "d_step",
        "d_drive",
        "decays",
        "before",
        "d_b",
        "d_c",
        "replayed",
        "d_a",
        "d_bias",
        "d_d",
    ),
)
# addresses of sums over channels (B, K G, N, length), and over time (K D, N), (K D,): of this share of the jobs
Sums = namedtuple("Sums", ("A", "B", "C", "D", "bias", "length"))
_ADJOINT_TILES = 10


def backward_workspace_floats(padded: int) -> int:
    """Size of the memory for Tiles and Adjoints, as workspace_floats."""
    return workspace_floats(padded) + (_ADJOINT_TILES * TILE + 2 * padded + 2) * LANES


@helper
def adjoints_at(address, padded):
    rows = address + _ADJOINT_TILES * TILE_BYTES
    d_a = rows + padded * ROW_BYTES
    rest = d_a + padded * ROW_BYTES
    return Adjoints(
        address, address + TILE_BYTES, address + 2 * TILE_BYTES, address + 3 * TILE_BYTES, address + 4 * TILE_BYTES,
        address + 5 * TILE_BYTES, address + 6 * TILE_BYTES, address + 7 * TILE_BYTES, address + 8 * TILE_BYTES,
        address + 9 * TILE_BYTES, rows, d_a, rest, rest + ROW_BYTES,
    )  # fmt: skip


@helper
def load_inputs(inputs, job, course, tiles, adjoints):
    """All inputs of the recurrence in tiles, delta and u as they came too."""
    load_map(job, DELTA, course, adjoints.raw)
    load_map(job, U, course, adjoints.x)
    load_states(inputs, job, B, course, tiles.b)
    load_states(inputs, job, C, course, tiles.c)
    prepare(inputs, rows_of(adjoints.raw), rows_of(adjoints.x), course.steps, tiles)


@helper
def backward_tile(inputs, job, course, checkpoint, tiles, adjoints, sums):
    """The adjoint of forward_tile: d_step (per log2 e) and d_drive; adds to dB and dC; the adjoint state moves back."""
    squares = (course.steps + LANES - 1) // LANES
    last, by_row = course.first_row, course.by_row  # the way back; the replay goes the other way
    first = (course.steps - 1) * ROW_BYTES - last
    zero_rows(adjoints.d_step, course.steps)
    zero_rows(adjoints.d_drive, course.steps)
    copy_rows(checkpoint, adjoints.replayed, inputs.states)
    group = (job.b * inputs.directions + job.k) * inputs.groups + job.g
    for n in range(inputs.states):
        row = n * ROW_BYTES
        b, _ = of_state(rows_of(tiles.b), n, course.steps, 1)
        c, _ = of_state(rows_of(tiles.c), n, course.steps, 1)
        replay_state(
            tiles.step + first, tiles.drive + first, tiles.out + first, tiles.a_log2 + row, adjoints.replayed + row,
            b + first, c + first, adjoints.decays + first, adjoints.before + first, -by_row, course.steps,
        )  # fmt: skip
        backward_state(
            tiles.drive + last, adjoints.dy + last, tiles.a_log2 + row, adjoints.replayed + row, tiles.state + row,
            b + last, c + last, adjoints.decays + last, adjoints.before + last, tiles.step + last,
            adjoints.d_step + last, adjoints.d_drive + last, adjoints.d_a + row,
            adjoints.d_b + last, adjoints.d_c + last, by_row, course.steps,
        )  # fmt: skip
        place = 4 * ((group * inputs.states + n) * sums.length + course.start)
        add_lane_sums(adjoints.d_b, sums.B + place, squares)
        add_lane_sums(adjoints.d_c, sums.C + place, squares)


@helper
def finish_tile(inputs, job, course, tiles, adjoints, correcting):
    """The adjoint of load_inputs, and out to their places."""
    if inputs.softplus:
        backward_prepare_rows_softplus(
            adjoints.raw, adjoints.x, tiles.bias, tiles.d, tiles.step, adjoints.dy, adjoints.d_step,
            adjoints.d_drive, adjoints.d_bias, adjoints.d_d, course.steps,
        )  # fmt: skip
    else:
        backward_prepare_rows(
            adjoints.raw, adjoints.x, tiles.bias, tiles.d, tiles.step, adjoints.dy, adjoints.d_step,
            adjoints.d_drive, adjoints.d_bias, adjoints.d_d, course.steps,
        )  # fmt: skip
    store_map(adjoints.d_drive, job, DU, course, correcting or job.k > 0)
    store_map(adjoints.d_step, job, D_DELTA, course, correcting)


@helper
def backward_job(inputs, job, tiles, adjoints, sums, checkpoints, blocks):
    for visited in range(job.end - 1, job.first - 1, -1):
        course = course_of(visited, job, True)
        load_inputs(inputs, job, course, tiles, adjoints)
        load_map(job, DY, course, adjoints.dy)
        gated = is_present(job, Z)
        if gated:
            load_map(job, Z, course, tiles.z)
            backward_gate_rows(tiles.z, adjoints.dy, adjoints.gate, course.steps)
        checkpoint = checkpoint_of(checkpoints, inputs, job, blocks, course.tile)
        backward_tile(inputs, job, course, checkpoint, tiles, adjoints, sums)
        if gated:
            multiply_rows(tiles.out, adjoints.gate, course.steps)
            store_map(adjoints.gate, job, DZ, course, False)
        finish_tile(inputs, job, course, tiles, adjoints, False)


@helper
def correct_job(inputs, job, tiles, adjoints, sums, checkpoints, blocks):
    """Add what the derivative by the state behind the chunk leads to, as far as anything of it is left."""
    zero_rows(adjoints.dy, TILE)
    for visited in range(job.end - 1, job.first - 1, -1):
        if all_vanished(tiles.state, inputs.padded):
            zero_rows(tiles.state, inputs.padded)
            return
        course = course_of(visited, job, True)
        load_inputs(inputs, job, course, tiles, adjoints)
        checkpoint = checkpoint_of(checkpoints, inputs, job, blocks, course.tile)
        backward_tile(inputs, job, course, checkpoint, tiles, adjoints, sums)
        finish_tile(inputs, job, course, tiles, adjoints, True)


@helper
def add_sum(value, place):
    write_single(place, read_single(place) + read_single(value))


@helper
def add_sums(inputs, job, adjoints, sums):
    for k in range(job.width):
        row = job.k * inputs.channels + job.channel + k
        add_sum(adjoints.d_d + 4 * k, sums.D + 4 * row)
        add_sum(adjoints.d_bias + 4 * k, sums.bias + 4 * row)
        for n in range(inputs.states):
            add_sum(adjoints.d_a + n * ROW_BYTES + 4 * k, sums.A + 4 * (row * inputs.states + n))


@helper
def forget_sums(adjoints, padded):
    zero_rows(adjoints.d_a, padded)
    zero_rows(adjoints.d_bias, 1)
    zero_rows(adjoints.d_d, 1)


def _build(sources):
    """The two kernels; `sources` makes their cache depend on the files imported here."""

    def backward(
        first, stride, jobs, from_k, to_k, chunks, together, blocks, workspace,
        views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence,
        states, checkpoints, ends, dA, dB, dC, dD, d_bias, length,
    ):  # fmt: skip
        """The derivatives of every `stride`-th job; arguments as of numba_scan_kernels.forward, but one block a job.

        states (B, K D, N): the derivative by the last state on entry, by the initial one on return if there is one
        chunk. ends: as in the forward pass, of the derivatives at the chunks' starts.
        dA .. d_bias: see Sums; added to. They belong to this share of the jobs; the caller adds shares in fixed order.
        """
        _ = sources
        mode = ignore_denormals()
        inputs = Inputs(
            views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence
        )
        sums = Sums(dA, dB, dC, dD, d_bias, length)
        tiles = tiles_at(workspace, padded, 0)
        adjoints = adjoints_at(workspace + 4 * workspace_of_tiles(padded), padded)
        for index in range(first, jobs, stride):
            for k in range(from_k, to_k):
                job, chunk = job_of(index, k, chunks, together, inputs), index % chunks
                load_constants(inputs, job, tiles)
                forget_sums(adjoints, padded)
                zero_rows(tiles.state, padded)
                zero_rows(tiles.total, 1)
                if chunk == chunks - 1:
                    load_state(states, inputs, job, tiles.state)
                backward_job(inputs, job, tiles, adjoints, sums, checkpoints, blocks)
                add_sums(inputs, job, adjoints, sums)
                if chunks == 1:
                    store_state(tiles.state, states, inputs, job)
                else:
                    end = end_of(ends, inputs, job, blocks, chunks, chunk)
                    copy_rows(tiles.state, end, padded)
                    copy_rows(tiles.total, end + padded * ROW_BYTES, 1)
        restore_float_mode(mode)

    def correct(
        first, stride, jobs, from_k, to_k, chunks, together, blocks, workspace,
        views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence,
        states, checkpoints, ends, dA, dB, dC, dD, d_bias, length,
    ):  # fmt: skip
        """For every `stride`-th chunk but the last of a block: add what the chunks behind it contribute."""
        _ = sources
        mode = ignore_denormals()
        inputs = Inputs(
            views, extents, A, D, bias, softplus, n_states, padded, channels, groups, directions, tiles_in_sequence
        )
        sums = Sums(dA, dB, dC, dD, d_bias, length)
        tiles = tiles_at(workspace, padded, 0)
        adjoints = adjoints_at(workspace + 4 * workspace_of_tiles(padded), padded)
        for index in range(first, jobs, stride):
            for k in range(from_k, to_k):
                job, chunk = job_of(index, k, chunks, together, inputs), index % chunks
                if chunk < chunks - 1:
                    load_constants(inputs, job, tiles)
                    forget_sums(adjoints, padded)
                    copy_rows(end_of(ends, inputs, job, blocks, chunks, chunks - 1), tiles.state, padded)
                    for behind in range(chunks - 2, chunk, -1):
                        end = end_of(ends, inputs, job, blocks, chunks, behind)
                        pass_on(tiles.a_log2, end, tiles.state, padded)
                    correct_job(inputs, job, tiles, adjoints, sums, checkpoints, blocks)
                    add_sums(inputs, job, adjoints, sums)
                    if chunk == 0:
                        add_to_rows(end_of(ends, inputs, job, blocks, chunks, chunk), tiles.state, padded)
                        store_state(tiles.state, states, inputs, job)
        restore_float_mode(mode)

    compiled = cached_on_disk(types.void(*([types.int64] * 30)))
    return SimpleNamespace(backward=compiled(backward), correct=compiled(correct))


workspace_of_tiles = helper(workspace_floats)
_kernels = _build(
    checksum_of(numba_loops, numba_maps, numba_moves, numba_scan_kernels, numba_scan_tiles, numba_simd, numba_tiles)
)
backward, correct = _kernels.backward, _kernels.correct
