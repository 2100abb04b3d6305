"""What a client needs of the world: a process with pipes, and one thread in which everything happens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Listener(Protocol):
    """Told what a process does, in the transport's thread."""

    def received(self, data: bytes) -> None:
        """A piece of its standard output."""

    def logged(self, text: str) -> None:
        """A line of its standard error."""

    def ended(self, code: int | None) -> None:
        """It is gone, and all its output was handed over; the exit code where it is known, negative for a signal."""


class WorkerProcess(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Of what was started, which may be a launcher."""

    def write(self, data: bytes) -> None:
        """To its standard input, without waiting; lost if it has ended."""

    def close_input(self) -> None:
        """After all that was written."""


class Transport(Protocol):
    """Starts processes, and calls back in one thread: the application's own where there is an event loop."""

    def start(self, command: Sequence[str], environment: Mapping[str, str], listener: Listener) -> WorkerProcess:
        """Raises: ResourceError, when the program cannot be started."""

    def post(self, call: Callable[[], None]) -> None:
        """Call soon, in the thread; from any thread."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call after a while, in the thread; what is returned prevents it."""
