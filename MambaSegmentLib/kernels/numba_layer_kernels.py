"""A residual Mamba layer in one walk over the tokens: everything between reading a token and writing its answer happens
in the first two levels of the cache, a tile at a time.

    n = LN(x),  (v, z) = W_in n,  u = SiLU(conv(v)),  (d, B, C) = W_x u,  delta = softplus(W_dt d + b_dt)
    s = exp(delta A) s + delta u B,  y = (s C + D u) SiLU(z),  m = W_out y + skip x,  answer = W_proj LN(m) + b_proj

Layer by layer these are twelve passes over memory, half of them over tensors of twice or four times the width. Taken
alone, the products are too small for a library's matrix product, which spends most of its time getting started.
One job is one sequence. Gradients are not kept: this is for prediction. A tile is read before its answer is written, so
that the answer may take the place of the tokens; what U-Nets do before and after, GroupNorm with ReLU and a residual,
is done on the way, without a tensor of its own.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
from numba import types

from . import numba_loops, numba_maps, numba_moves, numba_products, numba_simd, numba_tiles
from .numba_compile import cached_on_disk, checksum_of
from .numba_loops import STATES, forward_states, gate_rows, prepare_rows_softplus
from .numba_maps import ROW_BYTES
from .numba_moves import (
    add_to_rows,
    copy_rows,
    ignore_denormals,
    read_integer,
    read_single,
    restore_float_mode,
    write_single,
)
from .numba_products import (
    ROWS,
    TAPS,
    add_moments,
    add_scaled_vectors,
    convolve_rows,
    multiply_rows_by_matrix,
    normalise_rows,
    scale_and_rectify_rows,
)
from .numba_simd import LANES
from .numba_tiles import helper, new_tile

STEPS = 32  # tokens of a tile: half as many as in the scan alone, since there is more to hold for each
ROWS_OF_MOMENTS = 64  # that are added up in float32
STATE_COUNT = LANES  # of each channel; B and C are then one vector a token
FLOAT_BYTES = 4

# the table of weights that the kernel is told, by address: each as `numba_layer._packed` lays it out
Weights = namedtuple(
    "Weights",
    ("norm_inside", "norm_weight", "norm_bias", "in_proj", "conv_weight", "conv_bias", "x_proj", "dt_proj", "dt_bias",
     "a_log2", "d", "out_proj", "skip", "proj_weight", "proj_bias", "nothing"),
)  # fmt: skip
# widths in channels: of a token, of the answer, of the inner sequence, and of the vectors that delta is made of
Widths = namedtuple("Widths", ("token", "answer", "inner", "rank"))
# addresses of the buffers of one job, and the bytes between their rows
Buffers = namedtuple(
    "Buffers",
    ("x", "n", "by_token", "vz", "by_vz", "u", "by_inner", "dbc", "by_dbc", "delta", "answer", "by_answer", "step",
     "drive", "out", "total", "state"),
)  # fmt: skip


def vectors_of(channels: int) -> int:
    return -(-channels // LANES)


def workspace_floats(token: int, answer: int, inner: int) -> int:
    """Floats of the buffers of one job."""
    vectors = 2 * vectors_of(token) + 4 * vectors_of(inner) + 3 + vectors_of(answer) + 3
    return (STEPS * vectors + (TAPS - 1) * 2 * vectors_of(inner) + 1 + STATE_COUNT * vectors_of(inner)) * LANES


@helper
def count_vectors(channels):
    return (channels + LANES - 1) // LANES


@helper
def weights_at(table):
    return Weights(
        read_integer(table, 0), read_integer(table, 1), read_integer(table, 2), read_integer(table, 3),
        read_integer(table, 4), read_integer(table, 5), read_integer(table, 6), read_integer(table, 7),
        read_integer(table, 8), read_integer(table, 9), read_integer(table, 10), read_integer(table, 11),
        read_integer(table, 12), read_integer(table, 13), read_integer(table, 14), read_integer(table, 15),
    )  # fmt: skip


@helper
def buffers_at(address, widths):
    by_token, by_inner = count_vectors(widths.token) * ROW_BYTES, count_vectors(widths.inner) * ROW_BYTES
    by_answer, by_dbc = count_vectors(widths.answer) * ROW_BYTES, 3 * ROW_BYTES
    n = address + STEPS * by_token
    vz = n + STEPS * by_token
    u = vz + (STEPS + TAPS - 1) * 2 * by_inner
    dbc = u + STEPS * by_inner
    delta = dbc + STEPS * by_dbc
    answer = delta + STEPS * by_inner
    step = answer + STEPS * by_answer
    drive = step + STEPS * ROW_BYTES
    out = drive + STEPS * ROW_BYTES
    total = out + STEPS * ROW_BYTES
    return Buffers(
        address, n, by_token, vz, 2 * by_inner, u, by_inner, dbc, by_dbc, delta, answer, by_answer, step, drive, out,
        total, total + ROW_BYTES,
    )  # fmt: skip


@helper
def multiply(x, by_row, depth, weights, bias, target, target_by_row, outputs, groups):
    """All vectors of outputs; weights (outputs / LANES, depth, LANES). bias: (outputs,)."""
    for vector in range(count_vectors(outputs)):
        multiply_rows_by_matrix(
            x, by_row, depth, weights + vector * depth * ROW_BYTES, bias + vector * ROW_BYTES,
            target + vector * ROW_BYTES, target_by_row, groups,
        )  # fmt: skip


@helper
def copy_tokens(source, by_row, channels, target, target_by_row, steps):
    """From the tokens of a sequence into a buffer whose rows are whole vectors, or back."""
    if channels % LANES == 0:
        for t in range(steps):
            copy_rows(source + t * by_row, target + t * target_by_row, channels // LANES)
        return
    for t in range(steps):
        for c in range(channels):
            write_single(
                target + t * target_by_row + FLOAT_BYTES * c, read_single(source + t * by_row + FLOAT_BYTES * c)
            )


@helper
def add_tokens(source, by_token, channels, target, target_by_row, steps):
    """target += source; rows of source lie side by side."""
    if channels % LANES == 0:
        add_to_rows(source, target, steps * (channels // LANES))
        return
    for t in range(steps):
        for c in range(channels):
            place = target + t * target_by_row + FLOAT_BYTES * c
            write_single(place, read_single(place) + read_single(source + t * by_token + FLOAT_BYTES * c))


@helper
def scan_tile(weights, widths, tile, steps):
    """The recurrence of each vector of channels; what comes out of the gate takes the place of u."""
    z = tile.vz + (TAPS - 1) * tile.by_vz + tile.by_inner
    b, c = tile.dbc + ROW_BYTES, tile.dbc + 2 * ROW_BYTES
    for vector in range(count_vectors(widths.inner)):
        at, states = vector * ROW_BYTES, vector * STATE_COUNT * ROW_BYTES
        prepare_rows_softplus(
            tile.delta + at, tile.by_inner, tile.u + at, tile.by_inner, weights.dt_bias + at, weights.d + at,
            tile.step, tile.drive, tile.out, tile.total, steps,
        )  # fmt: skip
        for n in range(0, STATE_COUNT, STATES):
            forward_states(
                tile.step, tile.drive, tile.out, weights.a_log2 + states + n * ROW_BYTES,
                tile.state + states + n * ROW_BYTES, b + FLOAT_BYTES * n, tile.by_dbc, c + FLOAT_BYTES * n,
                tile.by_dbc, ROW_BYTES, steps, tile.step, 0, 0, tile.step, 0, 0,
            )  # fmt: skip
        gate_rows(z + at, tile.by_vz, tile.out, tile.u + at, tile.by_inner, steps)


@helper
def mix_tile(weights, widths, tile, steps, inverse_count, epsilon):
    """From the tokens in tile.x to the answers in tile.answer."""
    groups, vectors = (steps + ROWS - 1) // ROWS, count_vectors(widths.token)
    fresh = tile.vz + (TAPS - 1) * tile.by_vz
    normalise_rows(
        tile.x, tile.n, tile.by_token, vectors, weights.norm_inside, weights.norm_weight, weights.norm_bias,
        inverse_count, epsilon, steps,
    )  # fmt: skip
    multiply(
        tile.n, tile.by_token, widths.token, weights.in_proj, weights.nothing, fresh, tile.by_vz, 2 * widths.inner,
        groups,
    )  # fmt: skip
    for vector in range(count_vectors(widths.inner)):
        at = vector * ROW_BYTES
        convolve_rows(
            tile.vz + at, weights.conv_weight + TAPS * at, weights.conv_bias + at, tile.u + at, tile.by_vz,
            tile.by_inner, steps,
        )  # fmt: skip
    multiply(
        tile.u, tile.by_inner, widths.inner, weights.x_proj, weights.nothing, tile.dbc, tile.by_dbc, 3 * LANES, groups
    )
    multiply(
        tile.dbc, tile.by_dbc, widths.rank, weights.dt_proj, weights.nothing, tile.delta, tile.by_inner, widths.inner,
        groups,
    )  # fmt: skip
    scan_tile(weights, widths, tile, steps)
    for row in range(TAPS - 1):  # the last inputs of the convolution are the first of the next tile's window
        copy_rows(tile.vz + (steps + row) * tile.by_vz, tile.vz + row * tile.by_vz, count_vectors(widths.inner))
    multiply(
        tile.u, tile.by_inner, widths.inner, weights.out_proj, weights.nothing, tile.n, tile.by_token, widths.token,
        groups,
    )  # fmt: skip
    add_scaled_vectors(tile.x, weights.skip, tile.n, steps * vectors)
    normalise_rows(
        tile.n, tile.n, tile.by_token, vectors, weights.norm_inside, weights.norm_weight, weights.norm_bias,
        inverse_count, epsilon, steps,
    )  # fmt: skip
    multiply(
        tile.n, tile.by_token, widths.token, weights.proj_weight, weights.proj_bias, tile.answer, tile.by_answer,
        widths.answer, groups,
    )  # fmt: skip


@helper
def load_history(widths, tile, tail, state):
    """The tail (inner, TAPS - 1) and the state (inner, STATE_COUNT) of the piece before."""
    for k in range(widths.inner):
        for row in range(TAPS - 1):
            write_single(
                tile.vz + row * tile.by_vz + FLOAT_BYTES * k, read_single(tail + FLOAT_BYTES * (k * (TAPS - 1) + row))
            )
        rows = tile.state + k // LANES * STATE_COUNT * ROW_BYTES + FLOAT_BYTES * (k % LANES)
        for n in range(STATE_COUNT):
            write_single(rows + n * ROW_BYTES, read_single(state + FLOAT_BYTES * (k * STATE_COUNT + n)))


@helper
def store_history(widths, tile, tail, state):
    for k in range(widths.inner):
        for row in range(TAPS - 1):
            write_single(
                tail + FLOAT_BYTES * (k * (TAPS - 1) + row), read_single(tile.vz + row * tile.by_vz + FLOAT_BYTES * k)
            )
        rows = tile.state + k // LANES * STATE_COUNT * ROW_BYTES + FLOAT_BYTES * (k % LANES)
        for n in range(STATE_COUNT):
            write_single(state + FLOAT_BYTES * (k * STATE_COUNT + n), read_single(rows + n * ROW_BYTES))


def _build(sources):
    """The kernel. `sources` is closed over: numba's cache key holds closures, but not the imported files."""

    def forward(
        first, stride, jobs, workspace, table, token, answer, inner, rank, length, x, y, scale, shift, added, tails,
        states, epsilon,
    ):  # fmt: skip
        """The answers to every `stride`-th sequence.

        workspace: see workspace_floats, zeros. table: addresses of Weights. x (jobs, length, token) and y (jobs,
        length, answer): contiguous; y may be x. scale, shift (jobs, vectors of a token) or 0: what x is multiplied with
        and then raised by before all that is negative becomes 0. added (jobs, length, answer) or 0: added to y, may be
        y. tails (jobs, inner, TAPS - 1), states (jobs, inner, STATE_COUNT): of the piece before on entry, after this
        one on return.
        """
        _ = sources
        mode = ignore_denormals()
        weights, widths = weights_at(table), Widths(token, answer, inner, rank)
        tile = buffers_at(workspace, widths)
        inverse_count = np.float32(1.0) / np.float32(token)
        for job in range(first, jobs, stride):
            tail = tails + job * inner * (TAPS - 1) * FLOAT_BYTES
            state = states + job * inner * STATE_COUNT * FLOAT_BYTES
            load_history(widths, tile, tail, state)
            for start in range(0, length, STEPS):
                steps = min(STEPS, length - start)
                source = x + (job * length + start) * token * FLOAT_BYTES
                copy_tokens(source, token * FLOAT_BYTES, token, tile.x, tile.by_token, steps)
                if scale != 0:
                    of_job = job * tile.by_token
                    scale_and_rectify_rows(
                        tile.x, tile.by_token, count_vectors(token), scale + of_job, shift + of_job, steps
                    )
                mix_tile(weights, widths, tile, steps, inverse_count, epsilon)
                place = (job * length + start) * answer * FLOAT_BYTES
                if added != 0:
                    add_tokens(added + place, answer * FLOAT_BYTES, answer, tile.answer, tile.by_answer, steps)
                copy_tokens(tile.answer, tile.by_answer, answer, y + place, answer * FLOAT_BYTES, steps)
            store_history(widths, tile, tail, state)
        restore_float_mode(mode)

    def moments(first, stride, jobs, x, length, channels, vectors, totals):
        """Of every `stride`-th sequence x (jobs, length, channels), contiguous, of x less its first token.

        vectors: that hold a whole number of tokens. totals (jobs, 2, vectors * LANES), float64, zeros on entry: sums
        and sums of squares, lane by lane. What is left over at the end, less than `vectors`, is not counted.
        """
        _ = sources
        row_bytes = vectors * ROW_BYTES
        rows = length * channels // (vectors * LANES)
        origin, sums, squares = new_tile(vectors), new_tile(1), new_tile(1)
        for job in range(first, jobs, stride):
            start = x + job * length * channels * FLOAT_BYTES
            for k in range(vectors * LANES):
                origin[k // LANES, k % LANES] = read_single(start + FLOAT_BYTES * (k % channels))
            for row in range(0, rows, ROWS_OF_MOMENTS):
                for vector in range(vectors):
                    add_moments(
                        start + row * row_bytes + vector * ROW_BYTES, row_bytes,
                        origin.ctypes.data + vector * ROW_BYTES, sums.ctypes.data, squares.ctypes.data,
                        min(ROWS_OF_MOMENTS, rows - row),
                    )  # fmt: skip
                    for k in range(LANES):
                        totals[job, 0, vector * LANES + k] += np.float64(sums[0, k])
                        totals[job, 1, vector * LANES + k] += np.float64(squares[0, k])

    integers = [types.int64]
    return SimpleNamespace(
        forward=cached_on_disk(types.void(*(integers * 17), types.float32))(forward),
        moments=cached_on_disk(types.void(*(integers * 7), types.float64[:, :, ::1]))(moments),
    )


_kernels = _build(checksum_of(numba_loops, numba_maps, numba_moves, numba_products, numba_simd, numba_tiles))
forward, moments = _kernels.forward, _kernels.moments
