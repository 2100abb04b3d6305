"""Tiles of a feature map of any strides, axis order and floating dtype, told to the kernels as rows of integers.

A view is one row of int64: address, kind of dtype, then strides in elements: of the batch, of the group of channels,
of the channel (or the state, for B and C), and of up to three spatial axes from the slowest visited to the fastest.
A tile is TILE consecutive tokens in that order; the fastest axis is walked in runs, so no copy of the map is made.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .numba_moves import (
    BFLOAT,
    BYTES,
    HALF,
    SINGLE,
    add_rows,
    add_squares,
    read_bfloat,
    read_half,
    read_integer,
    read_rows_bfloat,
    read_rows_half,
    read_rows_single,
    read_single,
    read_squares_bfloat,
    read_squares_half,
    read_squares_single,
    write_bfloat,
    write_half,
    write_rows_bfloat,
    write_rows_half,
    write_rows_single,
    write_single,
    write_squares_bfloat,
    write_squares_half,
    write_squares_single,
)
from .numba_simd import LANES, reads_half_precision
from .numba_tiles import helper

KINDS = {torch.float32: SINGLE, torch.bfloat16: BFLOAT} | ({torch.float16: HALF} if reads_half_precision() else {})
ADDRESS, KIND, BY_BATCH, BY_GROUP, BY_CHANNEL, BY_AXIS = range(6)
COLUMNS, AXES = 8, 3
ROW_BYTES = 4 * LANES


def merged_axes(extents: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Neighbouring axes that every tensor walks in equal steps become one, so that runs are long.

    Args:
        extents: of the axes, slowest first. strides: of each tensor along these axes.
    """
    kept: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, extent in enumerate(extents):
        if extent == 1:
            continue
        if kept and all(step[-1] == stride[axis] * extent for step, stride in zip(steps, strides, strict=True)):
            kept[-1] *= extent
            for step, stride in zip(steps, strides, strict=True):
                step[-1] = stride[axis]
        else:
            kept.append(extent)
            for step, stride in zip(steps, strides, strict=True):
                step.append(stride[axis])
    missing = AXES - len(kept)
    return [1] * missing + kept, [[0] * missing + step for step in steps]


def view_of(tensor: Tensor, grouped: bool, skipped: int, axis_strides: Sequence[int]) -> list[int]:
    """A row for (B, channels, *spatial), or (B, groups, states, *spatial) if `grouped`.

    Args:
        skipped: channels, or groups, that belong to directions before this one.
        axis_strides: as `merged_axes` gives them.
    """
    strides = tensor.stride()
    address = tensor.data_ptr() + skipped * strides[1] * tensor.element_size()
    by_group, by_channel = (strides[1], strides[2]) if grouped else (0, strides[1])
    return [address, KINDS[tensor.dtype], strides[0], by_group, by_channel, *axis_strides]


@helper
def read_run(address, kind, by_channel, by_time, width, steps, tile):
    """`steps` steps of `width` channels into the first rows of a tile; lanes beyond `width` become zero."""
    done = 0
    if width == LANES and by_channel == 1:
        if kind == SINGLE:
            read_rows_single(address, by_time, tile, steps)
        elif kind == BFLOAT:
            read_rows_bfloat(address, by_time, tile, steps)
        else:
            read_rows_half(address, by_time, tile, steps)
        return
    if width == LANES and by_time == 1:
        squares = steps // LANES
        if kind == SINGLE:
            read_squares_single(address, by_channel, tile, squares)
        elif kind == BFLOAT:
            read_squares_bfloat(address, by_channel, tile, squares)
        else:
            read_squares_half(address, by_channel, tile, squares)
        done = squares * LANES
    size = BYTES[kind]
    for t in range(done, steps):
        for k in range(width):
            place = address + (k * by_channel + t * by_time) * size
            if kind == SINGLE:
                write_single(tile + (t * LANES + k) * 4, read_single(place))
            elif kind == BFLOAT:
                write_single(tile + (t * LANES + k) * 4, read_bfloat(place))
            else:
                write_single(tile + (t * LANES + k) * 4, read_half(place))
        for k in range(width, LANES):
            write_single(tile + (t * LANES + k) * 4, np.float32(0.0))


