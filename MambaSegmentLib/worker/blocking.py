"""A worker for programs that wait for each job: the shell, batches and scripts."""

import queue
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from .. import errors
from ..progress import CancelToken, Progress, ProgressCallback
from .client import Ended, JobCommand, JobEvent, Status, Timeouts, WorkerClient
from .protocol import Failed, JobProgress, Result
from .subprocess_transport import SubprocessTransport

_LOOK_EVERY_S = 0.05  # at the cancel token, and for Ctrl-C, which cannot interrupt a wait on Windows
_END_S = 10.0  # beyond the client's own timeout


class InternalError(RuntimeError):
    """A job failed because of a mistake in the code, not in its arguments."""


class BlockingWorker:
    """`with BlockingWorker() as worker: result = worker.run(Segment(worker.new_job(), …))`.

    Args:
        command, timeouts: as for `WorkerClient`.
    """

    def __init__(self, *, command: Sequence[str] | None = None, timeouts: Timeouts | None = None) -> None:
        self._transport = SubprocessTransport()
        self._gone = threading.Event()
        self._closing = False
        self.client = WorkerClient(self._transport, command=command, timeouts=timeouts, on_status=self._note)
        self._end_s = (timeouts or Timeouts()).quit_s + _END_S

    def __enter__(self) -> Self:
        self.client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def new_job(self) -> str:
        """A name that no other job of this worker has."""
        return self.client.new_job()

    def ask(
        self, command: JobCommand, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> Result | Failed:
        """Have a job done and wait for its end, whatever it is; progress is called in this thread."""
        events: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()
        self.client.send(command, events.put)
        try:
            return self._last(command.job, events, progress, cancel)
        except BaseException:
            self.client.cancel(command.job)
            raise

    def run(
        self, command: JobCommand, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> Result:
        """Have a job done and wait for it.

        Raises:
            MambaSegmentError: what `Failed` says. InternalError: a kind that is not in the error tree.
        """
        answer = self.ask(command, progress=progress, cancel=cancel)
        if isinstance(answer, Failed):
            raise error_of(answer)
        return answer

    def close(self) -> None:
        """End the worker and wait until it is gone, its files too."""
        self._closing = True
        self.client.close()
        self._gone.wait(self._end_s)
        self._transport.stop()

    def _last(
        self,
        job: str,
        events: "queue.SimpleQueue[JobEvent]",
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> Result | Failed:
        asked_to_stop = False
        while True:
            if cancel is not None and cancel.cancelled and not asked_to_stop:
                asked_to_stop = True
                self.client.cancel(job)
            try:
                event = events.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
            if not isinstance(event, JobProgress):
                return event
            if progress is not None:
                progress(Progress(event.stage, event.done, event.total, event.seconds_left))

    def _note(self, status: Status) -> None:
        if isinstance(status, Ended) and self._closing:
            self._gone.set()


def error_of(failed: Failed) -> Exception:
    """The exception that a worker's `failed` tells of; its advice is a note of it."""
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, errors.MambaSegmentError):
        error = kind(failed.message)
        if failed.advice:
            error.add_note(failed.advice)
        return error
    return InternalError(f"{failed.kind}: {failed.message}. {failed.advice}")
