"""The stand-ins for classes that Slicer adds to Qt, by name, and how they are written.

A stand-in keeps its own state under `self.__names`: those that the real class lacks are refused, see qt_objects.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Property

STAND_INS: dict[str, type] = {}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "QStringList": (list, tuple),
    "QVariant": (object,),
    "double": (int, float),
}


def standIn(cls: type) -> type:
    """Class decorator. One class a name: the parameter node compares types exactly."""
    assert cls.__name__ not in STAND_INS, cls
    STAND_INS[cls.__name__] = cls
    return cls


def stored(kind: Any, default: Any, changed: Callable[[Any], None] | None = None) -> Any:
    """A Qt property that remembers its value.

    Args:
        kind: a Python type, or the name of a Qt type of `_PYTHON_TYPES`.
        default: its value at first.
        changed: called with the object after another value was set.
    """
    key = object()  # each property its own
    accepted = _PYTHON_TYPES.get(kind, (kind,)) if isinstance(kind, str) else (kind,)

    def values(self: Any) -> dict[object, Any]:
        if "_host__values" not in self.__dict__:
            self.__dict__["_host__values"] = {}
        return self.__dict__["_host__values"]

    def get(self: Any) -> Any:
        return values(self).get(key, default)

    def set(self: Any, value: Any) -> None:
        if not isinstance(value, accepted):
            raise ValueError(
                f"{type(self).__name__}: {value!r} is no {kind if isinstance(kind, str) else kind.__name__}"
            )
        value = tuple(value) if kind == "QStringList" else value
        if value != get(self):
            values(self)[key] = value
            if changed is not None:
                changed(self)

    return Property(kind, get, set)
