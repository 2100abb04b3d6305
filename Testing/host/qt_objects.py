"""How attributes of Qt objects are found and set: signals, dynamic properties, named children, and nothing new."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import shiboken6
from PySide6.QtCore import Property, QObject, SignalInstance

from Testing.host import qt_signals
from Testing.host.registry import STAND_INS

_qtGetattribute = QObject.__getattribute__
_ValueClass = shiboken6.Shiboken.Object
_PRIVATE = re.compile(r"_\w+?__\w+")  # how Python spells `self.__x` of a class: the stand-ins' own state


def installAttributeAccess(classes: Iterable[type]) -> None:
    """On every Qt class: each has its own C slots, so that what QObject gets does not reach them all."""
    QObject.className = _className  # type: ignore[attr-defined]
    # before the first is replaced: QFile and others resolve methods that are static and not static in theirs
    originals = {cls: cls.__getattribute__ for cls in (_ValueClass, *classes)}
    for cls, original in originals.items():
        if issubclass(cls, QObject):
            cls.__getattribute__ = _getattributeAfter(original)  # type: ignore[method-assign,assignment]
            cls.__setattr__ = _setattr  # type: ignore[method-assign,assignment]
        elif issubclass(cls, _ValueClass):
            cls.__setattr__ = _setattrOfValue  # type: ignore[method-assign,assignment]


def _getattributeAfter(original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def getattribute(self: QObject, name: str) -> Any:
        if name == "connect":
            return lambda *args: qt_signals.connect(self, *args)
        if name == "disconnect":
            return lambda *args: qt_signals.disconnect(self, *args)
        try:
            value = original(self, name)
        except AttributeError:
            return _dynamicAttribute(self, name)
        if isinstance(value, SignalInstance):
            return qt_signals.BoundSignal(self, name, value)
        # a stand-in's property of a list type; its own state stays a list
        return tuple(value) if isinstance(value, list) and not _PRIVATE.fullmatch(name) else value

    return getattribute


def _dynamicAttribute(self: QObject, name: str) -> Any:
    onClass = getattr(type(self), name, None)
    if isinstance(onClass, Enum):  # box.Ok
        return onClass
    if not name.startswith("__") and shiboken6.isValid(self):
        if name.encode() in [bytes(each) for each in _qtGetattribute(self, "dynamicPropertyNames")()]:
            return _qtGetattribute(self, "property")(name)
        for child in _qtGetattribute(self, "children")():
            if _qtGetattribute(child, "objectName") == name:
                return child
    raise AttributeError(f"{type(self).__name__} object has no attribute {name!r}")


def _setattr(self: QObject, name: str, value: Any) -> None:
    found = _classProperty(type(self), name)
    if isinstance(found, Property):  # of a stand-in; it is no Python descriptor
        if found.fset is None:
            raise AttributeError(f"property {name} of {type(self).__name__} is read-only")
        found.fset(self, value)
    elif found is not None or _PRIVATE.fullmatch(name) or not isCppClass(type(self)):
        object.__setattr__(self, name, value)
    elif name.encode() in [bytes(each) for each in self.dynamicPropertyNames()]:
        self.setProperty(name, value)
    elif isinstance(value, SignalInstance):  # PySide itself, for objects that C++ made
        object.__setattr__(self, name, value)
    elif isinstance(value, QObject) and value.objectName == name:
        pass  # PySide's loader of .ui files; the child is found by its name anyway
    else:
        raise AttributeError(
            f"{type(self).__name__} is a C++ class: it has no property {name!r} and takes no new names"
        )


def _setattrOfValue(self: Any, name: str, value: Any) -> None:
    if isCppClass(type(self)):
        raise AttributeError(f"{type(self).__name__} has no properties and takes no new names; call its setter")
    object.__setattr__(self, name, value)


def isCppClass(cls: type) -> bool:
    """Classes of Qt, and the host's stand-ins for classes that are C++ in Slicer."""
    return cls.__module__.startswith("PySide6.") or STAND_INS.get(cls.__name__) is cls


def _classProperty(cls: type, name: str) -> Any:
    found = (base.__dict__[name] for base in cls.__mro__ if name in base.__dict__)
    return next((each for each in found if isinstance(each, (property, Property))), None)


def _className(self: QObject) -> str:
    """The C++ class: a Python sub-class is called as its nearest C++ base."""
    return next(cls.__name__ for cls in type(self).__mro__ if isCppClass(cls))
