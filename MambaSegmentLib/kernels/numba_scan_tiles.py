"""What the compiled scan and its way back share: where a job is, and one tile's inputs in contiguous buffers.

A job is LANES channels of one batch entry, or a chunk of their sequence. All inputs of a tile are brought into buffers
in the first-level cache whatever their strides, order and dtype, so that softplus, the recurrence, D and the gate run
on full vectors of float32.
"""

from collections import namedtuple

import numpy as np

from .numba_loops import STATES, prepare_rows, prepare_rows_softplus
from .numba_maps import ADDRESS, BY_AXIS, first_run, lies_in_rows, lines_of_tile, read_tile
from .numba_moves import BYTES, SINGLE
from .numba_simd import LANES, LOG2_E
from .numba_tiles import TILE, helper, load_row, new_row, new_tile

# rows of the table of views, one for each tensor of the shape of a feature map
U, DELTA, B, C, Z, Y, DY, DU, D_DELTA, DZ = range(10)
VIEWS = 10
REVERSE = 3  # column of `extents` after the three axes
ROW_BYTES = 4 * LANES

# views (K, VIEWS, COLUMNS), extents (K, 4); A (K D, N), D and bias (K D,), contiguous float32; zeros where absent
Inputs = namedtuple("Inputs", ("views", "extents", "A", "D", "bias", "softplus"))
# direction, batch entry, group, first channel in the direction, number of channels, number of the block of channels,
# and the tiles of this job in the order of visit: first, end
Job = namedtuple("Job", ("k", "b", "g", "channel", "width", "block", "first", "end"))
# rows of one value a channel: A times log2(e) (N, LANES); bias, D, zeros (LANES,)
Constants = namedtuple("Constants", ("a_log2", "bias", "D", "zeros"))
# tiles; B and C hold LANES states in a row, and one tile below the other if there are more states
Tiles = namedtuple("Tiles", ("step", "drive", "out", "z", "b", "c", "total"))
# where the recurrence starts in a tile, the bytes to its next step, and the first token of the tile to come
Course = namedtuple("Course", ("tile", "start", "steps", "first_row", "by_row", "next"))
# rows of LANES floats in memory: the first, the bytes to the next one, and for B and C those to the next LANES states
Rows = namedtuple("Rows", ("address", "by_row", "by_lanes"))


