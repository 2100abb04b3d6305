"""`slicer.app`: a QApplication with what Slicer adds to it, as far as a module without main window meets it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PySide6.QtCore import QCoreApplication, QProcessEnvironment, QSettings, Signal
from PySide6.QtWidgets import QApplication

from Testing.host.io_manager import CoreIOManager
from Testing.host.module_manager import ModuleManager
from Testing.host.registry import standIn, stored

VERSION = (5, 12)


@standIn
class qSlicerApplication(QApplication):
    """There is no main window and no layout manager, as under `--no-main-window`."""

    startupCompleted = Signal()

    majorVersion = stored(int, VERSION[0])
    minorVersion = stored(int, VERSION[1])
    revision = stored(str, "stand-in host")
    temporaryPath = stored(str, "")
    slicerHome = stored(str, "")
    documentationBaseUrl = stored(str, "https://slicer.readthedocs.io")

    def __init__(self, folder: Path, mrml: Any) -> None:
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder / "settings"))
        QCoreApplication.setOrganizationName("StandInHost")
        QCoreApplication.setApplicationName("Slicer")
        super().__init__(["Slicer"])
        self.__mrml = mrml
        self.__moduleManager = ModuleManager(self)
        self.__coreIOManager = CoreIOManager(mrml)
        self.__testing = True
        self.__pausedRenders = 0
        self.__settings = QSettings()
        self.__options = SimpleNamespace(noMainWindow=True, runPythonAndExit=False)
        self.temporaryPath = mrml.applicationLogic.GetTemporaryPath()
        self.slicerHome = str(folder)

    def mrmlScene(self) -> Any:
        return self.__mrml.scene

    def applicationLogic(self) -> Any:
        return self.__mrml.applicationLogic

    def moduleManager(self) -> ModuleManager:
        return self.__moduleManager

    def coreIOManager(self) -> CoreIOManager:
        return self.__coreIOManager

    ioManager = coreIOManager

    def moduleLogic(self, name: str) -> Any:
        return self.__mrml.logics.get(name)

    def settings(self) -> QSettings:
        return self.__settings

    userSettings = revisionUserSettings = settings

    def commandOptions(self) -> SimpleNamespace:
        return self.__options

    def startupEnvironment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def testingEnabled(self) -> bool:
        """True: message boxes do not wait for anybody. `host.testing = False` for a test that answers them itself."""
        return self.__testing

    def setTestingEnabled(self, enabled: bool) -> None:  # not in Slicer, where the command line decides
        self.__testing = enabled

    def translate(self, _context: str, text: str, _disambiguation: str | None = None, _n: int = -1) -> str:
        return text

    def layoutManager(self) -> None:
        return None

    def mainWindow(self) -> None:
        return None

    def pauseRender(self) -> int:
        self.__pausedRenders += 1
        return self.__pausedRenders

    def resumeRender(self) -> int:
        self.__pausedRenders -= 1
        return self.__pausedRenders

    def setRenderPaused(self, pause: bool) -> None:
        _ = self.pauseRender() if pause else self.resumeRender()

    def restart(self) -> None:
        raise RuntimeError("slicer.app.restart() was called: the application would end here")

    def exit(self, status: int = 0) -> None:
        raise RuntimeError(f"slicer.app.exit({status}) was called: the application would end here")
