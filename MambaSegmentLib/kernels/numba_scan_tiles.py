"""What the compiled scan and its way back share: where a job is, and one tile's inputs for the inner loops.

A job is LANES channels of one batch entry, a few neighbouring such blocks, or a chunk of their sequence. A tile's
inputs are read where they lie if their channels are adjacent float32, else through buffers in the first-level cache, so
that softplus, the recurrence, D and the gate run on full vectors whatever the strides, order and dtype.

Everything is told by address, and all memory comes from the caller: numba counts references to arrays at each call of
a function, with locked instructions that took a quarter of the time.
"""

from collections import namedtuple

import numpy as np

from .numba_loops import STATES, prepare_rows, prepare_rows_softplus
from .numba_maps import (
    ADDRESS,
    BY_AXIS,
    COLUMNS,
    ROW_BYTES,
    first_run,
    lies_in_rows,
    lines_of_tile,
    read_tile,
    write_tile,
)
from .numba_moves import BYTES, SINGLE, read_integer, read_single, write_single
from .numba_simd import LANES, LOG2_E
from .numba_tiles import TILE, helper

# rows of the table of views, one for each tensor of the shape of a feature map
U, DELTA, B, C, Z, Y, DY, DU, D_DELTA, DZ = range(10)
VIEWS = 10
REVERSE = 3  # column of the table of extents after the three axes
EXTENTS = 4
TILE_BYTES = TILE * ROW_BYTES
_INTEGER_BYTES = 8

# addresses of: views (K, VIEWS, COLUMNS), extents (K, EXTENTS) in int64; A (K D, N), D and bias (K D,), zeros where
# absent, in contiguous float32. states: N, padded: N as the loops count. channels: D, groups: G, of each direction.
# directions: K. tiles: in the sequence
Inputs = namedtuple(
    "Inputs",
    ("views", "extents", "A", "D", "bias", "softplus", "states", "padded", "channels", "groups", "directions", "tiles"),
)
# direction, addresses of its table of views and its extents, batch entry, group, first channel in the direction, number
# of channels, number of the block of channels, and the tiles of this job in the order of visit: first, end
Job = namedtuple("Job", ("k", "views", "extents", "b", "g", "channel", "width", "block", "first", "end"))
# addresses of tiles, of rows (N, LANES) and of single rows; b and c hold LANES states in a row, and further states in
# the tiles after
Tiles = namedtuple("Tiles", ("step", "drive", "out", "z", "b", "c", "a_log2", "state", "bias", "d", "total"))
# where the recurrence starts in a tile, the bytes to its next step, and the first token of the tile to come
Course = namedtuple("Course", ("tile", "start", "steps", "first_row", "by_row", "next"))
# rows of LANES floats in memory: the first, the bytes to the next one, and for B and C those to the next LANES states
Rows = namedtuple("Rows", ("address", "by_row", "by_lanes"))


