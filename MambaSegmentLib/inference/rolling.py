"""Blends overlapping tiles along the first axis, keeping only the rows that a later tile can still change.

Tiles come ordered by their first row, so the rows before the next tile's are final: memory is that of one patch's
height, whatever the number of slices.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .feeding import FetchedRows
from .tiling import gaussian_weights, weight_sum


class RollingBlend:
    """Weighted mean of the answers of all tiles, handed out row by row.

    Args:
        classes: channels of an answer.
        size: voxels (K, J, I) that the tiles cover.
        patch: voxels of a tile.
        steps: distance of tiles along each axis as a fraction of the patch.
        device: where rows are kept; tiles may come from another one.
        rows: that are kept, from the first one that is not final; None is those of one tile.
    """

    def __init__(
        self,
        classes: int,
        size: Sequence[int],
        patch: Sequence[int],
        steps: Sequence[float],
        device: torch.device,
        rows: int | None = None,
    ) -> None:
        self._patch, self._height = tuple(patch), rows or patch[0]
        self._rows = torch.zeros((classes, self._height, *size[1:]), device=device)
        self._first = 0  # row of the volume that row 0 of `_rows` is
        self._single = tuple(size) == self._patch
        self._weights = torch.from_numpy(gaussian_weights(patch)).to(device)
        self._k_sum, j_sum, i_sum = (weight_sum(*axis) for axis in zip(size, patch, steps, strict=True))
        self._plane_sum = np.outer(j_sum, i_sum)

    def add(self, corner: Sequence[int], logits: torch.Tensor) -> None:
        """Add a tile whose first row is not before those handed out; logits (classes, *patch)."""
        k = corner[0] - self._first
        logits = logits.to(self._rows.device)
        place = (slice(None), *(slice(c, c + p) for c, p in zip((k, *corner[1:]), self._patch, strict=True)))
        if self._single:
            self._rows[place] = logits  # no weights, so that nothing is rounded
        else:
            self._rows[place].addcmul_(logits, self._weights)  # no array between

    def close_before(self, row: int) -> FetchedRows:
        """The rows that are final now that no tile begins before `row`; (classes, rows, J, I), on the CPU."""
        count, first = row - self._first, self._first

        def divide(final: torch.Tensor) -> None:
            for n in range(count):  # a row at a time, so that no array of the slab's size is needed
                total = (self._k_sum[first + n] * self._plane_sum).astype(np.float32)
                final[:, n] /= torch.from_numpy(total)

        closed = FetchedRows(self._rows[:, :count], _leave if self._single else divide)
        kept = self._height - count
        for n in range(kept):  # forwards, so that nothing is overwritten before it was moved
            self._rows[:, n] = self._rows[:, n + count]
        self._rows[:, kept:] = 0
        self._first = row
        return closed


def _leave(_: torch.Tensor) -> None:
    """Nothing is to be done."""
