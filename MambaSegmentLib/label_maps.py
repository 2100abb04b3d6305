"""Label maps: onto the grid of a prepared case for training, and from class scores back to the grid of the input."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .errors import GeometryError, ImageError, ShapeError
from .preprocess import Prepared, Undo
from .progress import CancelToken
from .volume import Volume, grid_difference

_LARGEST_LABEL = 65535


def preprocess_labels(labels: Volume, like: Prepared) -> np.ndarray:
    """Bring a label map onto the grid of a prepared case, for training.

    Where the case was resampled, each label is resampled by itself and the largest wins (the smallest value on a tie).

    Args:
        labels: whole numbers 0..65535 of any dtype, on the grid of the case's first volume.
    Returns:
        (K, J, I) of the prepared array; uint8, or uint16 where a value exceeds 255.
    Raises:
        GeometryError: the labels lie on another grid. ImageError: values that are no labels.
    """
    undo = like.undo
    problem = grid_difference(undo.grid(np.broadcast_to(np.uint8(0), undo.shape)), labels)
    if problem:
        raise GeometryError(f"the labels do not lie on the grid of their image: {problem}")
    cropped = undo.turn.apply(_whole_numbers(labels.array))[undo.crop_slices]
    if undo.crop_shape == undo.prepared_shape:
        return np.ascontiguousarray(cropped)
    values = np.unique(cropped)
    scores = (undo.labels.resize((cropped == value).astype(np.float32), undo.prepared_shape) for value in values)
    return values[_best(scores, undo.prepared_shape, None)]


def restore_labels(
    scores: np.ndarray,
    undo: Undo,
    values: Sequence[int] | None = None,
    *,
    overlapping: bool = False,
    cancel: CancelToken | None = None,
) -> Volume:
    """Take the best class of each voxel, on exactly the grid of the case's first volume.

    One class at a time is resampled and compared, so the memory needed does not grow with the number of classes.

    Args:
        scores: float32 (classes, *prepared shape), logits or probabilities; class 0 is the background.
        values: label value of each class; class n has value n where None.
        overlapping: the classes are regions that may overlap, none of them the background: `scores` are their logits,
            and each region with a probability above one half is painted over those before it, as nnU-Net does.
    Returns:
        Labels; uint8, or uint16 where a value exceeds 255. 0 outside the crop.
    Raises:
        ShapeError: scores of another shape. Cancelled: on request.
    """
    values = range(len(scores)) if values is None else values
    if scores.shape != (len(values), *undo.prepared_shape):
        raise ShapeError(f"scores of shape {scores.shape} do not fit {len(values)} classes on {undo.prepared_shape}")
    resized = (undo.scores.resize(one_class, undo.crop_shape) for one_class in scores)
    if overlapping:
        labels = _painted(resized, values, undo.crop_shape, cancel)
    else:
        labels = np.asarray(values, dtype=label_dtype(max(values)))[_best(resized, undo.crop_shape, cancel)]
    turned = np.zeros([undo.shape[axis] for axis in undo.turn.axes], dtype=labels.dtype)
    turned[undo.crop_slices] = labels
    return undo.grid(np.ascontiguousarray(undo.turn.undo(turned)))


def _best(scores: Any, shape: Sequence[int], cancel: CancelToken | None) -> np.ndarray:
    """Index of the largest of the arrays that `scores` yields, voxel by voxel; the first one on a tie, NaN never."""
    best = np.zeros(shape, dtype=np.uint16)
    highest: np.ndarray | None = None
    for index, score in enumerate(scores):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if highest is None:
            highest = np.fmax(score, np.float32(-np.inf))
            continue
        for of_best, of_highest, of_score in zip(best, highest, score, strict=True):  # a plane fits into the cache
            better = of_score > of_highest
            np.maximum(of_best, better * np.uint16(index), out=of_best)  # a later index is a larger one
            np.fmax(of_highest, of_score, out=of_highest)
    return best


def _painted(
    logits: Iterable[np.ndarray], values: Sequence[int], shape: Sequence[int], cancel: CancelToken | None
) -> np.ndarray:
    """Each region's value where its probability exceeds one half, that is where its logit exceeds zero."""
    labels = np.zeros(shape, dtype=label_dtype(max(values)))
    for value, logit in zip(values, logits, strict=True):
        if cancel is not None:
            cancel.raise_if_cancelled()
        labels[logit > 0] = value
    return labels


def _whole_numbers(array: np.ndarray) -> np.ndarray:
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= _LARGEST_LABEL):  # so that NaN is refused as well
        raise ImageError(f"the labels range from {low} to {high}; expected whole numbers from 0 to {_LARGEST_LABEL}")
    whole = array.astype(label_dtype(int(high)))
    if not np.array_equal(whole, array):
        raise ImageError("the labels hold fractions; expected whole numbers. Was an image given in place of labels?")
    return whole


def label_dtype(largest: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest dtype of label maps that holds `largest`."""
    return np.uint8 if largest <= 255 else np.uint16
