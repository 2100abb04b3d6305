"""Right and wrong voxels of a structure, and the ratios that are made of them.

A ratio whose denominator is 0 does not exist and is None: the precision where nothing was predicted, the sensitivity
where there is nothing to find, the Dice of two empty masks. Formulas: Maier-Hein et al. 2024, "Metrics reloaded:
recommendations for image analysis validation", Nature Methods 21.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..segments import LARGEST_LABEL
from .measure import check_integers, check_pair
from .structures import Structure

_SLAB_VOXELS = 4_000_000  # what is looked at in one go, so that a large volume needs no large copies


@dataclass(frozen=True)
class Confusion:
    """How many voxels are true and false positives and negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def predicted(self) -> int:
        return self.tp + self.fp

    @property
    def reference(self) -> int:
        return self.tp + self.fn

    @property
    def dice(self) -> float | None:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float | None:
        """Intersection over union, the Jaccard index."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float | None:
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def precision(self) -> float | None:
        """The positive predictive value."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def sensitivity(self) -> float | None:
        """The recall, or true positive rate."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """The true negative rate."""
        return _ratio(self.tn, self.tn + self.fp)


@dataclass(frozen=True)
class ConfusionMatrix:
    """Voxels by reference and predicted value.

    Attributes:
        values: those that occur, ascending. counts: int64 (reference, predicted), in the order of `values`.
    """

    values: tuple[int, ...]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float | None:
        """Voxels, background among them, whose label is right."""
        return _ratio(int(np.trace(self.counts)), int(self.counts.sum()))

    def of(self, structure: Structure) -> Confusion:
        """The structure against everything else."""
        inside = np.isin(self.values, structure.values)
        tp = int(self.counts[np.ix_(inside, inside)].sum())
        fp = int(self.counts[np.ix_(~inside, inside)].sum())
        fn = int(self.counts[np.ix_(inside, ~inside)].sum())
        return Confusion(tp, fp, fn, int(self.counts.sum()) - tp - fp - fn)


def confusion_matrix(
    predicted: NDArray[np.integer], reference: NDArray[np.integer], ignore_label: int | None = None
) -> ConfusionMatrix:
    """Count each pair of values.

    Args:
        predicted, reference: labels 0..65535 of one shape, on the same voxel grid.
        ignore_label: voxels that have it in the reference are not counted at all.
    Raises:
        ShapeError: the arrays differ in shape, or hold anything else than such labels.
    """
    check_pair(predicted, reference)
    slabs = _slabs(reference.shape)
    values = sorted(set().union(*(_values(array[slab]) for array in (predicted, reference) for slab in slabs)))
    number = np.zeros(LARGEST_LABEL + 1, np.int64)
    number[values] = np.arange(len(values))
    counts = np.zeros(len(values) ** 2, np.int64)
    for slab in slabs:
        pairs = number[reference[slab]] * len(values) + number[predicted[slab]]
        if ignore_label is not None:
            pairs = pairs[reference[slab] != ignore_label]
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    return ConfusionMatrix(tuple(values), counts.reshape(len(values), len(values)))


def _values(labels: NDArray[np.integer]) -> set[int]:
    check_integers(labels)
    if labels.size and (int(labels.min()) < 0 or int(labels.max()) > LARGEST_LABEL):
        raise ShapeError(f"labels reach from {labels.min()} to {labels.max()}; expected 0 to {LARGEST_LABEL}")
    seen = np.zeros(LARGEST_LABEL + 1, bool)
    seen[labels.astype(np.uint16, copy=False)] = True
    return {int(value) for value in np.flatnonzero(seen)}


def _slabs(shape: Sequence[int]) -> list[slice]:
    """Along the first axis."""
    per_row = max(1, int(np.prod(shape[1:])))
    rows = max(1, _SLAB_VOXELS // per_row)
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
