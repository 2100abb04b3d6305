"""Qt properties as Python attributes, as PythonQt has them: `label.text = "x"`, `box.checked`, `widget.visible`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import BuiltinFunctionType
from typing import Any

from PySide6.QtCore import QObject

# Virtual methods in C++: Qt's own layout and paint code asks for the Python override of that name, which a property
# would answer with a value instead of a method. Panel code should use neither form of them.
_VIRTUAL = {("QWidget", "sizeHint"), ("QWidget", "minimumSizeHint"), ("QProgressBar", "text")}
_VIRTUAL |= {("QVariantAnimation", "duration")}
_STAY_METHODS = {("QTimer", "singleShot")}  # a static method too, which is what everybody means


def installProperties(classes: Iterable[type]) -> None:
    """Base classes first, each once: a class finds its own C++ methods before a property hides them."""
    done: set[type] = set()
    for cls in classes:
        for base in reversed(cls.__mro__):
            if base not in done and isinstance(base, type) and issubclass(base, QObject):
                done.add(base)
                _installOn(base)
    QObject.name = QObject.objectName


def _installOn(cls: Any) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if (cls.__name__, name) not in _VIRTUAL | _STAY_METHODS:
            setattr(cls, name, property(_getter(cls, name), _setter(cls, name)))
    for name, own in list(vars(cls).items()):  # QBoxLayout overrides the method spacing() of QLayout's property
        if not isinstance(own, property) and any(
            isinstance(vars(base).get(name), property) for base in cls.__mro__[1:]
        ):
            setattr(cls, name, property(_getter(cls, name), _setter(cls, name)))


def _method(cls: type, name: str) -> Callable[..., Any] | None:
    found = getattr(cls, name, None)
    return found if callable(found) and not isinstance(found, property) else None


def _getter(cls: type, name: str) -> Callable[[Any], Any]:
    capital = name[0].upper() + name[1:]
    original = _method(cls, name) or _method(cls, f"is{capital}") or _method(cls, f"has{capital}")
    if original is None:
        return lambda self: asPythonQtReturns(self.property(name))
    if isinstance(original, BuiltinFunctionType):  # static, as the application's name
        return lambda _self: asPythonQtReturns(original())
    return lambda self: asPythonQtReturns(original(self))


def _setter(cls: type, name: str) -> Callable[[Any, Any], None]:
    original = _method(cls, f"set{name[0].upper()}{name[1:]}")

    def bySetter(self: Any, value: Any) -> None:
        try:
            _ = original(value) if isinstance(original, BuiltinFunctionType) else original(self, value)  # type: ignore[misc]
        except TypeError as error:
            raise ValueError(f"{cls.__name__}.{name} does not take {value!r}: {error}") from error

    def byName(self: Any, value: Any) -> None:
        if not self.setProperty(name, value):
            raise AttributeError(f"property {name} of {cls.__name__} is read-only or does not take {value!r}")

    return byName if original is None else bySetter


def asPythonQtReturns(value: Any) -> Any:
    """Lists of Qt (QStringList, QList<…>) arrive as tuples."""
    return tuple(value) if isinstance(value, list) else value
