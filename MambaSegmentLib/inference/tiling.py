"""Where tiles lie and how much each voxel of a tile counts. NumPy only.

Positions and weights are those of nnU-Net's sliding window, so that imported models predict what they did at home.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from MambaSegmentLib.errors import ConfigError

_SIGMA = 1 / 8  # of the patch edge, as in nnU-Net


def tile_starts(size: int, patch: int, step: float = 0.5) -> list[int]:
    """First voxels of the tiles along one axis: as few as cover it, evenly spread, at most step · patch apart.

    Args:
        size: voxels on this axis, at least `patch`.
        step: fraction of the patch, above 0 and at most 1.
    Raises:
        ConfigError: a patch larger than the axis, or a step out of range.
    """
    if not 0 < patch <= size:
        raise ConfigError(f"a patch of {patch} voxels does not fit into {size}; pad the volume first")
    if not 0 < step <= 1:
        raise ConfigError(f"step {step} must be a fraction of the patch, above 0 and at most 1")
    gaps = math.ceil((size - patch) / (patch * step))
    return [round(n * (size - patch) / gaps) for n in range(gaps + 1)] if gaps else [0]


def tile_corners(
    size: Sequence[int], patch: Sequence[int], step: float | Sequence[float] = 0.5
) -> list[tuple[int, ...]]:
    """First voxels of all tiles of a volume, with one step for all axes or one for each; the last axis runs fastest."""
    steps = [step] * len(size) if isinstance(step, int | float) else step
    return list(itertools.product(*(tile_starts(*axis) for axis in zip(size, patch, steps, strict=True))))


def gaussian_weights(patch: Sequence[int]) -> np.ndarray:
    """How much each voxel of a tile counts: 1 at voxel patch // 2, falling off as a Gaussian with sigma patch / 8.

    Returns:
        float32, shape `patch`, never zero.
    """
    product = np.ones((1,) * len(patch))
    for axis, size in enumerate(patch):
        shape = [1] * len(patch)
        shape[axis] = size
        product = product * gaussian_profile(size).reshape(shape)
    return product.astype(np.float32)


def gaussian_profile(size: int) -> np.ndarray:
    """One axis of `gaussian_weights`, which is the product of its axes; float64, shape (size,)."""
    distance = np.arange(size) - size // 2
    return np.exp(-0.5 * (distance / (size * _SIGMA)) ** 2)


def weight_sum(size: int, patch: int, step: float = 0.5) -> np.ndarray:
    """Sum of the weights of all tiles along one axis; float64, shape (size,).

    Tiles form a grid and their weights are products of axes, so the sum over the volume is the product of these.
    """
    total = np.zeros(size)
    for start in tile_starts(size, patch, step):
        total[start : start + patch] += gaussian_profile(patch)
    return total


def padding(size: Sequence[int], patch: Sequence[int]) -> list[tuple[int, int]]:
    """Voxels to add before and after each axis, so that one patch fits; the odd one comes after.

    Prepared volumes are padded with 0 (after normalisation), in training as in prediction, as nnU-Net does.
    """
    missing = [max(p - s, 0) for s, p in zip(size, patch, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]
