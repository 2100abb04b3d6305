"""The worker client's transport inside Slicer: a QProcess, and everything called in the application's event loop.

See MambaSegmentLib/worker/transport.py. Nothing here blocks, except that a start waits until the program runs.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt

from MambaSegmentLib.errors import ResourceError
from MambaSegmentLib.worker.transport import Listener

_log = logging.getLogger("MambaSegment")
_START_MS = 10_000  # until the program itself runs, not until it says anything
_LOOK_EVERY_MS = 50  # at calls from other threads, which cannot start a timer of this one

Call = Callable[[], None]


class QProcessTransport:
    """Made and stopped in the application's thread; `post` and `call_later` may be called from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self._thread = threading.get_ident()
        self._processes: set[_Process] = set()  # a QProcess that nobody holds would kill its program
        self._due = qt.QTimer()
        self._due.setSingleShot(True)
        self._due.connect("timeout()", self._runDue)
        self._look = qt.QTimer()
        self._look.connect("timeout()", self._runDue)
        self._look.start(_LOOK_EVERY_MS)

    def start(self, command: Sequence[str], environment: Mapping[str, str], listener: Listener) -> _Process:
        process = _Process(command, environment, listener, self._ended)
        self._processes.add(process)
        return process

    def post(self, call: Call) -> None:
        self.call_later(0.0, call)

    def call_later(self, delay_s: float, call: Call) -> Call:
        entry = (time.monotonic() + delay_s, next(self._order), call)
        with self._lock:
            heapq.heappush(self._calls, entry)
        if threading.get_ident() == self._thread:
            self._setTimer()
        return lambda: self._forget(entry)

    def stop(self) -> None:
        """Call nothing any more. Whoever started a process must have seen its end before."""
        with self._lock:
            self._calls.clear()
        for timer in (self._due, self._look):
            timer.stop()
            timer.disconnect("timeout()", self._runDue)

    def _forget(self, entry: tuple[float, int, Call]) -> None:
        with self._lock:
            if entry in self._calls:
                self._calls.remove(entry)
                heapq.heapify(self._calls)

    def _runDue(self) -> None:
        while (call := self._nextDue()) is not None:
            try:
                call()
            except Exception:  # one callback may not silence all others
                _log.exception("a callback of the worker's client failed")

    def _nextDue(self) -> Call | None:
        """The timer is set for the call after it too, since a call may run an event loop of its own."""
        with self._lock:
            due = bool(self._calls) and self._calls[0][0] <= time.monotonic()
            call = heapq.heappop(self._calls)[2] if due else None
        self._setTimer()
        return call

    def _setTimer(self) -> None:
        with self._lock:
            wait_s = self._calls[0][0] - time.monotonic() if self._calls else None
        if wait_s is not None:
            self._due.start(max(0, round(1000 * wait_s + 0.5)))

    def _ended(self, process: _Process, code: int | None) -> None:
        """Later, since a QProcess must not be deleted while it tells that it has ended."""
        self.post(lambda: self._tellEnded(process, code))

    def _tellEnded(self, process: _Process, code: int | None) -> None:
        self._processes.discard(process)
        process.release()
        process.listener.ended(code)


class _Process:
    """See `transport.WorkerProcess`."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        listener: Listener,
        onEnded: Callable[[_Process, int | None], None],
    ) -> None:
        self.listener = listener
        self._onEnded = onEnded
        self._logged = b""
        self._process: Any = qt.QProcess()
        self._process.setProcessChannelMode(qt.QProcess.SeparateChannels)
        self._process.setProcessEnvironment(_environment(environment))
        self._slots = {
            "readyReadStandardOutput()": self._onOutput,
            "readyReadStandardError()": self._onLog,
            "finished(int,QProcess::ExitStatus)": self._onFinished,
        }
        for signal, slot in self._slots.items():
            self._process.connect(signal, slot)
        self._process.start(command[0], list(command[1:]))
        if not self._process.waitForStarted(_START_MS):
            why = self._process.errorString()
            self.release()
            raise ResourceError(f"the worker cannot be started: {command[0]}: {why}; check the installation")
        self.pid = int(self._process.processId())

    def write(self, data: bytes) -> None:
        if self._isRunning():
            self._process.write(data)

    def close_input(self) -> None:
        if self._isRunning():
            self._process.closeWriteChannel()

    def release(self) -> None:
        """Let go of the QProcess: its connections would keep both of us alive."""
        process, self._process = self._process, None
        for signal, slot in self._slots.items():
            process.disconnect(signal, slot)
        process.deleteLater()

    def _isRunning(self) -> bool:
        return self._process is not None and self._process.state() == qt.QProcess.Running

    def _onOutput(self) -> None:
        data = self._process.readAllStandardOutput().data()
        if data:
            self.listener.received(data)

    def _onLog(self) -> None:
        *lines, self._logged = (self._logged + self._process.readAllStandardError().data()).split(b"\n")
        for line in lines:
            self.listener.logged(line.decode("utf-8", "replace").rstrip())

    def _onFinished(self, *_: Any) -> None:
        self._onOutput()
        self._onLog()
        if self._logged:
            self.listener.logged(self._logged.decode("utf-8", "replace").rstrip())
        code = int(self._process.exitCode())
        self._onEnded(self, -code if self._process.exitStatus() == qt.QProcess.CrashExit else code)


def _environment(variables: Mapping[str, str]) -> Any:
    environment = qt.QProcessEnvironment()
    for name, value in variables.items():
        environment.insert(name, value)
    return environment
