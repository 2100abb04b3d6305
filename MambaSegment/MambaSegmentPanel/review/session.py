"""The review of one segmentation node: statuses, decision, signature, files. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MambaSegmentLib.review.changes import LabelChange
from MambaSegmentLib.review.document import COMPLETED, FLAGGED, IN_PROGRESS, ReviewedSlices, utc_text

from .beginning import valueFor
from .clock import ReviewClock
from .edits import Edits, EditWatcher
from .layers import changeBetween, layerOf
from .prediction import predictionOf
from .rules import SignOff, nextSegment, statusAfterEdit, whyNotSignedOff
from .state import Predicted, Saved, stateOf
from .statuses import setStatus, statusOf

if TYPE_CHECKING:
    from MambaSegmentLib.review.saving import ReviewFiles

REVIEWER_TAG = "MambaSegment.Reviewer"
_SAME_PLACE_MM = 1e-6


class ReviewSession:
    """Follows a segmentation node that is under review until `close`; what it knows lies in the node.

    Args:
        onChanged: called when something that is shown was changed, by an edit too.
        onWithdrawn: called when an edit took the signature back.
    Raises:
        ValueError: the node is not under review.
    """

    def __init__(
        self,
        segmentationNode: Any,
        onChanged: Callable[[], None] = lambda: None,
        onWithdrawn: Callable[[], None] = lambda: None,
        clock: ReviewClock | None = None,
    ) -> None:
        state = stateOf(segmentationNode)
        if state is None:
            raise ValueError(f"{segmentationNode.GetName()} is not under review")
        self.node = segmentationNode
        self.state = state
        self.clock = clock or ReviewClock()
        self._onChanged = onChanged
        self._onWithdrawn = onWithdrawn
        self._joining: frozenset[str] = frozenset()
        self._shown = self._whatIsShown()
        self._watcher = EditWatcher(segmentationNode, self._onEdits, self._onShown)

    def close(self, joining: Iterable[str] = ()) -> None:
        """Stop following; the node keeps everything.

        Args:
            joining: ids of segments that a run has just added, which are no edit of the reviewer.
        """
        self._joining = frozenset(joining)
        if self.node.GetScene() is not None:
            self.look()
        self._onChanged = lambda: None
        self._watcher.close()
        self.clock.pause()
        self._store()

    # --- segments

    def names(self) -> dict[str, str]:
        """Id → name, in the order of the segmentation."""
        segmentation = self.node.GetSegmentation()
        return {each: segmentation.GetSegment(each).GetName() for each in segmentation.GetSegmentIDs()}

    def statuses(self) -> dict[str, str]:
        segmentation = self.node.GetSegmentation()
        return {each: statusOf(segmentation.GetSegment(each)) for each in segmentation.GetSegmentIDs()}

    def complete(self, identifier: str) -> str:
        """Mark a segment as done; returns the one to look at next."""
        self._setStatus(identifier, COMPLETED)
        return nextSegment(self.statuses(), identifier)

    def toggleFlag(self, identifier: str) -> None:
        """A flag that is taken away leaves a segment in progress."""
        isFlagged = self.statuses().get(identifier) == FLAGGED
        self._setStatus(identifier, IN_PROGRESS if isFlagged else FLAGGED)

    def look(self) -> None:
        """Take notice of edits now, before something depends on them."""
        self._watcher.look()

    def changeOf(self, identifier: str) -> LabelChange | None:
        """How a segment differs from the model's; None where that cannot be told."""
        prediction = predictionOf(self.node)
        before = None if prediction is None else layerOf(prediction, identifier)
        after = layerOf(self.node, identifier)
        if before is None or after is None or abs(before.ijkToWorld - after.ijkToWorld).max() > _SAME_PLACE_MM:
            return None
        return changeBetween(before, after, identifier)

    # --- decision

    @property
    def isSignedOff(self) -> bool:
        return bool(self.state.signedOffBy)

    def decide(self, decision: str | None) -> None:
        self._change(decision=decision)

    def comment(self, text: str) -> None:
        self._change(comment=text)

    def setSlices(self, slices: ReviewedSlices | None) -> None:
        self._change(slices=slices)

    def setCase(self, case: str) -> None:
        self._change(case=case)

    def whyNotSignedOff(self, reviewer: str, changed: tuple[str, ...] | None = None) -> str:
        """What stands against a signature, in words; empty where nothing does.

        Args:
            changed: names of the segments that differ from the model's, see `files.changedNames`; None leaves that out,
                since it takes a moment to find out.
        """
        names, statuses = self.names(), self.statuses()
        listed = [(names[each], status) for each, status in statuses.items()]
        return whyNotSignedOff(SignOff(self.state.decision, reviewer, listed, changed))

    def signOff(self, reviewer: str) -> None:
        """Sign; whether that is allowed was asked before."""
        for identifier in self.names():
            self.node.GetSegmentation().GetSegment(identifier).SetTag(REVIEWER_TAG, _inTag(reviewer))
        self._change(signedOffBy=reviewer.strip())

    def withdraw(self) -> None:
        for identifier in self.names():
            self.node.GetSegmentation().GetSegment(identifier).RemoveTag(REVIEWER_TAG)
        self._change(signedOffBy="")

    # --- files

    def isOwn(self, files: ReviewFiles) -> bool:
        """Whether what lies there is what this review saved, untouched since."""
        saved = self.state.saved
        return (
            saved is not None
            and (Path(saved.folder), saved.case) == (files.folder, files.case)
            and files.document_sha256() == saved.document_sha256
        )

    def noteSaved(self, files: ReviewFiles, now: datetime | None = None) -> None:
        sha256 = files.document_sha256() or ""
        saved = Saved(str(files.folder), files.case, sha256, utc_text(now or datetime.now(UTC)))
        self.state = replace(self.state, saved=saved, case=files.case, isUnsaved=False)
        self._store()
        self._onChanged()

    def review_s(self) -> float:
        """Seconds of work so far."""
        self.state.review_s += self.clock.take_s()
        return self.state.review_s

    # --- what others do to the node

    def _onEdits(self, edits: Edits) -> None:
        self.clock.touch()
        before = {identifier: status for identifier, _name, status in self._shown}
        segmentation = self.node.GetSegmentation()
        added = edits.added - self._joining
        for identifier in edits.changed | added:
            segment = segmentation.GetSegment(identifier)
            setStatus(segment, statusAfterEdit(before.get(identifier, IN_PROGRESS), statusOf(segment)))
        predicted = dict(self.state.predicted)
        for identifier in sorted(added - predicted.keys()):
            segment = segmentation.GetSegment(identifier)
            taken = {entry.value for entry in predicted.values()}
            value = valueFor(int(segment.GetLabelValue()), taken)
            predicted[identifier] = Predicted(value, segment.GetName() or identifier, 0.0)
        wasSignedOff = self.isSignedOff
        self.state = replace(self.state, predicted=predicted, isUnsaved=True)
        if wasSignedOff:
            self.withdraw()
            self._onWithdrawn()
        self._store()

    def _onShown(self) -> None:
        shown = self._whatIsShown()
        if shown != self._shown:
            self._shown = shown
            self.clock.touch()
            self.state.isUnsaved = True
            if self.isSignedOff and any(status == FLAGGED for _id, _name, status in shown):
                self.withdraw()
                self._onWithdrawn()
            self._store()
        self._onChanged()

    def _whatIsShown(self) -> list[tuple[str, str, str]]:
        names, statuses = self.names(), self.statuses()
        return [(each, names[each], statuses[each]) for each in names]

    def _setStatus(self, identifier: str, status: str) -> None:
        self.look()  # an edit of a moment ago comes before the word about it
        segment = self.node.GetSegmentation().GetSegment(identifier)
        if segment is not None:
            setStatus(segment, status)
        self.look()

    def _change(self, **changes: Any) -> None:
        changed: Mapping[str, Any] = {key: value for key, value in changes.items() if getattr(self.state, key) != value}
        if changed:
            self.clock.touch()
            self.state = replace(self.state, **changed, isUnsaved=True)
            self._store()
            self._onChanged()

    def _store(self) -> None:
        self.review_s()
        self.state.store(self.node)


def _inTag(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
