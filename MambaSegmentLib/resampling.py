"""Change the number of voxels along each axis, edge to edge.

The outer faces of the first and the last voxel stay where they are, as with `skimage.transform.resize` and in nnU-Net:
voxel n of the new grid lies at (n + 0.5) · old / new - 0.5 of the old one. So going from one size to another and back
uses the same two grids, and nothing shifts. Beyond the outermost voxel centres the edge is repeated.

Spline interpolation is linear and separable, so each axis is a matrix product: exact, repeatable and as fast as BLAS.

`RowResizer` interpolates the distance to one value of the array, its first. Where the array holds nothing but that
value, as the air around a body does once a CT's intensities are clipped, all distances are exactly zero, and so the
result is that value again, bit for bit, rather than sums of weights that round each in its own way.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .spline_weights import interpolation_weights, voxel_positions

_ROWS_AT_ONCE = 32


def resize(
    array: np.ndarray, shape: Sequence[int], orders: Sequence[int], coarse_axis: int | None = None
) -> np.ndarray:
    """Resize a 3-D array.

    Args:
        array: float32, shape (K, J, I); returned as it is where no axis changes.
        shape: the new number of voxels on each axis.
        orders: spline order on each axis: 0 nearest, 1 linear, 2, 3 cubic. From order 2 on the result is clipped to
            the range of `array`, since a spline overshoots at edges.
        coarse_axis: resize slice by slice across this axis first, each slice clipped to its own range, and then along
            it, as nnU-Net does for thick slices.
    Returns:
        float32, contiguous, of the new shape.
    """
    changed = [axis for axis in range(3) if array.shape[axis] != shape[axis]]
    if not changed:
        return array
    within = tuple(axis for axis in range(3) if axis != coarse_axis)
    overshoots = any(orders[axis] > 1 for axis in changed if axis in within)
    bounds = (array.min(within, keepdims=True), array.max(within, keepdims=True)) if overshoots else None
    for axis in sorted(set(changed) & set(within), key=lambda axis: shape[axis] / array.shape[axis]):
        array = _resize_axis(array, axis, shape[axis], orders[axis])  # shrunk first: less to compute
    if bounds is not None:
        array = np.clip(array, *bounds)
    if coarse_axis in changed:
        array = _resize_axis(array, coarse_axis, shape[coarse_axis], orders[coarse_axis])
    return np.ascontiguousarray(array, dtype=np.float32)


class RowResizer:
    """`resize`, asked for some rows of the result at a time: only the rows of the input near them are looked at.

    Args:
        shape, new_shape: of the array and of the result, (K, J, I).
        orders, coarse_axis: as for `resize`.
        source: gives rows [first, end) of the array, float32; called for each row once if the rows of the result are
            asked for in order.
    """

    def __init__(
        self,
        shape: Sequence[int],
        new_shape: Sequence[int],
        orders: Sequence[int],
        coarse_axis: int | None,
        source: Callable[[int, int], np.ndarray],
    ) -> None:
        changed = [axis for axis in range(3) if shape[axis] != new_shape[axis]]
        self._shape, self._new_shape, self._orders, self._source = shape, new_shape, orders, source
        self._in_plane = [axis for axis in (1, 2) if axis in changed and axis != coarse_axis]
        self._in_plane.sort(key=lambda axis: new_shape[axis] / shape[axis])  # shrunk first: less to compute
        self._along = 0 in changed
        self._last = coarse_axis if coarse_axis in changed and coarse_axis != 0 else None
        splines = any(orders[axis] > 1 for axis in changed if axis != coarse_axis)
        self._offset = source(0, 1).ravel()[0] if changed else np.float32(0)
        self._clips_rows = splines and coarse_axis == 0
        self._bounds = self._range_of_all(coarse_axis) if splines and coarse_axis != 0 else None
        self._kept_from = 0
        self._kept = np.empty((0, 0, 0), dtype=np.float32)

    def read(self, first: int, end: int) -> np.ndarray:
        """Rows [first, end) of the result; float32, contiguous."""
        if not self._along:
            rows = self._planes(first, end)
        elif self._orders[0] == 0:
            index = _nearest(self._shape[0], self._new_shape[0])[first:end]
            rows = self._planes(int(index[0]), int(index[-1]) + 1)[index - index[0]]
        else:
            all_weights = interpolation_weights(self._shape[0], self._new_shape[0], self._orders[0])
            weights = all_weights[first:end]
            begin = int(np.flatnonzero(all_weights[first:].any(axis=0))[0])  # what later rows need as well is kept
            stop = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
            rows = _weighted(weights[:, begin:stop], self._planes(begin, stop), axis=0)
        if self._bounds is not None:
            rows = np.clip(rows, *self._bounds)
        if self._last is not None:
            rows = _resize_axis(rows, self._last, self._new_shape[self._last], self._orders[self._last])
        rows = rows + self._offset  # a new array, since the rows may be those that are kept
        return np.ascontiguousarray(rows, dtype=np.float32)

    def _planes(self, first: int, end: int) -> np.ndarray:
        """Rows of the array, resized within their planes; those that the next call may need again are kept."""
        kept_end = self._kept_from + len(self._kept)
        if not self._kept_from <= first <= kept_end:
            self._kept_from, self._kept, kept_end = first, self._kept[:0], first
        parts = [self._kept[first - self._kept_from :]]
        if end > kept_end:
            parts.append(self._resized(self._source(kept_end, end) - self._offset))
        parts = [part for part in parts if len(part)]
        self._kept_from, self._kept = first, parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self._kept[: end - first]

    def _resized(self, rows: np.ndarray) -> np.ndarray:
        low, high = (rows.min((1, 2), keepdims=True), rows.max((1, 2), keepdims=True)) if self._clips_rows else (0, 0)
        for axis in self._in_plane:
            rows = _resize_axis(rows, axis, self._new_shape[axis], self._orders[axis])
        return np.clip(rows, low, high) if self._clips_rows else rows

    def _range_of_all(self, coarse_axis: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest value of the array, of each slice across a coarse axis."""
        axes = tuple(axis for axis in range(3) if axis != coarse_axis)
        low = high = None
        for k in range(self._shape[0]):
            row = self._source(k, k + 1) - self._offset
            least, greatest = row.min(axes, keepdims=True), row.max(axes, keepdims=True)
            low = least if low is None else np.minimum(low, least)
            high = greatest if high is None else np.maximum(high, greatest)
        assert low is not None and high is not None  # a volume has at least one slice
        return low, high