def padded_states(states: int) -> int:
    """The kernels take STATES at a time; those beyond the real ones are zeros that stay zero."""
    return -(-states // STATES) * STATES


@helper
def count_tiles(extents):
    return (extents[0] * extents[1] * extents[2] + TILE - 1) // TILE


@helper
def job_of(index, k, chunks, groups, channels, extents):
    block, chunk = divmod(index, chunks)
    per_group = channels // groups
    blocks = (per_group + LANES - 1) // LANES
    b, rest = divmod(block, groups * blocks)
    g, within = divmod(rest, blocks)
    tiles = count_tiles(extents)
    return Job(
        k, b, g, g * per_group + within * LANES, min(LANES, per_group - within * LANES), block,
        chunk * tiles // chunks, (chunk + 1) * tiles // chunks,
    )  # fmt: skip


@helper
def course_of(visited, extents, backward):
    """The tile that is visited as number `visited`, walked in the direction's sense, or against it if `backward`."""
    tiles = count_tiles(extents)
    tile = tiles - 1 - visited if extents[REVERSE] else visited
    start = tile * TILE
    steps = min(TILE, extents[0] * extents[1] * extents[2] - start)
    if (extents[REVERSE] != 0) != backward:
        return Course(tile, start, steps, (steps - 1) * ROW_BYTES, -ROW_BYTES, max(start - TILE, 0))
    return Course(tile, start, steps, 0, ROW_BYTES, min(start + TILE, (tiles - 1) * TILE))


@helper
def new_constants(states):
    return Constants(new_tile(states), new_row(), new_row(), new_row())


@helper
def new_tiles(states):
    groups_of_states = (states + LANES - 1) // LANES
    return Tiles(
        new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(TILE), new_tile(groups_of_states * TILE),
        new_tile(groups_of_states * TILE), new_row(),
    )  # fmt: skip


@helper
def load_constants(inputs, job, channels, constants):
    """A is taken times log2(e) because the exponential is to base 2; lanes beyond the width stay zero."""
    first = job.k * channels + job.channel
    load_row(inputs.bias, first, job.width, constants.bias)
    load_row(inputs.D, first, job.width, constants.D)
    for n in range(inputs.A.shape[1]):
        load_row(inputs.A[:, n], first, job.width, constants.a_log2[n])
        for k in range(LANES):
            constants.a_log2[n, k] *= np.float32(LOG2_E)


@helper
def load_map(inputs, job, which, course, tile):
    """One tile of u, delta, z or dy."""
    view, extents = inputs.views[job.k, which], inputs.extents[job.k]
    read_tile(view, extents, job.b, 0, job.channel, job.width, course.start, course.steps, tile)


@helper
def lines_to_come(inputs, job, which, course):
    """See lines_of_tile; of the next tile of u, delta, z or y. Without a tensor of this kind, of u."""
    which = which if inputs.views[job.k, which, ADDRESS] != 0 else U
    return lines_of_tile(inputs.views[job.k, which], inputs.extents[job.k], job.b, job.channel, course.next)


@helper
def load_states(inputs, job, which, course, tile):
    """One tile of B or C."""
    view, extents = inputs.views[job.k, which], inputs.extents[job.k]
    states = inputs.A.shape[1]
    for n in range(0, states, LANES):
        width = min(LANES, states - n)
        part = tile[n // LANES * TILE :]
        read_tile(view, extents, job.b, job.g, n, width, course.start, course.steps, part)


@helper
def rows_of(tile):
    return Rows(np.int64(tile.ctypes.data), ROW_BYTES, TILE * ROW_BYTES)


@helper
def map_rows(inputs, job, which, course, tile):
    """One tile of u, delta, z or y where it lies, if it lies so; else a copy in `tile`."""
    view, extents = inputs.views[job.k, which], inputs.extents[job.k]
    if job.width == LANES and lies_in_rows(view, extents, course.start, course.steps):
        address, _ = first_run(view, extents, job.b, 0, job.channel, course.start)
        return Rows(address, view[BY_AXIS + 2] * BYTES[SINGLE], 0)
    load_map(inputs, job, which, course, tile)
    return rows_of(tile)


@helper
def state_rows(inputs, job, which, course, tile):
    """One tile of B or C where it lies, if it lies so and no states are padded; else a copy in `tile`."""
    view, extents = inputs.views[job.k, which], inputs.extents[job.k]
    if inputs.A.shape[1] % STATES == 0 and lies_in_rows(view, extents, course.start, course.steps):
        address, _ = first_run(view, extents, job.b, job.g, 0, course.start)
        return Rows(address, view[BY_AXIS + 2] * BYTES[SINGLE], ROW_BYTES)
    load_states(inputs, job, which, course, tile)
    return rows_of(tile)


@helper
def prepare(inputs, constants, raw, x, steps, tiles):
    """Fill step (delta as it enters the recurrence), drive (delta u) and out (D u) from the Rows of delta and u."""
    bias, d, total = constants.bias.ctypes.data, constants.D.ctypes.data, tiles.total.ctypes.data
    step, drive, out = tiles.step.ctypes.data, tiles.drive.ctypes.data, tiles.out.ctypes.data
    if inputs.softplus:
        prepare_rows_softplus(raw.address, raw.by_row, x.address, x.by_row, bias, d, step, drive, out, total, steps)
    else:
        prepare_rows(raw.address, raw.by_row, x.address, x.by_row, bias, d, step, drive, out, total, steps)


@helper
def is_gated(inputs, job):
    return inputs.views[job.k, Z, ADDRESS] != 0


@helper
def of_state(rows, n, steps, by_row):
    """Address of state n at the step where the recurrence starts, and the bytes to the next step."""
    address = rows.address + n // LANES * rows.by_lanes + n % LANES * 4
    return (address + (steps - 1) * rows.by_row, -rows.by_row) if by_row < 0 else (address, rows.by_row)


@helper
def load_state(states, job, channels, rows):
    """(B, K D, N) -> (N, LANES); states beyond N stay zero."""
    for n in range(states.shape[2]):
        for k in range(job.width):
            rows[n, k] = states[job.b, job.k * channels + job.channel + k, n]


@helper
def store_state(rows, states, job, channels):
    for n in range(states.shape[2]):
        for k in range(job.width):
            states[job.b, job.k * channels + job.channel + k, n] = rows[n, k]


@helper
def all_vanished(rows):
    """Whether nothing is left above the smallest number that counts; false where a value is not a number."""
    for n in range(rows.shape[0]):
        for k in range(LANES):
            if not abs(rows[n, k]) < np.float32(1e-37):
                return False
    return True


@helper
def passed_on(a_log2, ends, row, before):
    """`row` = state at one end of a chunk, from that at the other end (`row`) and what the chunk makes of zeros.

    ends (N + 1, LANES): the state or derivative that zeros lead to, and below it the sum of the chunk's steps.
    """
    states = a_log2.shape[0]
    for n in range(states):
        for k in range(LANES):
            decay = np.exp2(a_log2[n, k] * ends[states, k])
            row[n, k] = ends[n, k] + decay * before[n, k]
