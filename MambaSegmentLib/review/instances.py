"""How many objects, such as cells or lesions, were found: F1 over matched instances.

A pair matches when its intersection over union reaches the threshold; from 0.5 on no object can match two others,
except at exactly 0.5, and the matching with the most pairs is taken. F1 = 2 TP / (2 TP + FP + FN).
Source: Caicedo et al. 2019, "Nucleus segmentation across imaging experiments", Nature Methods 16; the NeurIPS 2022 cell
segmentation challenge uses the threshold 0.5.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .measure import check_pair


@dataclass(frozen=True)
class InstanceMatch:
    """Objects that match, that are in the prediction alone, and that were missed."""

    matched: int
    spurious: int
    missed: int

    @property
    def f1(self) -> float | None:
        """None where neither side has an object."""
        total = 2 * self.matched + self.spurious + self.missed
        return 2 * self.matched / total if total else None


def match_instances(
    predicted: NDArray[np.integer], reference: NDArray[np.integer], iou_threshold: float = 0.5
) -> InstanceMatch:
    """Match the objects of two maps of instances.

    Args:
        predicted, reference: integers of one shape; each value above 0 is an object.
        iou_threshold: at least 0.5, below 1 or 1.
    Raises:
        ShapeError: the arrays differ in shape. ConfigError: a threshold below 0.5, where matches are ambiguous.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    check_pair(predicted, reference)
    if not 0.5 <= iou_threshold <= 1:
        raise ConfigError(f"the IoU threshold is {iou_threshold}; expected 0.5 to 1, where a match is unambiguous")
    sizes = [dict(zip(*np.unique(a[a > 0], return_counts=True), strict=True)) for a in (predicted, reference)]
    both = (predicted > 0) & (reference > 0)
    pairs, common = np.unique(np.stack([predicted[both], reference[both]]), axis=1, return_counts=True)
    union = np.array([sizes[0][p] + sizes[1][r] for p, r in pairs.T], float) - common
    good = common >= iou_threshold * union
    matched = 0
    if good.any():
        rows, columns = (np.unique(side[good], return_inverse=True) for side in pairs)
        matrix = np.zeros((len(rows[0]), len(columns[0])), bool)
        matrix[rows[1], columns[1]] = True
        chosen = linear_sum_assignment(matrix, maximize=True)
        matched = int(matrix[chosen].sum())
    return InstanceMatch(matched, len(sizes[0]) - matched, len(sizes[1]) - matched)


def match_pieces(
    predicted: NDArray[np.bool_], reference: NDArray[np.bool_], iou_threshold: float = 0.5
) -> InstanceMatch:
    """`match_instances` of the pieces of two masks; voxels that share a face belong to one piece."""
    from scipy import ndimage  # slow to import

    check_pair(predicted, reference)
    return match_instances(ndimage.label(predicted)[0], ndimage.label(reference)[0], iou_threshold)
