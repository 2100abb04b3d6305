"""The sessions of all segmentations that were looked at: each goes on watching, so that no edit is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .prediction import predictionOf, removePrediction
from .session import ReviewSession
from .state import stateOf


class OpenReviews:
    """Args: as those of `ReviewSession`."""

    def __init__(self, onChanged: Callable[[], None], onWithdrawn: Callable[[], None]) -> None:
        self._onChanged = onChanged
        self._onWithdrawn = onWithdrawn
        self._sessions: dict[str, ReviewSession] = {}
        self._predictions: dict[str, Any] = {}

    def of(self, segmentationNode: Any) -> ReviewSession | None:
        """The session of a node; None for no node, and for one that is not under review."""
        if segmentationNode is None:
            return None
        identifier = segmentationNode.GetID()
        if identifier not in self._sessions:
            if stateOf(segmentationNode) is None:
                return None
            self._sessions[identifier] = ReviewSession(segmentationNode, self._onChanged, self._onWithdrawn)
            self._predictions[identifier] = predictionOf(segmentationNode)
        return self._sessions[identifier]

    def sessions(self) -> list[ReviewSession]:
        return list(self._sessions.values())

    def drop(self, session: ReviewSession, joining: Iterable[str] = ()) -> None:
        """Stop following a node; its review stays in it. `joining`: as for `ReviewSession.close`."""
        for identifier, each in list(self._sessions.items()):
            if each is session:
                del self._sessions[identifier], self._predictions[identifier]
                session.close(joining)

    def takeGone(self, scene: Any) -> list[ReviewSession]:
        """Sessions whose node left the scene: they are forgotten, and the model's results removed as well."""
        gone = {each: session for each, session in self._sessions.items() if not scene.IsNodePresent(session.node)}
        for identifier, session in gone.items():
            prediction = self._predictions[identifier]
            self.drop(session)
            removePrediction(prediction)
        return list(gone.values())

    def pause(self) -> None:
        for session in self._sessions.values():
            session.clock.pause()
