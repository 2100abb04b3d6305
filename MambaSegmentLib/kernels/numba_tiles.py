"""Tiles: pieces of a (channels, time) array, whatever its strides, as contiguous (time, LANES) buffers and back.

Channels-last memory is copied row by row, (channels, time) memory transposed in squares of LANES x LANES, anything else
element by element.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .numba_loops import move_rows, transpose_squares
from .numba_simd import LANES

TILE = 64  # steps per tile, a multiple of LANES
FLOAT_BYTES = 4
_LINE_BYTES = 64

helper = njit(nogil=True, error_model="numpy", inline="never")


@helper
def new_tile(rows):
    """Zeros, each row in a cache line of its own: vectors that straddle two lines take twice as long to read."""
    buffer = np.zeros((rows + 1) * LANES, np.float32)
    skipped = (_LINE_BYTES - np.int64(buffer.ctypes.data % _LINE_BYTES)) % _LINE_BYTES // FLOAT_BYTES
    return buffer[skipped : skipped + rows * LANES].reshape(rows, LANES)


@helper
def new_row():
    return new_tile(1)[0]


@helper
def load_tile(source, channel, width, start, steps, tile):
    """source (channels, time) -> tile (time, LANES); lanes beyond `width` are zero."""
    by_channel, by_time = source.strides[0] // FLOAT_BYTES, source.strides[1] // FLOAT_BYTES
    done = 0
    if width == LANES and by_channel == 1:
        address = source.ctypes.data + (channel * by_channel + start * by_time) * FLOAT_BYTES
        move_rows(address, by_time, tile.ctypes.data, LANES, steps)
        return
    if width == LANES and by_time == 1:
        squares = steps // LANES
        address = source.ctypes.data + (channel * by_channel + start) * FLOAT_BYTES
        transpose_squares(address, by_channel, LANES, tile.ctypes.data, LANES, LANES * LANES, squares)
        done = squares * LANES
    for t in range(done, steps):
        for k in range(width):
            tile[t, k] = source[channel + k, start + t]
        for k in range(width, LANES):
            tile[t, k] = np.float32(0.0)


@helper
def store_tile(tile, target, channel, width, start, steps):
    """tile (time, LANES) -> target (channels, time)."""
    by_channel, by_time = target.strides[0] // FLOAT_BYTES, target.strides[1] // FLOAT_BYTES
    done = 0
    if width == LANES and by_channel == 1:
        address = target.ctypes.data + (channel * by_channel + start * by_time) * FLOAT_BYTES
        move_rows(tile.ctypes.data, LANES, address, by_time, steps)
        return
    if width == LANES and by_time == 1:
        squares = steps // LANES
        address = target.ctypes.data + (channel * by_channel + start) * FLOAT_BYTES
        transpose_squares(tile.ctypes.data, LANES, LANES * LANES, address, by_channel, LANES, squares)
        done = squares * LANES
    for t in range(done, steps):
        for k in range(width):
            target[channel + k, start + t] = tile[t, k]


@helper
def load_row(source, channel, width, row):
    """LANES values of a vector over channels; an empty vector stands for zeros."""
    for k in range(LANES):
        row[k] = source[channel + k] if source.shape[0] > 0 and k < width else np.float32(0.0)


def empty_laid_out_like(tensor: Tensor) -> Tensor:
    """An uninitialised float32 tensor of the shape (B, D, L) of `tensor`, channels last in memory where that one is."""
    batch, channels, length = tensor.shape
    if tensor.stride(1) == 1 and channels > 1:
        return torch.empty(batch, length, channels).transpose(1, 2)
    return torch.empty(batch, channels, length)
