"""The jobs of a worker: some wait, at most one runs, any of them can be cancelled."""

import threading
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..progress import CancelToken
from .protocol import Load, Segment, Unload


@dataclass(frozen=True, eq=False)
class Job:
    """A command that is answered once."""

    command: Load | Segment | Unload
    cancel: CancelToken = field(default_factory=CancelToken)

    @property
    def name(self) -> str:
        return self.command.job


class Inbox:
    """Filled by the thread that reads commands, emptied by the one that works, first in, first out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._running: Job | None = None
        self._spare = CancelToken()
        self.ended = threading.Event()

    def put(self, command: Load | Segment | Unload) -> None:
        """Raises: ConfigError, when a job of that name waits or runs."""
        with self._changed:
            if command.job in self._waiting or (self._running is not None and self._running.name == command.job):
                raise ConfigError(f"the job {command.job!r} is not over yet; give each job a name of its own")
            self._waiting[command.job] = Job(command)
            self._spare.cancel()
            self._changed.notify()

    def take(self) -> Job | None:
        """Wait for a job, which then counts as running; None at the end."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._waiting or self.ended.is_set())
            if self.ended.is_set():
                return None
            self._running = self._waiting.pop(next(iter(self._waiting)))
            return self._running

    def finish(self) -> None:
        """The running job is over: its name is free again."""
        with self._changed:
            self._running = None

    def spare_time(self) -> CancelToken:
        """Cancelled as soon as another job waits or the running one is cancelled: for work that nobody waits for."""
        with self._changed:
            self._spare = CancelToken()
            if self._waiting or (self._running is not None and self._running.cancel.cancelled):
                self._spare.cancel()
            return self._spare

    def cancel(self, name: str) -> bool:
        """Whether the job was waiting, and so is over now; one that runs is told to stop."""
        with self._changed:
            if self._waiting.pop(name, None) is not None:
                return True
            if self._running is not None and self._running.name == name:
                self._running.cancel.cancel()
                self._spare.cancel()
            return False

    def end(self) -> list[str]:
        """Take nothing more, stop the running job, and return the names of those that waited."""
        with self._changed:
            self.ended.set()
            waiting = list(self._waiting)
            self._waiting.clear()
            if self._running is not None:
                self._running.cancel.cancel()
            self._spare.cancel()
            self._changed.notify_all()
            return waiting