@helper
def write_run(tile, address, kind, by_channel, by_time, width, steps, add):
    """The inverse of read_run; `add` (float32 memory only) adds to what is there."""
    done = 0
    if width == LANES and by_channel == 1:
        if add:
            add_rows(tile, address, by_time, steps)
        elif kind == SINGLE:
            write_rows_single(tile, address, by_time, steps)
        elif kind == BFLOAT:
            write_rows_bfloat(tile, address, by_time, steps)
        else:
            write_rows_half(tile, address, by_time, steps)
        return
    if width == LANES and by_time == 1:
        squares = steps // LANES
        if add:
            add_squares(tile, address, by_channel, squares)
        elif kind == SINGLE:
            write_squares_single(tile, address, by_channel, squares)
        elif kind == BFLOAT:
            write_squares_bfloat(tile, address, by_channel, squares)
        else:
            write_squares_half(tile, address, by_channel, squares)
        done = squares * LANES
    size = BYTES[kind]
    for t in range(done, steps):
        for k in range(width):
            place = address + (k * by_channel + t * by_time) * size
            if add:
                write_single(place, read_single(tile + (t * LANES + k) * 4) + read_single(place))
            elif kind == SINGLE:
                write_single(place, read_single(tile + (t * LANES + k) * 4))
            elif kind == BFLOAT:
                write_bfloat(place, read_single(tile + (t * LANES + k) * 4))
            else:
                write_half(place, read_single(tile + (t * LANES + k) * 4))


@helper
def first_run(view, extents, b, g, channel, start):
    """Address of token `start`, and its place along the fastest axis."""
    slow, middle, fast = 0, 0, start
    if start >= read_integer(extents, 2):  # never for the one axis of a sequence, which saves the divisions
        middle, fast = divmod(start, read_integer(extents, 2))
        slow, middle = divmod(middle, read_integer(extents, 1))
    place = (
        b * read_integer(view, BY_BATCH) + g * read_integer(view, BY_GROUP) + channel * read_integer(view, BY_CHANNEL)
    )
    place += (
        slow * read_integer(view, BY_AXIS)
        + middle * read_integer(view, BY_AXIS + 1)
        + fast * read_integer(view, BY_AXIS + 2)
    )
    return read_integer(view, ADDRESS) + place * BYTES[read_integer(view, KIND)], fast


@helper
def read_tile(view, extents, b, g, channel, width, start, steps, tile):
    """Tokens start .. start + steps - 1 of `width` channels from `channel` on."""
    done = 0
    while done < steps:
        address, fast = first_run(view, extents, b, g, channel, start + done)
        run = min(steps - done, read_integer(extents, 2) - fast)
        read_run(
            address,
            read_integer(view, KIND),
            read_integer(view, BY_CHANNEL),
            read_integer(view, BY_AXIS + 2),
            width,
            run,
            tile + done * ROW_BYTES,
        )
        done += run


@helper
def write_tile(tile, view, extents, b, channel, width, start, steps, add):
    done = 0
    while done < steps:
        address, fast = first_run(view, extents, b, 0, channel, start + done)
        run = min(steps - done, read_integer(extents, 2) - fast)
        write_run(
            tile + done * ROW_BYTES,
            address,
            read_integer(view, KIND),
            read_integer(view, BY_CHANNEL),
            read_integer(view, BY_AXIS + 2),
            width,
            run,
            add,
        )
        done += run


@helper
def lies_in_rows(view, extents, start, steps):
    """Whether a tile's channels are adjacent float32 in memory and its steps equally far apart: no copy is needed."""
    return (
        read_integer(view, KIND) == SINGLE
        and read_integer(view, BY_CHANNEL) == 1
        and (
            start + steps <= read_integer(extents, 2)
            or start % read_integer(extents, 2) + steps <= read_integer(extents, 2)
        )
    )


@helper
def lines_of_tile(view, extents, b, channel, start):
    """Where a tile's cache lines lie, for prefetching: the first, and the distances within and between fours of them.

    Two regular layouts are foreseen, adjacent channels and adjacent steps, and a tile that one run covers; elsewhere
    some of the lines are others, which does no harm.
    """
    address, _ = first_run(view, extents, b, 0, channel, start)
    size = BYTES[read_integer(view, KIND)]
    if read_integer(view, BY_AXIS + 2) == 1 and read_integer(view, BY_CHANNEL) != 1:
        return address, LANES * size, read_integer(view, BY_CHANNEL) * size
    return address, read_integer(view, BY_AXIS + 2) * size, 4 * read_integer(view, BY_AXIS + 2) * size
