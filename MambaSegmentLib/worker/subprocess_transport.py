"""The transport of the shell and of batches: `subprocess`, and a thread that everything is called in.

Pipes are read by a thread each: Windows has no `select` for them.
"""

import heapq
import itertools
import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from ..errors import ResourceError
from .transport import Listener

_log = logging.getLogger(__name__)
_PIECE_BYTES = 1 << 16
_LOG_GRACE_S = 1.0  # for the last lines of stderr, which a grandchild may hold open

Call = Callable[[], None]


@dataclass(order=True)
class _Timed:
    at_s: float
    order: int
    call: Call = field(compare=False)
    wanted: bool = field(default=True, compare=False)

    def forget(self) -> None:
        self.wanted = False


class SubprocessTransport:
    """See `transport.Transport`. The thread ends with the process, or with `stop`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[_Timed] = []
        self._order = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="mambasegment-client", daemon=True)
        self._thread.start()

    def start(self, command: Sequence[str], environment: Mapping[str, str], listener: Listener) -> "_Process":
        try:
            popen = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as problem:
            raise ResourceError(
                f"the worker cannot be started: {command[0]}: {problem.strerror or problem}; check the installation"
            ) from problem
        return _Process(popen, listener, self.post)

    def post(self, call: Call) -> None:
        self.call_later(0.0, call)

    def call_later(self, delay_s: float, call: Call) -> Call:
        with self._changed:
            timed = _Timed(time.monotonic() + delay_s, next(self._order), call)
            heapq.heappush(self._calls, timed)
            self._changed.notify()
        return timed.forget

    def stop(self) -> None:
        """End the thread; what was to be called is not."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _loop(self) -> None:
        while (timed := self._next()) is not None:
            try:
                if timed.wanted:
                    timed.call()
            except Exception:  # one callback may not silence all others
                _log.exception("a callback of the worker's client failed")

    def _next(self) -> _Timed | None:
        with self._changed:
            while not self._stopped:
                wait_s = self._calls[0].at_s - time.monotonic() if self._calls else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._calls)
                self._changed.wait(wait_s)
            return None


class _Process:
    def __init__(self, popen: "subprocess.Popen[bytes]", listener: Listener, post: Callable[[Call], None]) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._listener = listener
        self._post = post
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        assert popen.stdin is not None and popen.stdout is not None and popen.stderr is not None
        self._log_thread = self._thread(self._read_log, popen.stderr)
        self._thread(self._read, popen.stdout)
        self._thread(self._write, popen.stdin)

    def write(self, data: bytes) -> None:
        self._to_write.put(data)

    def close_input(self) -> None:
        self._to_write.put(None)

    def _thread(self, target: Callable[[IO[bytes]], None], pipe: IO[bytes]) -> threading.Thread:
        thread = threading.Thread(target=target, args=(pipe,), name="mambasegment-pipe", daemon=True)
        thread.start()
        return thread

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), _PIECE_BYTES):
                self._post(lambda data=data: self._listener.received(data))  # type: ignore[misc]
        code = self._popen.wait()
        self._to_write.put(None)
        self._log_thread.join(_LOG_GRACE_S)
        self._post(lambda: self._listener.ended(code))

    def _read_log(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                text = line.decode("utf-8", "replace").rstrip()
                self._post(lambda text=text: self._listener.logged(text))  # type: ignore[misc]

    def _write(self, pipe: IO[bytes]) -> None:
        """On a thread of its own: a process that is halted does not read, and the client may not wait for it."""
        try:
            with pipe:
                while (data := self._to_write.get()) is not None:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[pipe.write(rest) :]
        except OSError:
            _log.debug("the worker reads no more; its end is reported elsewhere")