def padded_states(states: int) -> int:
    """The kernels take STATES at a time; those beyond the real ones are zeros that stay zero."""
    return -(-states // STATES) * STATES


def workspace_floats(padded: int, together: int = 1) -> int:
    """Size of the memory for Tiles of `together` blocks, in floats; zeros on entry, starting on a cache line."""
    groups_of_states = -(-padded // LANES)
    return ((4 + 2 * groups_of_states) * TILE + together * (2 * padded + 3)) * LANES


@helper
def tiles_at(address, padded, member):
    """Blocks of one job share the tiles; each has rows of its own."""
    of_states = (padded + LANES - 1) // LANES * TILE_BYTES
    b = address + 4 * TILE_BYTES
    rows = b + 2 * of_states + member * (2 * padded + 3) * ROW_BYTES
    rest = rows + 2 * padded * ROW_BYTES
    return Tiles(
        address, address + TILE_BYTES, address + 2 * TILE_BYTES, address + 3 * TILE_BYTES, b, b + of_states,
        rows, rows + padded * ROW_BYTES, rest, rest + ROW_BYTES, rest + 2 * ROW_BYTES,
    )  # fmt: skip


@helper
def tokens_in(extents):
    return read_integer(extents, 0) * read_integer(extents, 1) * read_integer(extents, 2)


@helper
def job_of(index, k, chunks, together, inputs):
    """`together` neighbouring blocks of channels are one job; see member_of for each of them."""
    jobs_of_blocks, chunk = divmod(index, chunks)
    per_group = inputs.channels // inputs.groups
    blocks = (per_group + LANES - 1) // LANES
    rest, first = divmod(jobs_of_blocks, (blocks + together - 1) // together)
    b, g = divmod(rest, inputs.groups)
    first *= together
    return Job(
        k, inputs.views + k * VIEWS * COLUMNS * _INTEGER_BYTES, inputs.extents + k * EXTENTS * _INTEGER_BYTES, b, g,
        g * per_group + first * LANES, min(together * LANES, per_group - first * LANES), rest * blocks + first,
        chunk * inputs.tiles // chunks, (chunk + 1) * inputs.tiles // chunks,
    )  # fmt: skip


@helper
def count_members(job):
    return (job.width + LANES - 1) // LANES


@helper
def member_of(job, member):
    """A job's block of channels, as a job of its own."""
    before = member * LANES
    return Job(
        job.k, job.views, job.extents, job.b, job.g, job.channel + before, min(LANES, job.width - before),
        job.block + member, job.first, job.end,
    )  # fmt: skip


@helper
def course_of(visited, job, backward):
    """The tile that is visited as number `visited`, walked in the direction's sense, or against it if `backward`."""
    tokens, reverse = tokens_in(job.extents), read_integer(job.extents, REVERSE) != 0
    tiles = (tokens + TILE - 1) // TILE
    tile = tiles - 1 - visited if reverse else visited
    start = tile * TILE
    steps = min(TILE, tokens - start)
    if reverse != backward:
        return Course(tile, start, steps, (steps - 1) * ROW_BYTES, -ROW_BYTES, max(start - TILE, 0))
    return Course(tile, start, steps, 0, ROW_BYTES, min(start + TILE, (tiles - 1) * TILE))


@helper
def load_constants(inputs, job, tiles):
    """A is taken times log2(e) because the exponential is to base 2; lanes beyond the width stay zero."""
    first = job.k * inputs.channels + job.channel
    for k in range(LANES):
        inside = k < job.width
        zero = np.float32(0.0)
        write_single(tiles.bias + 4 * k, read_single(inputs.bias + 4 * (first + k)) if inside else zero)
        write_single(tiles.d + 4 * k, read_single(inputs.D + 4 * (first + k)) if inside else zero)
        for n in range(inputs.states):
            a = read_single(inputs.A + 4 * ((first + k) * inputs.states + n)) if inside else zero
            write_single(tiles.a_log2 + n * ROW_BYTES + 4 * k, a * np.float32(LOG2_E))


@helper
def view_of_job(job, which):
    return job.views + which * COLUMNS * _INTEGER_BYTES


@helper
def is_present(job, which):
    return read_integer(view_of_job(job, which), ADDRESS) != 0


@helper
def load_map(job, which, course, tile):
    """One tile of u, delta, z or dy."""
    view = view_of_job(job, which)
    read_tile(view, job.extents, job.b, 0, job.channel, job.width, course.start, course.steps, tile)


@helper
def store_map(tile, job, which, course, add):
    view = view_of_job(job, which)
    write_tile(tile, view, job.extents, job.b, job.channel, job.width, course.start, course.steps, add)


@helper
def load_states(inputs, job, which, course, tile):
    """One tile of B or C."""
    view = view_of_job(job, which)
    for n in range(0, inputs.states, LANES):
        width, part = min(LANES, inputs.states - n), tile + n // LANES * TILE_BYTES
        read_tile(view, job.extents, job.b, job.g, n, width, course.start, course.steps, part)


@helper
def lines_to_come(job, which, course):
    """See lines_of_tile; of the next tile of u, delta, z or y. Without a tensor of this kind, of u."""
    view = view_of_job(job, which if is_present(job, which) else U)
    return lines_of_tile(view, job.extents, job.b, job.channel, course.next)


@helper
def rows_of(tile):
    return Rows(np.int64(tile), ROW_BYTES, TILE_BYTES)


@helper
def places_of(job, which, course):
    """Rows of a tile of u, delta, z or y in their own memory; the address 0 if they do not lie in rows."""
    view = view_of_job(job, which)
    if job.width == LANES and lies_in_rows(view, job.extents, course.start, course.steps):
        address, _ = first_run(view, job.extents, job.b, 0, job.channel, course.start)
        return Rows(address, read_integer(view, BY_AXIS + 2) * BYTES[SINGLE], 0)
    return Rows(0, 0, 0)


@helper
def map_rows(job, which, course, tile):
    """One tile of u, delta or z where it lies, if it lies so; else a copy in `tile`."""
    places = places_of(job, which, course)
    if places.address != 0:
        return places
    load_map(job, which, course, tile)
    return rows_of(tile)


@helper
def state_rows(inputs, job, which, course, tile):
    """One tile of B or C where it lies, if it lies so and no states are padded; else a copy in `tile`."""
    view = view_of_job(job, which)
    if inputs.states == inputs.padded and lies_in_rows(view, job.extents, course.start, course.steps):
        address, _ = first_run(view, job.extents, job.b, job.g, 0, course.start)
        return Rows(address, read_integer(view, BY_AXIS + 2) * BYTES[SINGLE], ROW_BYTES)
    load_states(inputs, job, which, course, tile)
    return rows_of(tile)


@helper
def of_state(rows, n, steps, by_row):
    """Address of state n at the step where the recurrence starts, and the bytes to the next step."""
    address = rows.address + n // LANES * rows.by_lanes + n % LANES * 4
    return (address + (steps - 1) * rows.by_row, -rows.by_row) if by_row < 0 else (address, rows.by_row)


@helper
def prepare(inputs, raw, x, steps, tiles):
    """Fill step (delta as it enters the recurrence), drive (delta u) and out (D u) from the Rows of delta and u."""
    if inputs.softplus:
        prepare_rows_softplus(
            raw.address, raw.by_row, x.address, x.by_row, tiles.bias, tiles.d, tiles.step, tiles.drive, tiles.out,
            tiles.total, steps,
        )  # fmt: skip
    else:
        prepare_rows(
            raw.address, raw.by_row, x.address, x.by_row, tiles.bias, tiles.d, tiles.step, tiles.drive, tiles.out,
            tiles.total, steps,
        )  # fmt: skip


@helper
def place_of_state(states, inputs, job, k):
    """Address of channel k of a job in an array (B, K D, N)."""
    row = (job.b * inputs.directions + job.k) * inputs.channels + job.channel + k
    return states + 4 * inputs.states * row


@helper
def load_state(states, inputs, job, rows):
    """(B, K D, N), or the address 0 -> (N, LANES); states beyond N, and channels beyond the width, stay as they are."""
    if states == 0:
        return
    for k in range(job.width):
        place = place_of_state(states, inputs, job, k)
        for n in range(inputs.states):
            write_single(rows + n * ROW_BYTES + 4 * k, read_single(place + 4 * n))


@helper
def store_state(rows, states, inputs, job):
    if states == 0:
        return
    for k in range(job.width):
        place = place_of_state(states, inputs, job, k)
        for n in range(inputs.states):
            write_single(place + 4 * n, read_single(rows + n * ROW_BYTES + 4 * k))


@helper
def all_vanished(rows, count):
    """Whether nothing is left above the smallest number that counts; false where a value is not a number."""
    vanished = True
    for i in range(count * LANES):
        vanished = vanished and abs(read_single(rows + 4 * i)) < np.float32(1e-37)
    return vanished


@helper
def pass_on(a_log2, end, rows, padded):
    """`rows` = state at one end of a chunk, from that at its other end and what the chunk makes of zeros.

    end (N + 1, LANES): the state or derivative that zeros lead to, and below it the sum of the chunk's steps.
    """
    for n in range(padded):
        for k in range(LANES):
            place = n * ROW_BYTES + 4 * k
            decay = np.exp2(read_single(a_log2 + place) * read_single(end + padded * ROW_BYTES + 4 * k))
            write_single(rows + place, read_single(end + place) + decay * read_single(rows + place))
