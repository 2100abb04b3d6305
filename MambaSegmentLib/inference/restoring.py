"""From class scores that come slab by slab to labels on the grid of the input, one slice at a time.

The scores of the whole volume never exist: a slice is interpolated between the two rows of scores beside it, enlarged,
decided, and only its labels are kept. A slice's worth fits into a processor's cache, which is also why it is fast.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from MambaSegmentLib.errors import ShapeError
from MambaSegmentLib.label_maps import label_dtype, restore_labels
from MambaSegmentLib.memory import refuse_oversize
from MambaSegmentLib.preprocess import Undo
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.volume import Volume

Slabs = Iterable[tuple[int, torch.Tensor]]
# Way back, number of a slice of the crop, its scores (classes and extra, J, I) and its labels (J, I).
ScoreListener = Callable[[Undo, int, torch.Tensor, np.ndarray], None]


def restore_slabs(
    slabs: Slabs,
    undo: Undo,
    values: Sequence[int],
    *,
    overlapping: bool = False,
    extra: int = 0,
    cancel: CancelToken | None = None,
    listener: ScoreListener | None = None,
) -> Volume:
    """Take the best class of each voxel, on exactly the grid of the case's first volume.

    Args:
        slabs: first row and scores, float32 (classes, rows, J, I), of the prepared grid in order; class 0 is the
            background.
        values: label value of each class.
        overlapping: the classes are regions, as for `label_maps.restore_labels`.
        extra: how many arrays follow the scores of the classes and come back as they do, for the listener alone.
        listener: called for each slice of the crop, in order; may not keep what it gets.
    Returns:
        Labels; uint8, or uint16 where a value exceeds 255. 0 outside the crop.
    Raises:
        ShapeError: slabs that do not make up the prepared grid. Cancelled: on request.
    """
    if max(undo.scores.orders) > 1:  # a spline reaches over all rows, so they are needed at once
        whole = np.concatenate([slab.numpy() for _, slab in slabs], axis=1)
        restored = restore_labels(whole[: len(values)], undo, values, overlapping=overlapping, cancel=cancel)
        if listener is not None:
            _tell_of_whole(listener, whole, restored, undo, cancel)
        return restored
    shape = undo.crop_shape[1:]
    decide = PaintedRegions(values, shape) if overlapping else BestClass(values, shape)
    labels = np.zeros(undo.shape, dtype=decide.dtype)
    inside = undo.turn.apply(labels)[undo.crop_slices]  # a view: what is written there lands in its place
    with _one_thread_between(slabs) as slabs:
        for row, scores in rows_on_crop(slabs, undo, len(values) + extra):
            if cancel is not None:
                cancel.raise_if_cancelled()
            inside[row] = decide(scores[: len(values)])
            if listener is not None:
                listener(undo, row, scores, inside[row])
    return undo.grid(labels)


def rows_on_crop(slabs: Slabs, undo: Undo, classes: int) -> Iterable[tuple[int, torch.Tensor]]:
    """Each slice of the crop with its scores, float32 (classes, J, I); edge to edge, as `resampling.resize`.

    Raises:
        ShapeError: slabs that do not make up the prepared grid.
    """
    enlarge = _enlarger(undo.prepared_shape[1:], undo.crop_shape[1:], undo.scores.orders[1:])
    lower, fraction = _neighbours(undo.prepared_shape[0], undo.crop_shape[0], undo.scores.orders[0])
    upper = np.minimum(lower + 1, undo.prepared_shape[0] - 1)
    kept: dict[int, torch.Tensor] = {}  # rows of the prepared grid that a slice may still need
    row = 0
    for index, scores in _single_rows(slabs, undo.prepared_shape, classes):
        kept[index] = scores
        while row < len(lower) and (lower[row] if fraction[row] == 0 else upper[row]) <= index:
            below = kept[int(lower[row])]
            mixed = below if fraction[row] == 0 else torch.lerp(below, kept[int(upper[row])], float(fraction[row]))
            yield row, enlarge(mixed)
            row += 1
        oldest = lower[row] if row < len(lower) else index + 1
        for old in [key for key in kept if key < oldest]:
            del kept[old]


def _tell_of_whole(
    listener: ScoreListener, scores: np.ndarray, labels: Volume, undo: Undo, cancel: CancelToken | None
) -> None:
    """As `restore_slabs` tells, where a spline needs all rows: the scores of all classes are there at once."""
    refuse_oversize("all class scores, for uncertainty or probabilities,", 4 * len(scores) * math.prod(undo.crop_shape))
    resized = np.stack([undo.scores.resize(one_class, undo.crop_shape) for one_class in scores])
    inside = undo.turn.apply(labels.array)[undo.crop_slices]
    for row in range(undo.crop_shape[0]):
        if cancel is not None:
            cancel.raise_if_cancelled()
        listener(undo, row, torch.from_numpy(resized[:, row]), inside[row])


class BestClass:
    """Value of the class with the largest score, voxel by voxel; the first one on a tie.

    `torch.argmax` does the same but is many times slower across the first axis. The buffers serve one slice after
    another.
    """

    def __init__(self, values: Sequence[int], shape: Sequence[int]) -> None:
        self.dtype = label_dtype(max(values))
        self._values = np.asarray(values, dtype=self.dtype)
        self._highest = torch.empty(tuple(shape))
        self._better = torch.empty(tuple(shape), dtype=torch.bool)
        self._index = torch.empty(tuple(shape), dtype=torch.uint8 if len(values) <= 256 else torch.int32)

    def __call__(self, scores: torch.Tensor) -> np.ndarray:
        """(classes, J, I) -> (J, I)."""
        self._highest.copy_(scores[0])
        self._index.zero_()
        for number in range(1, len(scores)):
            torch.gt(scores[number], self._highest, out=self._better)
            # numbers grow, so the largest one that was ever better is the best: no masked copy is needed
            torch.maximum(self._index, self._better.to(self._index.dtype) * number, out=self._index)
            torch.maximum(self._highest, scores[number], out=self._highest)
        return self._values[self._index.numpy()]


class PaintedRegions:
    """Value of the last region whose logit is above zero, its probability above one half; 0 where there is none."""

    def __init__(self, values: Sequence[int], shape: Sequence[int]) -> None:
        self.dtype = label_dtype(max(values))
        self._values = values
        self._shape = tuple(shape)

    def __call__(self, scores: torch.Tensor) -> np.ndarray:
        """(regions, J, I) -> (J, I)."""
        labels = np.zeros(self._shape, dtype=self.dtype)
        for value, logit in zip(self._values, scores, strict=True):
            labels[(logit > 0).numpy()] = value
        return labels


@contextmanager
def _one_thread_between(slabs: Slabs) -> Iterator[Slabs]:
    """The same slabs; what is done between them runs on one thread of torch, what makes them on all.

    A slice is so little work that waking the other threads takes longer: up to ten times on a busy computer.
    """
    threads = torch.get_num_threads()

    def switched() -> Slabs:
        for slab in slabs:
            torch.set_num_threads(1)
            yield slab
            torch.set_num_threads(threads)

    try:
        yield switched()
    finally:
        torch.set_num_threads(threads)


def _single_rows(slabs: Slabs, shape: Sequence[int], classes: int) -> Iterable[tuple[int, torch.Tensor]]:
    expected = 0
    for first, slab in slabs:
        if first != expected or slab.shape[0] != classes or tuple(slab.shape[2:]) != tuple(shape[1:]):
            raise ShapeError(
                f"scores of shape {tuple(slab.shape)} from row {first} do not continue {classes} classes on "
                f"{tuple(shape)} at row {expected}"
            )
        for offset in range(slab.shape[1]):
            yield first + offset, slab[:, offset]
        expected += slab.shape[1]
    if expected != shape[0]:
        raise ShapeError(f"scores of {expected} rows came; {shape[0]} were expected")


def _enlarger(old: Sequence[int], new: Sequence[int], orders: Sequence[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Resizes (classes, *old) to (classes, *new): linear where the order is not 0, else the nearest voxel."""
    nearest = [axis for axis in range(2) if orders[axis] == 0 and old[axis] != new[axis]]
    indices = {axis: torch.from_numpy(_neighbours(old[axis], new[axis], 0)[0]) for axis in nearest}
    middle = [new[axis] if axis in nearest else old[axis] for axis in range(2)]

    def enlarge(scores: torch.Tensor) -> torch.Tensor:
        for axis, index in indices.items():
            scores = scores.index_select(axis + 1, index)
        if middle == list(new):
            return scores
        return F.interpolate(scores[None], size=tuple(new), mode="bilinear", align_corners=False)[0]

    return enlarge


def _neighbours(old: int, new: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """For each new voxel the old one at or before it, and how far it is on the way to the next, 0 to 1."""
    positions = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    if old == new or order == 0:
        return np.floor(positions + 0.5).astype(np.int64), np.zeros(new)
    lower = np.floor(positions).astype(np.int64)
    return lower, positions - lower