def resized_shape(
    shape: Sequence[int], spacing_mm: Sequence[float], wanted_mm: Sequence[float | None]
) -> tuple[int, int, int]:
    """How many voxels of the wanted size fill the same extent, rounded, at least one; None keeps an axis."""
    sizes = [
        size if wanted is None else max(1, round(spacing / wanted * size))  # in nnU-Net's order, for the same rounding
        for size, spacing, wanted in zip(shape, spacing_mm, wanted_mm, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def _resize_axis(array: np.ndarray, axis: int, size: int, order: int) -> np.ndarray:
    if order == 0:
        return np.take(array, _nearest(array.shape[axis], size), axis=axis)
    return _weighted(interpolation_weights(array.shape[axis], size, order), array, axis)


def _weighted(weights: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    """weights (new, old) times `array` along an axis.

    A new voxel takes its value from a small neighbourhood, so that most weights are zero: some new voxels at a time,
    and the stretch of old ones that they need, is 2 to 4 times faster than one large product.
    """
    shape = list(array.shape)
    shape[axis] = len(weights)
    result = np.empty(shape, dtype=np.float32)
    for first in range(0, len(weights), _ROWS_AT_ONCE):
        some = weights[first : first + _ROWS_AT_ONCE]
        needed = np.flatnonzero(some.any(axis=0))
        old, new = slice(needed[0], needed[-1] + 1), slice(first, first + len(some))
        some = some[:, old]
        if axis == 0:
            flat = array[old].reshape(old.stop - old.start, -1)
            np.matmul(some, flat, out=result[new].reshape(len(some), -1))
        elif axis == 1:
            np.matmul(some, array[:, old], out=result[:, new])
        else:
            np.matmul(array[:, :, old], some.T, out=result[:, :, new])
    return result


def _nearest(old: int, new: int) -> np.ndarray:
    return np.clip(np.floor(voxel_positions(old, new) + 0.5), 0, old - 1).astype(np.intp)
