"""The one client of the worker, for the panel, the shell and batches; it imports neither torch nor Qt.

Everything happens in the transport's thread, where callbacks are called as well. The methods of `WorkerClient` may be
called from any thread and return at once. Each job is over with exactly one Result or Failed, whatever happens to the
process:

* a worker that dies while it works fails the job it worked on; those behind are given to a new worker,
* one that dies before it was ready fails them all, since a new one would fare alike,
* a job that does not end soon after its cancellation is ended together with the process, and a new worker starts.
"""

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from ..errors import Cancelled, ConfigError, ResourceError
from ..files import remove_leftovers
from .folder import make_private_folder, remove_private_folder
from .process_tree import end_process_tree
from .protocol import (
    PROTOCOL,
    Cancel,
    Command,
    Event,
    Failed,
    Hello,
    JobProgress,
    LineSplitter,
    Load,
    Options,
    ProtocolError,
    Quit,
    Ready,
    Result,
    Segment,
    Unload,
    decode_event,
    encode,
)
from .transport import Transport, WorkerProcess

_log = logging.getLogger(__name__)
_LOG_LINES = 20  # of stderr, kept for the message about a crash

JobCommand = Load | Segment | Unload
JobEvent = JobProgress | Result | Failed


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which the client stops to wait.

    Attributes:
        hello_s: from the start of the process to its first word; a virus scanner may look at every file first.
        ready_s: from then until torch is loaded; the CPU kernels are compiled when they are used for the first time.
        cancel_s: from the request to cancel a job until the process is ended.
        quit_s: from the request to quit until the process is ended.
    """

    hello_s: float = 30.0
    ready_s: float = 300.0
    cancel_s: float = 0.5
    quit_s: float = 3.0


@dataclass(frozen=True)
class Ended:
    """The process is gone. `reason` is empty if that was asked for."""

    code: int | None
    reason: str = ""


Status = Hello | Ready | Failed | Ended


@dataclass(frozen=True, eq=False)
class _Pending:
    command: JobCommand
    tell: Callable[[JobEvent], None]
    stop_timer: Callable[[], None] | None = None  # set once the job was cancelled

    @property
    def cancelled(self) -> bool:
        return self.stop_timer is not None


def worker_command(python: str = sys.executable) -> list[str]:
    """What starts a worker: `python` is an interpreter, or Slicer's launcher of one."""
    return [python, "-P", "-m", "MambaSegmentLib", "worker"]


def worker_environment() -> dict[str, str]:
    """This process's environment, and the library where it lies: nothing else may be taken for it."""
    library = str(Path(__file__).resolve().parent.parent.parent)
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != library]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([library, *others]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }


