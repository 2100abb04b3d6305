"""A command of the library beside the worker, in Slicer's Python: the check of the installation, a download.

`PythonSlicer` is a launcher, whose end would leave the program alive. So nobody is killed: the program's input is
closed, and it ends by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from MambaSegmentLib.folders import USER_MODELS_VARIABLE, user_models_folder
from MambaSegmentLib.worker.client import worker_environment

from .python_slicer import pythonExecutable
from .qprocess_transport import QProcessTransport

_log = logging.getLogger("MambaSegment")
_COMMAND = "mambasegment: "  # before a message for people


class SideProcess:
    """One program at a time.

    Args:
        onLine: given each line that it prints.
        onOver: given its exit code and what it said last to people, without the command's name.
    """

    def __init__(self, onLine: Callable[[str], None], onOver: Callable[[int, str], None]) -> None:
        self._onLine = onLine
        self._onOver = onOver
        self._transport: QProcessTransport | None = None
        self._process = None
        self._begun = b""
        self._said = ""

    @property
    def isRunning(self) -> bool:
        return self._transport is not None

    def start(self, arguments: Sequence[str]) -> None:
        """`mambasegment ARGUMENTS`. Raises: ResourceError, when there is no Python to run it."""
        command = [pythonExecutable(), "-P", "-m", "MambaSegmentLib", *arguments]
        environment = {**worker_environment(), USER_MODELS_VARIABLE: str(user_models_folder())}
        self._begun, self._said = b"", ""
        self._transport = QProcessTransport()
        try:
            self._process = self._transport.start(command, environment, self)
        except Exception:
            self._transport.stop()
            self._transport = None
            raise

    def stop(self) -> None:
        """Ask it to end; `onOver` is told."""
        if self._process is not None:
            self._process.close_input()

    def close(self) -> None:
        """Ask it to end, and tell nobody."""
        self._onLine, self._onOver = _ignore, _ignore
        self.stop()

    # --- what the transport tells

    def received(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._onLine(line.decode("utf-8", "replace").rstrip())

    def logged(self, text: str) -> None:
        _log.debug("%s", text)
        if text.startswith(_COMMAND):
            self._said = text.removeprefix(_COMMAND)

    def ended(self, code: int | None) -> None:
        if self._begun:
            self.received(b"\n")
        assert self._transport is not None
        self._transport.stop()
        self._transport = self._process = None
        self._onOver(1 if code is None else code, self._said)


def _ignore(*_: object) -> None:
    """Nobody listens any more."""
