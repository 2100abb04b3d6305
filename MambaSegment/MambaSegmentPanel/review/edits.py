"""Which segments somebody changed, told by their voxels.

Slicer's events do not tell: those that share a label map are all announced, an undo announces none in particular, and
painting over a neighbour changes two. So a copy of the label maps is kept and compared, plane by plane, once the events
of an action have come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import qt
import slicer

from .layers import layersOf

_SETTLE_MS = 250  # an action announces itself several times
_EVENTS = ("SourceRepresentationModified", "SegmentModified", "SegmentAdded", "SegmentRemoved")


@dataclass(frozen=True)
class Edits:
    """Ids of segments whose voxels changed, that came and that went; `isAny` where there are some."""

    changed: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()

    @property
    def isAny(self) -> bool:
        return bool(self.changed or self.added or self.removed)


@dataclass
class _Copy:
    """A label map as it was. `mark`: tells without looking at voxels that it is still the same."""

    labels: dict[str, int]
    start: tuple[int, int, int]
    array: np.ndarray
    mark: tuple[Any, ...]


class EditWatcher:
    """Watches a segmentation node until `close`.

    Args:
        onEdits: called some time after an action, with what it changed.
        onShown: called some time after anything, names and colours too, was changed.
    """

    def __init__(
        self, segmentationNode: Any, onEdits: Callable[[Edits], None], onShown: Callable[[], None] = lambda: None
    ) -> None:
        self._node = segmentationNode
        self._onEdits = onEdits
        self._onShown = onShown
        self._copies = _copiesOf(segmentationNode, [])
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.interval = _SETTLE_MS
        self._timer.connect("timeout()", self.look)
        self._tags = [
            segmentationNode.AddObserver(getattr(slicer.vtkSegmentation, event), self._onEvent) for event in _EVENTS
        ]

    def close(self) -> None:
        self._timer.stop()
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        self._tags, self._copies = [], []

    def look(self) -> None:
        """Compare now, rather than once things have settled."""
        self._timer.stop()
        copies = _copiesOf(self._node, self._copies)
        edits = _difference(self._copies, copies)
        self._copies = copies
        if edits.isAny:
            self._onEdits(edits)
        self._onShown()

    def _onEvent(self, _caller: Any, _event: Any) -> None:
        self._timer.start()


def _copiesOf(segmentationNode: Any, known: list[_Copy]) -> list[_Copy]:
    """Copies of all label maps; those of `known` that are still the same are taken again."""
    copies = []
    for layer in layersOf(segmentationNode):
        scalars = layer.image.GetPointData().GetScalars()
        mark = (layer.image, layer.image.GetMTime(), 0 if scalars is None else scalars.GetMTime(), layer.start)
        same = next((copy.array for copy in known if copy.mark == mark), None)
        copies.append(_Copy(layer.labels, layer.start, layer.array.copy() if same is None else same, mark))
    return copies


def _difference(before: list[_Copy], after: list[_Copy]) -> Edits:
    old = {identifier: copy for copy in before for identifier in copy.labels}
    new = {identifier: copy for copy in after for identifier in copy.labels}
    pairs: dict[tuple[int, int], list[str]] = {}
    for identifier in old.keys() & new.keys():
        pairs.setdefault((before.index(old[identifier]), after.index(new[identifier])), []).append(identifier)
    changed: set[str] = set()
    for (one, other), identifiers in pairs.items():
        changed |= _changedBetween(before[one], after[other], identifiers)
    return Edits(frozenset(changed), frozenset(new.keys() - old.keys()), frozenset(old.keys() - new.keys()))


def _changedBetween(before: _Copy, after: _Copy, identifiers: list[str]) -> set[str]:
    """Those of the segments whose voxels differ."""
    if before.array is after.array and all(before.labels[each] == after.labels[each] for each in identifiers):
        return set()
    kept = [each for each in identifiers if before.labels[each] == after.labels[each]]
    renumbered = [each for each in identifiers if each not in kept]
    gone, come = _labelsThatDiffer(before, after)
    changed = {each for each in kept if before.labels[each] in gone | come}
    return changed | {each for each in renumbered if _isMoved(before, after, each)}


def _labelsThatDiffer(before: _Copy, after: _Copy) -> tuple[set[int], set[int]]:
    """Labels of the voxels that differ, before and after."""
    gone, come = set(), set()
    for one, other in zip(*_onCommonBox(before, after), strict=True):
        if not np.array_equal(one, other):
            differing = one != other
            gone.update(np.unique(one[differing]).tolist())
            come.update(np.unique(other[differing]).tolist())
    return gone - {0}, come - {0}


def _isMoved(before: _Copy, after: _Copy, identifier: str) -> bool:
    one, other = _onCommonBox(before, after)
    return not np.array_equal(one == before.labels[identifier], other == after.labels[identifier])


def _onCommonBox(before: _Copy, after: _Copy) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, padded to the box around both where their boxes differ."""
    if before.start == after.start and before.array.shape == after.array.shape:
        return before.array, after.array
    both = [copy for copy in (before, after) if copy.array.size]
    if not both:
        return before.array, before.array
    start = np.min([copy.start for copy in both], axis=0)
    end = np.max([np.add(copy.start, copy.array.shape) for copy in both], axis=0)
    return _padded(before, start, end), _padded(after, start, end)


def _padded(copy: _Copy, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    padded = np.zeros(end - start, copy.array.dtype)
    if copy.array.size:
        begin = np.subtract(copy.start, start)
        where = tuple(slice(first, first + size) for first, size in zip(begin, copy.array.shape, strict=True))
        padded[where] = copy.array
    return padded
