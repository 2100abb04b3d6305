"""How long a reviewer was at work: a case that is merely open over lunch does not count."""

from __future__ import annotations

import time
from collections.abc import Callable

IDLE_S = 120.0  # without any sign of work, the time after this is left out


class ReviewClock:
    """Runs between `start` and `pause`, and counts only near `touch`.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._touched: float | None = None  # None while it stands
        self._counted_s = 0.0

    @property
    def isRunning(self) -> bool:
        return self._touched is not None

    def start(self) -> None:
        if self._touched is None:
            self._touched = self._now()

    def touch(self) -> None:
        """The reviewer did something: what passed since the last time counts, up to `IDLE_S`."""
        if self._touched is not None:
            now = self._now()
            self._counted_s += min(now - self._touched, IDLE_S)
            self._touched = now

    def pause(self) -> None:
        self.touch()
        self._touched = None

    def take_s(self) -> float:
        """What was counted since the last call, up to now."""
        self.touch()
        counted, self._counted_s = self._counted_s, 0.0
        return counted
