"""Overlap, voxel counts and volumes of labelled arrays.

Everything takes plain arrays, so that a training report and the panel agree on a number. A quantity that does not
exist, such as the overlap of two empty masks, is None: 0 or 1 would be averaged in.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from MambaSegmentLib.errors import GeometryError, ShapeError

MM3_PER_ML = 1000.0


def dice(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float | None:
    """Twice the common voxels over the sum of both masks' voxels.

    Args:
        predicted, reference: bool, of one shape, on the same voxel grid.
    Returns:
        0 (apart) to 1 (the same); None when both masks are empty.
    Raises:
        ShapeError: the masks differ in shape or are not bool.
    """
    check_pair(predicted, reference)
    for mask in (predicted, reference):
        if mask.dtype != np.bool_:
            raise ShapeError(f"masks must be bool, but are {mask.dtype}; compare labels with `labels == value`")
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(reference))
    return None if total == 0 else 2 * int(np.count_nonzero(predicted & reference)) / total


def dice_per_label(
    predicted: NDArray[np.integer], reference: NDArray[np.integer], values: Iterable[int] | None = None
) -> dict[int, float | None]:
    """Dice of each label.

    Args:
        predicted, reference: integer labels of one shape, on the same voxel grid; 0 is the background.
        values: the labels to compare; None means all of either array but 0, in ascending order.
    Returns:
        {label: Dice}; None for a label that neither array holds.
    Raises:
        ShapeError: the arrays differ in shape or do not hold integers.
    """
    check_pair(predicted, reference)
    in_predicted, in_reference = voxel_counts(predicted), voxel_counts(reference)
    same = voxel_counts(predicted[predicted == reference])
    if values is None:
        values = sorted(in_predicted.keys() | in_reference.keys())
    result: dict[int, float | None] = {}
    for value in values:
        total = in_predicted.get(value, 0) + in_reference.get(value, 0)
        result[value] = None if total == 0 else 2 * same.get(value, 0) / total
    return result


def voxel_counts(labels: NDArray[np.integer], values: Iterable[int] | None = None) -> dict[int, int]:
    """How many voxels each label has.

    Args:
        labels: integers of any shape; 0 is the background.
        values: the labels to count, 0 where absent; None means all that occur but 0, in ascending order.
    Raises:
        ShapeError: the array does not hold integers.
    """
    check_integers(labels)
    found = {int(value): int(count) for value, count in zip(*np.unique(labels, return_counts=True), strict=True)}
    if values is None:
        return {value: count for value, count in found.items() if value != 0}
    return {value: found.get(value, 0) for value in values}


def volumes_ml(
    labels: NDArray[np.integer], spacing_mm: Sequence[float], values: Iterable[int] | None = None
) -> dict[int, float]:
    """The volume of each label, in millilitres: voxels times the volume of one.

    Args:
        labels: integers, shape (K, J, I); 0 is the background.
        spacing_mm: the three edge lengths of a voxel, in any order.
        values: as for `voxel_counts`.
    Raises:
        ShapeError: the array does not hold integers or is not 3-D.
        GeometryError: a spacing that no voxel can have.
    """
    if labels.ndim != 3:
        raise ShapeError(f"labels must be of shape (K, J, I) to have a volume, but are {labels.shape}")
    voxel_ml = voxel_volume_ml(spacing_mm)
    return {value: count * voxel_ml for value, count in voxel_counts(labels, values).items()}


def voxel_volume_ml(spacing_mm: Sequence[float]) -> float:
    """The volume of one voxel, in millilitres.

    Args:
        spacing_mm: its three edge lengths, in any order.
    Raises:
        GeometryError: not three finite numbers above 0.
    """
    return float(np.prod(check_spacing(spacing_mm))) / MM3_PER_ML


def check_spacing(spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    """The same three lengths.

    Raises:
        GeometryError: not three finite numbers above 0.
    """
    spacing = np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise GeometryError(f"spacing_mm must be three lengths above 0 in millimetres, but is {tuple(spacing_mm)}")
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def check_pair(predicted: NDArray[np.generic], reference: NDArray[np.generic]) -> None:
    """Raises: ShapeError, when the arrays differ in shape."""
    if predicted.shape != reference.shape:
        raise ShapeError(
            f"predicted {predicted.shape} and reference {reference.shape} differ in shape; "
            "resample one to the other's grid"
        )


def check_integers(labels: NDArray[np.generic]) -> None:
    """Raises: ShapeError, when the array does not hold integers."""
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.bool_:
        raise ShapeError(f"labels must be integers, but are {labels.dtype}; round and convert them first")