class WorkerClient:
    """A worker that is there when it is needed: started with the first job, and again after it died.

    Args:
        transport: how processes are started and callbacks called.
        on_status: told of Hello, Ready, Ended, and of a Failed that belongs to no job.
        on_log: given each line that the worker writes to stderr.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        command: Sequence[str] | None = None,
        timeouts: Timeouts | None = None,
        on_status: Callable[[Status], None] | None = None,
        on_log: Callable[[str], None] | None = None,
    ) -> None:
        self._transport = transport
        self._command = list(command or worker_command())
        self._timeouts = timeouts or Timeouts()
        self._on_status = on_status or _ignore
        self._on_log = on_log or _ignore
        self._jobs: dict[str, _Pending] = {}  # in the order in which the worker takes them
        self._numbers = count(1)
        self._run: _Run | None = None
        self._folder: Path | None = None
        self._closing = False

    @property
    def folder(self) -> Path:
        """The private folder for volumes on their way; gone once the client is closed."""
        if self._folder is None or not self._folder.is_dir():
            self._folder = make_private_folder()
        return self._folder

    def new_job(self) -> str:
        """A name that no other job of this client has."""
        return str(next(self._numbers))

    def start(self) -> None:
        """Let torch be loaded before the first job comes."""
        self._transport.post(self._ensure_running)

    def send(self, command: JobCommand, tell: Callable[[JobEvent], None]) -> None:
        """Have a job done; `tell` is given its progress and at last one Result or Failed.

        Raises:
            ConfigError: the command is too long to be sent.
        """
        command = _absolute(command)
        encode(command)
        self._transport.post(lambda: self._accept(command, tell))

    def cancel(self, job: str) -> None:
        """Stop a job; one that is over, or was never sent, is no mistake."""
        self._transport.post(lambda: self._cancel(job))

    def close(self) -> None:
        """End the worker; what is not over fails as cancelled. `Ended` tells when; nothing can be sent afterwards."""
        self._transport.post(self._close)

    def _accept(self, command: JobCommand, tell: Callable[[JobEvent], None]) -> None:
        if self._closing or command.job in self._jobs:
            why = "the client is closed" if self._closing else f"the job {command.job!r} is not over yet"
            tell(Failed(command.job, ConfigError.__name__, why))
            return
        started = self._run is not None
        self._jobs[command.job] = _Pending(command, tell)
        self._ensure_running()  # hands over all jobs of a new worker
        if started and self._run is not None:
            self._run.write(command)

    def _ensure_running(self) -> None:
        if self._run is not None or self._closing:
            return
        run = _Run(self)
        try:
            command = [*self._command, "--folder", str(self.folder)]
            run.process = self._transport.start(command, worker_environment(), run)
        except ResourceError as problem:
            self._fail_all(ResourceError.__name__, str(problem))
            self._on_status(Ended(None, str(problem)))
            return
        self._run = run
        run.expect(self._timeouts.hello_s, "said hello")
        for pending in self._jobs.values():
            run.write(pending.command)

    def _cancel(self, job: str) -> None:
        pending = self._jobs.get(job)
        if pending is None or pending.cancelled or self._run is None:
            return
        self._run.write(Cancel(job))
        timer = self._transport.call_later(self._timeouts.cancel_s, lambda: self._enforce_cancel(job))
        self._jobs[job] = replace(pending, stop_timer=timer)

    def _enforce_cancel(self, job: str) -> None:
        if job not in self._jobs or self._run is None:
            return
        if self._run.ready and next(iter(self._jobs)) == job:
            self._run.end("")
        else:  # it has not begun, and will not
            self._finish(Failed(job, Cancelled.__name__, "cancelled before it began"))

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._run is None:
            self._say_ended(Ended(None))
            return
        run = self._run
        run.write(Quit())
        run.process.close_input()
        self._transport.call_later(self._timeouts.quit_s, lambda: run.end(""))

    def heard(self, run: "_Run", event: Event) -> None:
        """An event of the worker; called by its run."""
        if isinstance(event, Hello):
            if event.protocol != PROTOCOL:
                run.end(f"it speaks protocol {event.protocol}, this is {PROTOCOL}; restart the application")
                return
            run.expect(self._timeouts.ready_s, "loaded torch")
        elif isinstance(event, Ready):
            run.expect(None, "")
        elif isinstance(event, JobProgress):
            pending = self._jobs.get(event.job)
            if pending is not None:
                pending.tell(event)
            return
        elif event.job is not None:
            self._finish(event)
            return
        self._on_status(event)

    def gone(self, run: "_Run", code: int | None) -> None:
        """The process has ended; called by its run."""
        self._run = None
        reason = "" if self._closing or run.ended_on_purpose else run.story(code)
        if self._closing:
            self._fail_all(Cancelled.__name__, "the worker was closed")
        elif run.ready:
            self._fail_first(reason)
        else:
            self._fail_all(ResourceError.__name__, reason)
        self._say_ended(Ended(code, reason))
        if self._jobs or run.ended_on_purpose:
            self._ensure_running()

    def log(self, text: str) -> None:
        """A line of the worker's stderr; called by its run."""
        self._on_log(text)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Callable[[], None]:
        return self._transport.call_later(delay_s, call)

    def _fail_first(self, reason: str) -> None:
        """The first job is the one that the worker was at."""
        if not self._jobs:
            return
        job, pending = next(iter(self._jobs.items()))
        if isinstance(pending.command, Segment):
            options = pending.command.options
            for path in (pending.command.output, options.uncertainty, options.probabilities, options.sidecar):
                if path is not None:
                    remove_leftovers(Path(path))
        if pending.cancelled:
            self._finish(Failed(job, Cancelled.__name__, "cancelled on request"))
        else:
            advice = "Too little memory is the usual reason: crop the image or close other programs."
            self._finish(Failed(job, ResourceError.__name__, reason, advice))

    def _fail_all(self, kind: str, message: str) -> None:
        for job in list(self._jobs):
            self._finish(Failed(job, Cancelled.__name__ if self._jobs[job].cancelled else kind, message))

    def _finish(self, event: Result | Failed) -> None:
        pending = self._jobs.pop(event.job or "", None)
        if pending is None:
            return
        if pending.stop_timer is not None:
            pending.stop_timer()
        pending.tell(event)

    def _say_ended(self, event: Ended) -> None:
        if self._closing and self._folder is not None:
            remove_private_folder(self._folder)
            self._folder = None
        self._on_status(event)


