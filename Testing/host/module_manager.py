"""Modules as Slicer keeps them: core modules with a logic, scripted ones with the Python classes of their file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout

from Testing.host.mrml_widgets import qMRMLWidget
from Testing.host.registry import standIn, stored


class CoreModule:
    """A module of Slicer itself: a name and a logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self.title, self.path = name, name, ""
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> None:
        return None


@standIn
class qSlicerScriptedLoadableModule(QObject):
    """What the module class gets as `parent`."""

    title = stored(str, "")
    categories = stored("QStringList", ())
    dependencies = stored("QStringList", ())
    contributors = stored("QStringList", ())
    associatedNodeTypes = stored("QStringList", ())
    helpText = stored(str, "")
    acknowledgementText = stored(str, "")
    defaultDocumentationLink = stored(str, "")
    icon = stored("QVariant", QIcon())
    hidden = stored(bool, False)
    index = stored(int, -1)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.__path = path
        self.__widget: qSlicerScriptedLoadableModuleWidget | None = None
        self.__logic = slicer.vtkSlicerScriptedLoadableModuleLogic()
        self.__logic.SetMRMLScene(slicer.mrmlScene)

    name = Property(str, lambda self: self.__path.stem)
    path = Property(str, lambda self: str(self.__path))

    def logic(self) -> Any:
        return self.__logic

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        """The module's panel, built when it is first asked for."""
        if self.__widget is None:
            self.__widget = self.createNewWidgetRepresentation()
        return self.__widget

    def createNewWidgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        widget = qSlicerScriptedLoadableModuleWidget(self.name)
        widget.reload()
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    def hasWidget(self) -> bool:  # not in Slicer; the host asks
        return self.__widget is not None

    def forgetWidget(self) -> None:  # not in Slicer; unloading ends the application there
        self.__widget = None


@standIn
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The C++ widget around the Python class: its `parent`, and its `layout` is the parent's."""

    def __init__(self, moduleName: str) -> None:
        super().__init__()
        QVBoxLayout(self)
        self.setObjectName(f"{moduleName}ModuleWidget")
        self.__moduleName = moduleName
        self.__python: Any = None
        self.__entered = False

    isEntered = Property(bool, lambda self: self.__entered)

    def self(self) -> Any:
        return self.__python

    def reload(self) -> None:
        """A new Python widget, from the file as it is in `sys.modules` now."""
        cls = getattr(sys.modules[self.__moduleName], f"{self.__moduleName}Widget")
        self.__python = cls(self)
        setattr(slicer.modules, f"{self.__moduleName}Widget", self.__python)
        self.__python.setup()

    def enter(self) -> None:
        self.__entered = True
        self.__python.enter()

    def exit(self) -> None:
        self.__entered = False
        self.__python.exit()

    def setEditedNode(self, node: Any, role: str = "", context: str = "") -> bool:
        done = self.__python.setEditedNode(node, role, context)
        if not isinstance(done, bool):
            raise TypeError(f"setEditedNode must return bool, not {done!r}")
        return done

    def nodeEditable(self, node: Any) -> float:
        confidence = self.__python.nodeEditable(node)
        if not isinstance(confidence, float):
            raise TypeError(f"nodeEditable must return float, not {confidence!r}")
        return confidence


class ModuleManager(QObject):
    """`slicer.app.moduleManager()`."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.modules: dict[str, Any] = {}
        self.__folders: list[Path] = []

    def module(self, name: str) -> Any:
        return self.modules.get(name)

    def modulesNames(self) -> tuple[str, ...]:
        return tuple(self.modules)

    def factoryManager(self) -> SimpleNamespace:
        return SimpleNamespace(loadedModuleNames=self.modulesNames)

    def addCoreModule(self, name: str, logic: Any) -> None:
        self.modules[name] = CoreModule(name, logic)
        setattr(slicer.modules, name.lower(), self.modules[name])

    def load(self, path: Path) -> qSlicerScriptedLoadableModule:
        """Run the file under its base name and instantiate the class of that name, as at the start of Slicer."""
        name = path.stem
        self.addFolder(path.parent)
        python = _imported(name, path)
        module = qSlicerScriptedLoadableModule(path)
        instance = getattr(python, name)(module)
        missing = [each for each in module.dependencies if each not in self.modules]
        if missing:
            raise RuntimeError(f"{name} depends on modules that are not loaded: {', '.join(missing)}")
        self.modules[name] = module
        setattr(slicer.modules, f"{name}Instance", instance)
        setattr(slicer.modules, name.lower(), module)
        if hasattr(instance, "setup"):
            instance.setup()
        self.moduleLoaded.emit(name)
        return module

    def unload(self, name: str) -> None:
        """As at the end of Slicer: `cleanup()` of the panel, then everything of the module is forgotten."""
        module = self.modules.pop(name)
        self.moduleAboutToBeUnloaded.emit(name)
        if module.hasWidget():
            widget = module.widgetRepresentation()
            module.forgetWidget()
            widget.setMRMLScene(None)
            widget.deleteLater()
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            if hasattr(slicer.modules, attribute):
                delattr(slicer.modules, attribute)
        self.forgetFolders([Path(module.path).parent])
        module.deleteLater()

    def addFolder(self, folder: Path) -> None:  # not in Slicer, nor the next
        """Make a module's folder importable, as loading it does."""
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        self.__folders.append(folder)

    def forgetFolders(self, folders: Iterable[Path] | None = None) -> None:
        """Unlearn these folders, or all that were added, and everything that was imported from them."""
        gone = set(self.__folders if folders is None else folders)
        for name, python in list(sys.modules.items()):
            file = getattr(python, "__file__", None)
            if file is not None and gone & set(Path(file).parents):
                del sys.modules[name]
        sys.path[:] = [each for each in sys.path if Path(each) not in gone]
        self.__folders = [each for each in self.__folders if each not in gone]


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    python = importlib.util.module_from_spec(spec)
    sys.modules[name] = python
    spec.loader.exec_module(python)
    return python
