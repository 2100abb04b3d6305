"""Installs packages into Slicer's Python, and leaves alone what Slicer brings."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .dependencies import pins

_log = logging.getLogger("MambaSegment")


class Installer:
    """One installation at a time; pip's lines go to the log.

    Args:
        onOver: called at the end with an empty text, or with what went wrong.
    """

    def __init__(self, onOver: Callable[[str], None]) -> None:
        self._onOver = onOver
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def isRunning(self) -> bool:
        return self._folder is not None

    def start(self, requirements: Sequence[str]) -> None:
        """Returns at once with Slicer 5.12; Slicer 5.10 waits until pip is done."""
        if self.isRunning:
            return
        # System files, not results: gone with the installation, so nothing needs to appear whole or not at all.
        self._folder = tempfile.TemporaryDirectory(prefix="mambasegment-install-")
        constraints = Path(self._folder.name) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in pins()), encoding="utf-8")
        arguments = [*requirements, "--constraint", str(constraints)]
        _log.info("pip install %s, with %s", " ".join(requirements), ", ".join(pins()))
        try:
            if importlib.util.find_spec("slicer.packaging") is not None:
                self._startIn512(arguments)
            else:
                self._runIn510(arguments)
        except (subprocess.CalledProcessError, RuntimeError, OSError) as problem:
            self._finish(str(problem))

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
        self._finish("" if code == 0 else _("pip ended with code {code}").format(code=code))

    def _finish(self, problem: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        importlib.invalidate_caches()
        _log.info("the installation is over: %s", problem or "all well")
        self._onOver(problem)