class _Run:
    """One life of a worker process: the transport's Listener."""

    def __init__(self, client: WorkerClient) -> None:
        self.process: WorkerProcess
        self.ready = False
        self.ended_on_purpose = False
        self._client = client
        self._lines = LineSplitter()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._pid: int | None = None  # of the interpreter itself
        self._complaint = ""
        self._over = False
        self._stop_timer: Callable[[], None] | None = None

    def write(self, command: Command) -> None:
        self.process.write(encode(command))

    def expect(self, seconds: float | None, what: str) -> None:
        """End the process unless the next such call comes in time; None expects nothing more."""
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None
        if seconds is not None:
            complaint = f"it has not {what} after {seconds:.0f} s"
            self._stop_timer = self._client.call_later(seconds, lambda: self.end(complaint))

    def end(self, complaint: str) -> None:
        """Kill it, whatever it does. Without complaint it did nothing wrong, and another one will be wanted."""
        if self._over:
            return  # its number may belong to another process by now
        self._complaint = complaint
        self.ended_on_purpose = not complaint
        end_process_tree(*{self.process.pid, self._pid or self.process.pid})

    def received(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            try:
                event = decode_event(line)
            except ProtocolError as problem:  # a launcher may print something of its own
                self.logged(str(problem))
                continue
            if isinstance(event, Hello):
                self._pid = event.pid
            self.ready = self.ready or isinstance(event, Ready)
            if isinstance(event, Failed) and not self.ready and event.job is None:
                self._complaint = f"{event.message}. {event.advice}"
            self._client.heard(self, event)

    def logged(self, text: str) -> None:
        self._log.append(text)
        self._client.log(text)

    def ended(self, code: int | None) -> None:
        self._over = True
        self.expect(None, "")
        self._client.gone(self, code)

    def story(self, code: int | None) -> str:
        """Why it ended, for a person."""
        if self._complaint:
            return f"the worker was of no use: {self._complaint}"
        last = f"; it wrote last: {self._log[-1]}" if self._log else ""
        return f"the worker ended unexpectedly{'' if code is None else f' (exit code {code})'}{last}"


def _absolute(command: JobCommand) -> JobCommand:
    """Paths as they are meant here, wherever the worker's current folder is; a model may be a name instead."""
    if isinstance(command, Segment):
        command = replace(
            command,
            inputs=_whole_paths(command.inputs),
            output=_whole_path(command.output),
            model=tuple(map(_whole_model, command.models)) if len(command.models) > 1 else command.models[0],
            options=_whole_options(command.options),
        )
    if isinstance(command.model, str):
        command = replace(command, model=_whole_model(command.model))
    return command


def _whole_model(name: str) -> str:
    return _whole_path(name) if os.path.isfile(name) else name  # noqa: PTH113  (Path's raises for a long name)


def _whole_options(options: Options) -> Options:
    def whole(path: str | None) -> str | None:
        return None if path is None else _whole_path(path)

    return replace(
        options,
        uncertainty=whole(options.uncertainty),
        disagreement=whole(options.disagreement),
        probabilities=whole(options.probabilities),
        sidecar=whole(options.sidecar),
        calibrations=tuple(map(_whole_path, options.calibrations)),
    )


def _whole_paths(inputs: tuple[str, ...] | Mapping[str, str]) -> tuple[str, ...] | dict[str, str]:
    if isinstance(inputs, tuple):
        return tuple(map(_whole_path, inputs))
    return {name: _whole_path(path) for name, path in inputs.items()}


def _whole_path(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (Path.resolve would follow links)


def _ignore(_: object) -> None:
    """Nobody wants to know."""
