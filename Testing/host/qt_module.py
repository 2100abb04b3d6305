"""The flat module `qt`, made from PySide6 and made to behave as PythonQt does; its source is the dialect's fact sheet.

Not imitated: PythonQt's object lifetime, and setters that a C++-only widget lacks.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from PySide6.QtCore import QCoreApplication, QObject, QProcess, QSettings, QTimer

from Testing.host.qt_objects import installAttributeAccess
from Testing.host.qt_properties import asPythonQtReturns, installProperties
from Testing.host.qt_signals import connect
from Testing.host.ui_loader import UiLoader

_SOURCES = ("QtCore", "QtGui", "QtWidgets", "QtNetwork", "QtTest")
_FORBIDDEN = {
    **dict.fromkeys(("Signal", "Slot", "Property", "SignalInstance"), "Slicer's Python classes have no Qt signals"),
    **dict.fromkeys(_SOURCES, "PythonQt has one flat module"),
    "QSignalBlocker": "there is no dependable one; use blockSignals",
    "QThread": "Python threads stop while Slicer's event loop runs; use QProcess or QTimer",
}
# class → methods whose list arrives as a tuple
_LISTS = {
    "QObject": ("children", "findChildren", "dynamicPropertyNames"),
    "QWidget": ("actions",),
    "QSettings": ("allKeys", "childKeys", "childGroups"),
    "QTableWidget": ("selectedItems", "selectedRanges", "findItems"),
    "QListWidget": ("selectedItems", "findItems"),
    "QTreeWidget": ("selectedItems", "findItems"),
    "QItemSelectionModel": ("selectedIndexes", "selectedRows", "selectedColumns"),
    "QItemSelection": ("indexes",),
    "QFileDialog": ("selectedFiles",),
    "QDir": ("entryList", "entryInfoList"),
    "QProcess": ("arguments",),
    "QProcessEnvironment": ("keys", "toStringList"),
    "QMimeData": ("urls", "formats"),
    "QShortcut": ("keys",),
    "QAction": ("shortcuts",),
    "QButtonGroup": ("buttons",),
    "QSplitter": ("sizes",),
}
_STATIC_LISTS = {"QApplication": ("topLevelWidgets", "allWidgets"), "QCoreApplication": ("arguments", "libraryPaths")}
# PySide answers (value, chosen filter or ok); PythonQt only the value
_VALUE_ONLY = {
    "QFileDialog": ("getOpenFileName", "getOpenFileNames", "getSaveFileName"),
    "QInputDialog": ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"),
}


class _FlatModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        reason = _FORBIDDEN.get(name, "neither Qt 5 with PythonQt nor this host has it")
        raise AttributeError(f"qt.{name} cannot be used: {reason}")


def buildQtModule() -> ModuleType:
    """The module `qt`; PySide's classes are changed in place, for the whole process."""
    qt = _FlatModule("qt", "Qt as PythonQt shows it to Slicer's Python.")
    for source in _SOURCES:
        module = importlib.import_module(f"PySide6.{source}")
        for name in dir(module):
            if name.startswith("Q") and name not in _FORBIDDEN and not name.startswith("QT_"):
                setattr(qt, name, getattr(module, name))
    classes = [each for each in vars(qt).values() if isinstance(each, type)]
    _changeResults(qt)
    installProperties(each for each in classes if issubclass(each, QObject))
    installAttributeAccess(classes)
    for cls in classes:
        if hasattr(cls, "exec"):
            cls.exec_ = cls.exec  # type: ignore[attr-defined]
    _changeArguments()
    qt.QUiLoader = UiLoader  # type: ignore[attr-defined]
    return qt


def _changeResults(qt: ModuleType) -> None:
    for names, change, static in (
        (_LISTS, asPythonQtReturns, False),
        (_STATIC_LISTS, asPythonQtReturns, True),
        (_VALUE_ONLY, lambda result: asPythonQtReturns(result[0]), True),
    ):
        for className, methods in names.items():
            for method in methods:
                _wrap(getattr(qt, className), method, change, static=static)


def _wrap(cls: type, name: str, change: Any, *, static: bool) -> None:
    original = getattr(cls, name)

    def changed(*args: Any) -> Any:
        return change(original(*args))

    changed.__name__ = name
    setattr(cls, name, staticmethod(changed) if static else changed)


def _changeArguments() -> None:
    """str for bytes, timer calls whose exceptions are seen, and settings without PySide's `type=`."""
    write, value = QProcess.write, QSettings.value

    def writeTextOrBytes(self: QProcess, data: Any, *rest: Any) -> int:
        return write(self, data.encode() if isinstance(data, str) else data, *rest)

    def plainValue(self: QSettings, key: str, default: Any = None) -> Any:
        return asPythonQtReturns(value(self, key, default))

    QProcess.write = writeTextOrBytes  # type: ignore[method-assign,assignment]
    QTimer.singleShot = staticmethod(_singleShot)  # type: ignore[method-assign,assignment]
    QSettings.value = plainValue  # type: ignore[method-assign,assignment]


def _singleShot(msec: int, *target: Any) -> None:
    """`singleShot(msec, callable)` or `singleShot(msec, receiver, "slot()")`; holds the callable until it fires."""
    timer = QTimer(QCoreApplication.instance())
    timer.setSingleShot(True)
    connect(timer, "timeout()", *target)
    connect(timer, "timeout()", timer.deleteLater)
    timer.start(msec)
