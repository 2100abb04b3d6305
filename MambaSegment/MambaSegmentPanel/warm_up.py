"""Lets the worker load the model before the first click, once all is chosen."""

from __future__ import annotations

import logging
from typing import Any

import qt

from MambaSegmentLib.errors import MambaSegmentError

_log = logging.getLogger("MambaSegment")
_WAIT_MS = 700  # nothing is started for a module that is only passed by, or a list that is walked through


class WarmUp:
    """Args:
    logic: a MambaSegmentLogic.
    """

    def __init__(self, logic: Any) -> None:
        self.logic = logic
        self._wanted: tuple[str, str, str] | None = None
        self._done: tuple[str, str, str] | None = None
        self._timer: Any = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._begin)

    def want(self, model: str | None, device: str, quality: str) -> None:
        """This model, device and quality are what a click would use; None: there is nothing to warm up."""
        wanted = None if model is None else (model, device, quality)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if wanted is None or wanted == self._done:
            self._timer.stop()
        else:
            self._timer.start(_WAIT_MS)

    def forget(self) -> None:
        """The worker was ended."""
        self._done = self._wanted = None
        self._timer.stop()

    def _begin(self) -> None:
        if self._wanted is None:
            return
        self._done = self._wanted
        model, device, quality = self._wanted
        try:
            self.logic.warmUp(model, device=device, quality=quality)
        except MambaSegmentError as problem:  # a click meets it again, and shows it
            _log.warning("the worker could not be started: %s", problem)
