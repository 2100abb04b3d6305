"""Installs packages into Slicer's Python, one after the other, and leaves alone what Slicer brings."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .dependencies import nameOf, pins

_log = logging.getLogger("MambaSegment")
_PAUSE_MS = 20  # between two packages: pip's end has been told, and the user's click on Cancel is heard


class Installer:
    """One installation at a time; pip's lines go to the log.

    A package is either installed or it is not: pip is never stopped in the middle, so a cancelled or interrupted
    installation goes on with the packages that are still missing.

    Args:
        onStep: called before each package. onOver: called at the end with an empty text, or with what went wrong.
    """

    def __init__(self, onStep: Callable[[], None], onOver: Callable[[str], None]) -> None:
        self._onStep = onStep
        self._onOver = onOver
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._waiting: deque[str] = deque()
        self._options: list[str] = []
        self._next: Any = qt.QTimer()
        self._next.setSingleShot(True)
        self._next.connect("timeout()", self._step)
        self.current = ""  # the package that is being installed
        self.done = self.total = 0
        self.isCancelling = False

    @property
    def isRunning(self) -> bool:
        return self._folder is not None

    def start(self, requirements: Sequence[str], wheelFolder: str = "") -> None:
        """Returns at once; Slicer 5.10 then waits while pip is at a package.

        Args:
            wheelFolder: take the packages from there, without network.
        """
        if self.isRunning or not requirements:
            return
        # System files, not results: gone with the installation, so nothing needs to appear whole or not at all.
        self._folder = tempfile.TemporaryDirectory(prefix="mambasegment-install-")
        constraints = Path(self._folder.name) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in pins()), encoding="utf-8")
        offline = ["--no-index", "--find-links", wheelFolder] if wheelFolder else []
        self._options = [*offline, "--constraint", str(constraints)]
        self._waiting = deque(requirements)
        self.done, self.total, self.isCancelling = 0, len(requirements), False
        self.current = nameOf(requirements[0])
        _log.info("pip install %s, with %s", " ".join(requirements), ", ".join(pins()))
        self._next.start(0)

    def cancel(self) -> None:
        """Stop after the package that pip is at."""
        self.isCancelling = self.isRunning

    def close(self) -> None:
        """The module goes; pip, if it is at work, finishes its package by itself."""
        self._next.stop()
        self._waiting.clear()
        self._onStep, self._onOver = _ignore, _ignore
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _step(self) -> None:
        if self._slicerIsBusy():
            self._next.start(_PAUSE_MS)
            return
        if self.isCancelling or not self._waiting:
            self._finish("")
            return
        requirement = self._waiting.popleft()
        self.current = nameOf(requirement)
        self._onStep()
        try:
            if _hasPackaging():
                self._startIn512([requirement, *self._options])
            else:
                self._runIn510([requirement, *self._options])
        except (subprocess.CalledProcessError, RuntimeError, OSError) as problem:
            self._finish(str(problem))

    def _slicerIsBusy(self) -> bool:
        """Whether another installation runs, ours that has just ended or that of another extension."""
        if not _hasPackaging():
            return False
        packaging: Any = importlib.import_module("slicer.packaging")
        return bool(packaging.isPipInstallInProgress())

    def _startIn512(self, arguments: list[str]) -> None:
        packaging: Any = importlib.import_module("slicer.packaging")
        packaging.pip_install(
            arguments,
            blocking=False,
            requester="MambaSegment",
            logCallback=lambda line: _log.info("%s", line.rstrip()),
            completedCallback=self._onPipEnded,
        )

    def _runIn510(self, arguments: list[str]) -> None:
        with slicer.util.WaitCursor():
            slicer.util.pip_install(arguments)
        self._onPipEnded(0)

    def _onPipEnded(self, code: int) -> None:
        if not self.isRunning:
            return
        if code != 0:
            problem = _("pip ended with code {code} at {package}").format(code=code, package=self.current)
            self._finish(problem)
            return
        self.done += 1
        self._next.start(_PAUSE_MS)

    def _finish(self, problem: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._waiting.clear()
        importlib.invalidate_caches()
        _log.info("the installation is over: %s", problem or f"{self.done} of {self.total} packages")
        self._onOver(problem)


def _hasPackaging() -> bool:
    return importlib.util.find_spec("slicer.packaging") is not None


def _ignore(*_args: object) -> None:
    """Nobody listens any more."""
