"""The one worker of the module: there when it is needed, gone when the application or the module goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

from MambaSegmentLib.worker.client import Ended, Status, Timeouts, WorkerClient, worker_command

from .python_slicer import pythonExecutable
from .qprocess_transport import QProcessTransport

_log = logging.getLogger("MambaSegment")
_PAUSE_S = 0.01
_MORE_S = 2.0  # beyond the client's own timeout, for the killed process to be seen as gone


class WorkerOwner:
    """Makes the client with the first job, and another one after `close`.

    Args:
        onStatus: told what `WorkerClient` tells of the process: Hello, Ready, Ended, and a Failed without job.
        command: what starts a worker; None takes the library's on Slicer's Python.
    Attributes:
        onClosing: called before the worker is ended, also with the application, so that nothing new is given to it.
    """

    def __init__(
        self, onStatus: Callable[[Status], None] | None = None, *, command: Sequence[str] | None = None
    ) -> None:
        self._onStatus = onStatus
        self._command = command
        self._client: WorkerClient | None = None
        self._transport: QProcessTransport | None = None
        self._gone = False
        self.onClosing: Callable[[], None] | None = None

    @property
    def client(self) -> WorkerClient:
        """Raises: ResourceError, when there is no Python to run a worker."""
        if self._client is None:
            command = self._command or worker_command(pythonExecutable())
            self._transport = QProcessTransport()
            self._client = WorkerClient(self._transport, command=command, on_status=self._note, on_log=_log.debug)
            slicer.app.connect("aboutToQuit()", self.close)
        return self._client

    @property
    def transport(self) -> QProcessTransport:
        """Where callbacks are called; its thread is the application's."""
        assert self.client is not None and self._transport is not None
        return self._transport

    def close(self) -> None:
        """End the worker and wait until it is gone, its files too; a few seconds at most, mostly milliseconds.

        Jobs that are not over fail as cancelled, their callbacks included. Nothing is imported here: the module may
        be about to be reloaded.
        """
        if self._client is None or self._transport is None:
            return
        if self.onClosing is not None:
            self.onClosing()
        client, transport = self._client, self._transport
        self._gone = False
        slicer.app.disconnect("aboutToQuit()", self.close)
        client.close()
        _processEventsUntil(lambda: self._gone, Timeouts().quit_s + _MORE_S)
        transport.stop()
        self._client = self._transport = None

    def _note(self, status: Status) -> None:
        if isinstance(status, Ended):
            self._gone = True
            if status.reason:
                _log.warning("the worker ended: %s", status.reason)
        if self._onStatus is not None:
            self._onStatus(status)


def _processEventsUntil(isOver: Callable[[], bool], seconds: float) -> None:
    """Without what the user does meanwhile, since the module is going."""
    loop: Any = qt.QEventLoop()
    end_s = time.monotonic() + seconds
    while not isOver() and time.monotonic() < end_s:
        loop.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
        time.sleep(_PAUSE_S)
