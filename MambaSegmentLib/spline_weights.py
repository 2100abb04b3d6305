"""Weights of the old voxels in each new one, when an axis is resized by spline interpolation.

A spline through samples f is a sum of B-splines whose coefficients come from f by a filter. The filter's impulse
response fades as z^|n|, so the whole is a sum of samples, each with a weight that depends on its distance alone: the
cardinal spline (Unser M., Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine
1999). The numbers are those of `scipy.ndimage.map_coordinates` with `mode="nearest"`, whose import alone takes longer
than resizing an image of usual size.
"""

from functools import lru_cache

import numpy as np

from .errors import ConfigError

_NO_WEIGHT = 1e-7
_REACH = 24  # samples on either side; z^24 is below what a double adds to a sum of order one


@lru_cache(maxsize=32)
def interpolation_weights(old: int, new: int, order: int) -> np.ndarray:
    """How an axis of `old` voxels becomes one of `new`, edge to edge, the outermost voxels repeated beyond the edges.

    Args:
        order: of the spline: 1 linear, 2, 3 cubic.
    Returns:
        float32 (new, old), read-only: row n weighs the old voxels that make new voxel n; each row sums to one.
    Raises:
        ConfigError: another order.
    """
    if order not in (1, 2, 3):
        raise ConfigError(f"resampling order {order} is not known; expected 0, 1, 2 or 3")
    positions = voxel_positions(old, new)
    weights = np.zeros((new, old))
    rows = np.arange(new)
    for node, value in _b_splines(positions, order):
        for distance, coefficient in _impulse_response(order):
            np.add.at(weights, (rows, np.clip(node + distance, 0, old - 1)), value * coefficient)
    # What is left out is below what float32 can add to a sum; some 12 voxels of a cubic spline remain on either side.
    # Rows without denormal numbers are also many times faster.
    weights = np.where(np.abs(weights) < _NO_WEIGHT, 0, weights).astype(np.float32)
    weights.setflags(write=False)  # shared by all callers through the cache
    return weights


def voxel_positions(old: int, new: int) -> np.ndarray:
    """Where the centres of `new` voxels lie among `old` ones that fill the same extent, in old voxels."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def _b_splines(positions: np.ndarray, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each position the samples whose B-spline reaches it, and its value there."""
    if order == 2:
        nearest = np.floor(positions + 0.5).astype(np.intp)
        x = positions - nearest
        values = [(0.5 - x) ** 2 / 2, 0.75 - x**2, (0.5 + x) ** 2 / 2]
        return [(nearest + step, value) for step, value in zip((-1, 0, 1), values, strict=True)]
    lower = np.floor(positions).astype(np.intp)
    x = positions - lower
    if order == 1:
        return [(lower, 1 - x), (lower + 1, x)]
    values = [(1 - x) ** 3 / 6, 2 / 3 - x**2 * (2 - x) / 2, 2 / 3 - (1 - x) ** 2 * (1 + x) / 2, x**3 / 6]
    return [(lower + step, value) for step, value in zip((-1, 0, 1, 2), values, strict=True)]


def _impulse_response(order: int) -> list[tuple[int, float]]:
    """Distance and weight of the samples that make a coefficient: the inverse of sampling the B-spline."""
    if order == 1:
        return [(0, 1.0)]
    pole, scale = (np.sqrt(3) - 2, 6.0) if order == 3 else (2 * np.sqrt(2) - 3, 8.0)
    centre = -scale * pole / (1 - pole**2)
    return [(distance, centre * pole ** abs(distance)) for distance in range(-_REACH, _REACH + 1)]
