"""Starts everything in the one order that works, and drives modules the way the application does."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import slicer

from Testing.host import sources
from Testing.host.failures import Failures, failures
from Testing.host.launcher import Launcher
from Testing.host.mrml import Mrml
from Testing.host.qt_module import buildQtModule
from Testing.host.qt_signals import disconnectAll
from Testing.host.registry import STAND_INS

REPOSITORY = Path(__file__).resolve().parents[2]
_started: list[Host] = []


class Host:
    """The running stand-in; one a process.

    Attributes:
        app: `slicer.app`.
        scene: `slicer.mrmlScene`.
        folder: temporary; settings, caches and the launcher lie here.
        failures: what was swallowed; must be empty at the end of a test.
        using_real_sources: whether Slicer's own Python modules are used, see sources.py.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: Failures = failures
        failures.install()
        self.using_real_sources = sources.activate()
        self._mrml = Mrml(folder)
        self.scene: Any = self._mrml.scene
        self._startQt()
        self._startModules()
        self.launcher = Launcher(folder / "bin")

    def _startQt(self) -> None:
        from Testing.host import widgets  # noqa: F401  (registers every stand-in)
        from Testing.host.application import qSlicerApplication

        self.qt: Any = buildQtModule()
        ctk = ModuleType("ctk")
        for name, cls in STAND_INS.items():
            setattr(ctk if name.startswith("ctk") else slicer, name, cls)
        sys.modules["qt"], sys.modules["ctk"] = self.qt, ctk
        self.app: Any = qSlicerApplication(self.folder, self._mrml)
        slicer.app = self.app

    def _startModules(self) -> None:
        slicer.modules = ModuleType("slicer.modules")
        for name, logic in self._mrml.logics.items():
            self.app.moduleManager().addCoreModule(name, logic)

    @property
    def testing(self) -> bool:
        """`slicer.app.testingEnabled()`: message boxes answer themselves."""
        return self.app.testingEnabled()

    @testing.setter
    def testing(self, enabled: bool) -> None:
        self.app.setTestingEnabled(enabled)

    def load_module(self, path: Path | None = None) -> Any:
        """Load a scripted module as the application does at its start; without a path, ours.

        Returns: the module object, as `slicer.modules.mambasegment`.
        """
        module = self.app.moduleManager().load(path or REPOSITORY / "MambaSegment" / "MambaSegment.py")
        self.app.startupCompleted.emit()
        return module

    def add_module_folder(self, folder: Path) -> None:
        """Let packages beside a module be imported, without the module; until the end of the test."""
        self.app.moduleManager().addFolder(folder)

    def enter(self, name: str) -> Any:
        """Show a module: its panel is built the first time. Returns the Python widget."""
        representation = slicer.util.getModule(name).widgetRepresentation()
        if not representation.isEntered:
            representation.show()
            representation.enter()
        self.process_events()
        return representation.self()

    def exit(self, name: str) -> None:
        """Leave a module for another."""
        representation = slicer.util.getModule(name).widgetRepresentation()
        if representation.isEntered:
            representation.exit()
            representation.hide()
        self.process_events()

    def close_scene(self) -> None:
        """As File / Close scene."""
        self.scene.Clear(False)
        self.process_events()

    def reload(self, name: str) -> Any:
        """As the button Reload of the developer tools. Returns the new Python widget."""
        slicer.util.getModule(name).widgetRepresentation().self().onReload()
        self.process_events()
        return slicer.util.getModule(name).widgetRepresentation().self()

    def unload(self, name: str) -> None:
        """As at the end of the application; `exit()` is not called before."""
        self.app.moduleManager().unload(name)
        self.process_events()

    def set_pip(self, program: str) -> None:
        """Python code that is run for `PythonSlicer -m pip …`, until the end of the test; without it pip fails."""
        self.launcher.setPip(program)

    def process_events(self, seconds: float = 0.0) -> None:
        """Let Qt work off what is due, for at least that time; deferred deletions too."""
        end = time.monotonic() + seconds
        while True:
            self.app.processEvents()
            self.app.sendPostedEvents(None, 52)  # QEvent::DeferredDelete, which processEvents leaves to an outer loop
            if time.monotonic() >= end:
                return
            time.sleep(0.002)

    def wait_until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Run the event loop until the condition holds; its value is returned.

        Raises: TimeoutError, with what was swallowed meanwhile.
        """
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"still waiting after {timeout_s} s; {failures or 'nothing was swallowed'}")
            self.process_events(0.005)
        return value

    def screenshot(self, widget: Any, path: Path, *, width: int | None = None) -> Path:
        """Save a picture of a widget as PNG, at another width if given."""
        widget.show()
        if width is not None:
            widget.resize(width, max(widget.sizeHint().height(), widget.layout().totalHeightForWidth(width)))
        self.process_events(0.02)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not widget.grab().save(str(path)):
            raise OSError(f"no picture could be written to {path}")
        return path

    def layout_faults(self, widget: Any) -> list[str]:
        """What the user could not read at the present size: texts that do not fit, widgets that lie over each other."""
        self.process_events()
        shown = [each for each in widget.findChildren(self.qt.QWidget) if each.isVisibleTo(widget)]
        clipped = [f"{_name(each)} is clipped: {each.text!r}" for each in shown if _isClipped(each, self.qt)]
        return clipped + [f"{_name(one)} lies over {_name(other)}" for one, other in _overlapping(shown)]

    def end_process(self, code: int) -> NoReturn:
        """End Python here and now: at a normal end Qt, VTK and MRML destroy each other in the wrong order."""
        shutil.rmtree(self.folder, ignore_errors=True)  # Windows keeps files that are still open
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def reset(self) -> None:
        """As new for the next test: no scripted module, empty scene and settings, nothing connected to `slicer.app`."""
        manager = self.app.moduleManager()
        for name in [
            name for name, module in manager.modules.items() if hasattr(module, "createNewWidgetRepresentation")
        ]:
            self.unload(name)
        for widget in self.app.topLevelWidgets():
            widget.close()
            widget.deleteLater()
        manager.forgetFolders()
        disconnectAll(self.app)
        disconnectAll(manager)
        self._mrml.reset()
        self.app.settings().clear()
        self.testing = True
        self.launcher.forgetPip()
        self.process_events()


def theHost() -> Host:
    """What `Testing.host.start()` gives."""
    if not _started:
        folder = Path(tempfile.mkdtemp(prefix="slicer-host-"))
        try:
            _started.append(Host(folder))
        except BaseException:
            shutil.rmtree(folder)
            raise
    return _started[0]


def _name(widget: Any) -> str:
    return f"{widget.className()} {widget.objectName}"


def _overlapping(shown: list[Any]) -> list[tuple[Any, Any]]:
    """Pairs of widgets that a layout has placed over each other."""
    laid_out = [each for each in shown if each.parentWidget().layout() is not None and not each.isWindow()]
    pairs = ((one, other) for index, one in enumerate(laid_out) for other in laid_out[index + 1 :])
    return [
        (one, other)
        for one, other in pairs
        if one.parentWidget() is other.parentWidget() and one.geometry.intersects(other.geometry)
    ]


def _isClipped(widget: Any, qt: Any) -> bool:
    if isinstance(widget, qt.QLabel):
        needed = widget.heightForWidth(widget.width) if widget.wordWrap else widget.sizeHint().height()
        return bool(widget.text) and (needed > widget.height or widget.minimumSizeHint().width() > widget.width)
    if isinstance(widget, (qt.QPushButton, qt.QCheckBox, qt.QRadioButton)):
        return widget.fontMetrics().horizontalAdvance(widget.text.replace("&", "")) > widget.width
    return False
