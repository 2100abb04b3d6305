"""Many cases, one after the other, without waiting; a case that fails never stops the rest.

    between two cases -> a case is being done -> between two cases -> … -> over

What a case is, and how it is done, is the business of a `Work`: files (batch_files.py) or volumes of the scene
(batch_volumes.py). Everything happens in the application's thread, a case at a time, so that a click on Segment comes
between two of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from MambaSegmentLib.batch.outcome import DONE, FAILED, Outcome
from MambaSegmentLib.errors import Cancelled, MambaSegmentError
from MambaSegmentLib.progress import Progress

from .waiting import waitUntil

if TYPE_CHECKING:
    from MambaSegmentLib.batch.report import Report

_log = logging.getLogger("MambaSegment")
RUNNING, BEFORE = "running", "done before"  # beside those of an outcome

Tell = Callable[[Progress], None]
Done = Callable[[Outcome | Exception], None]  # an exception: no further case can be done


class Work(Protocol):
    """What a batch does; `known` and `begin` are called for one case after the other."""

    @property
    def names(self) -> Sequence[str]:
        """Of the cases."""

    @property
    def secondsLeft(self) -> float | None:
        """For all cases that are not over; None where nothing can be said."""

    @property
    def report(self) -> Report:
        """Of what was done so far."""

    def known(self, number: int) -> Outcome | None:
        """What is known of a case without doing it. Raises: MambaSegmentError, no further case can be done."""

    def begin(self, number: int, tell: Tell, done: Done) -> None:
        """Do a case; `done` is called once, from here or later. Raises: as `known`."""

    def cancel(self) -> None:
        """Stop the case that is being done, soon."""

    def close(self) -> None:
        """Write the report, whatever happened. Raises: MambaSegmentError, when that is not possible."""


@dataclass(frozen=True)
class CaseState:
    """`status`: RUNNING, BEFORE (done by an earlier run), or that of the outcome, DONE or FAILED."""

    status: str
    outcome: Outcome | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class BatchCallbacks:
    """Called in the application's thread; what they raise goes to the log.

    Attributes:
        onProgress: before each case and at the end, stage "batch", in cases.
        onCase: what is new of a case, with its number.
        onOver: the batch is over; look at its `error` and `report`.
    """

    onProgress: Callable[[Progress], None] | None = None
    onCase: Callable[[int, CaseState], None] | None = None
    onOver: Callable[[BatchJob], None] | None = None


class BatchJob:
    """Begins at once, but calls nobody back before its maker returns.

    Args:
        post: has something called soon, in the application's thread.
        onOver: of whoever keeps the list of batches; called before the callbacks.
    Attributes:
        error: why it ended early; None if it did not.
    """

    def __init__(
        self,
        work: Work,
        post: Callable[[Callable[[], None]], None],
        callbacks: BatchCallbacks,
        onOver: Callable[[BatchJob], None],
    ) -> None:
        self.work = work
        self.error: Exception | None = None
        self.isOver = False
        self._post = post
        self._callbacks = callbacks
        self._onOver = onOver
        self._number = 0
        self._why = ""
        post(self._step)

    @property
    def names(self) -> Sequence[str]:
        return self.work.names

    @property
    def report(self) -> Report:
        return self.work.report

    def cancel(self, why: str = "cancelled on request") -> None:
        """Stop within half a second; what is done stays, and the same batch goes on from there."""
        if self.isOver or self._why:
            return
        self._why = why
        self.work.cancel()

    def wait(self) -> Report:
        """Raises: what ended the batch early; KeyboardInterrupt after Ctrl-C."""
        waitUntil(lambda: self.isOver, self.cancel)
        if self.error is not None:
            raise self.error
        return self.report

    def _step(self) -> None:
        if self.isOver:
            return
        try:
            self._next()
        except Exception as problem:  # whatever it is, the batch must have an end
            self._fail(problem)

    def _next(self) -> None:
        number, total = self._number, len(self.names)
        if number == total:
            self._call(self._callbacks.onProgress, Progress("batch", total, total, 0.0))
            self._finish()
            return
        self._call(self._callbacks.onProgress, Progress("batch", number, total, self.work.secondsLeft))
        if self._why:
            raise Cancelled(self._why)
        outcome = self.work.known(number)
        if outcome is not None:
            self._note(number, CaseState(BEFORE if outcome.status == DONE else FAILED, outcome))
            return
        self._call(self._callbacks.onCase, number, CaseState(RUNNING))
        self.work.begin(
            number,
            lambda progress: self._call(self._callbacks.onCase, number, CaseState(RUNNING, progress=progress)),
            lambda answer: self._ended(number, answer),
        )

    def _ended(self, number: int, answer: Outcome | Exception) -> None:
        if self.isOver:
            return
        if isinstance(answer, Exception):
            self._fail(answer)
        else:
            self._note(number, CaseState(answer.status, answer))

    def _note(self, number: int, state: CaseState) -> None:
        self._number = number + 1
        self._call(self._callbacks.onCase, number, state)
        self._post(self._step)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, MambaSegmentError):
            _log.error("the batch failed", exc_info=error)
        self.error = error
        self._finish()

    def _finish(self) -> None:
        self.isOver = True
        try:
            self.work.close()
        except MambaSegmentError as problem:
            if self.error is None:
                self.error = problem
            else:  # mostly for the same reason
                _log.warning("the report of the batch could not be written: %s", problem)
        self._onOver(self)
        self._call(self._callbacks.onOver, self)

    def _call(self, callback: Callable[..., None] | None, *arguments: Any) -> None:
        try:
            if callback is not None:
                callback(*arguments)
        except Exception:
            _log.exception("a callback of a batch failed")
