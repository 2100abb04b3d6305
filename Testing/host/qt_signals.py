"""Signals as PythonQt has them: `obj.connect("sig(args)", f)`, `obj.sig.connect(f)`, and what a handler receives.

Stricter than PythonQt in one thing: a signature that the object does not have raises, where PythonQt prints a line
and returns False.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import shiboken6
from PySide6.QtCore import QMetaMethod, QMetaObject, QObject

from Testing.host.failures import failures
from Testing.host.qt_properties import asPythonQtReturns

_qtConnect, _qtDisconnect = QObject.connect, QObject.disconnect


@dataclass(frozen=True)
class _Connection:
    """What to look for when the same callable is disconnected."""

    signature: str
    target: Any
    handle: Any


# by the address of the C++ sender: Python wrappers come and go
_connections: dict[int, list[_Connection]] = {}


def connect(sender: QObject, signature: str, *target: Any) -> bool:
    """`connect("sig(args)", callable)` or `connect("sig(args)", receiver, "slot(args)")`.

    Raises: ValueError, when the sender has no such signal or the receiver no such slot.
    """
    normalized = _normalized(signature)
    qtSignature = _qtSignature(sender, normalized)
    if len(target) == 2:
        handle = _connectToSlot(sender, qtSignature, *target)
        key: Any = (shiboken6.getCppPointer(target[0])[0], _normalized(target[1]))
    elif len(target) == 1 and callable(target[0]):
        key = target[0]
        handle = _qtConnect(sender, f"2{qtSignature}", _handler(key, qtSignature, sender))
    else:
        raise TypeError(f"connect({signature!r}, …) takes a callable, or an object and a slot, not {target!r}")
    if not handle:
        raise ValueError(f"Qt could not connect {signature} of {sender.metaObject().className()}")
    _of(sender).append(_Connection(qtSignature, key, handle))
    return True


def disconnect(sender: QObject, signature: str, *target: Any) -> bool:
    """Undo `connect` with the same arguments; False where there was none."""
    qtSignature = _qtSignature(sender, _normalized(signature))
    key: Any = target[0] if len(target) == 1 else None
    if len(target) == 2:
        key = (shiboken6.getCppPointer(target[0])[0], _normalized(target[1]))
    mine = _of(sender)
    found = [each for each in mine if each.signature == qtSignature and (key is None or each.target == key)]
    for each in found:
        _qtDisconnect(each.handle)
        mine.remove(each)
    return bool(found)


def disconnectAll(sender: QObject) -> None:
    """Undo everything that Python connected to the sender."""
    for each in _of(sender):
        _qtDisconnect(each.handle)
    _of(sender).clear()


class BoundSignal:
    """`button.clicked`; stands for the first overload of that name."""

    def __init__(self, sender: QObject, name: str, instance: Any) -> None:
        self._sender, self._name, self._instance = sender, name, instance

    def connect(self, target: Callable[..., Any]) -> bool:
        return connect(self._sender, self._first(), target)

    def disconnect(self, target: Callable[..., Any]) -> bool:
        return disconnect(self._sender, self._first(), target)

    def emit(self, *args: Any) -> None:
        self._instance.emit(*args)

    __call__ = emit

    def __getitem__(self, types: Any) -> BoundSignal:
        """One overload; the real PythonQt has no such access, so only the stand-ins themselves use it."""
        return BoundSignal(self._sender, self._name, self._instance[types])

    def _first(self) -> str:
        real = [known for known, _qt in _signalsOf(self._sender) if known.partition("(")[0] == self._name]
        return real[0]


def _handler(target: Callable[..., Any], signature: str, sender: QObject) -> Callable[..., None]:
    count = _argumentCount(signature)
    where = f"{getattr(target, '__qualname__', target)} on {sender.metaObject().className()}.{signature}"

    def call(*args: Any) -> None:
        target(*_cut(target, [asPythonQtReturns(value) for value in args[:count]]))

    return failures.guarded(call, where)


def _cut(target: Callable[..., Any], args: list[Any]) -> list[Any]:
    """Python functions get as many arguments as they have parameters; everything else gets all."""
    function = target.__func__ if isinstance(target, MethodType) else target
    if not isinstance(function, FunctionType) or function.__code__.co_flags & inspect.CO_VARARGS:
        return args
    return args[: function.__code__.co_argcount - isinstance(target, MethodType)]


def _connectToSlot(sender: QObject, qtSignature: str, receiver: QObject, slot: str) -> Any:
    normalized = _normalized(slot)
    if receiver.metaObject().indexOfSlot(normalized) >= 0:
        return _qtConnect(sender, f"2{qtSignature}", receiver, f"1{normalized}")
    method = getattr(receiver, normalized.partition("(")[0], None)  # a stand-in's slot is a Python method
    if method is None or _isPlainQt(receiver):
        raise ValueError(f"{receiver.metaObject().className()} has no slot {normalized}")
    count = min(_argumentCount(normalized), _argumentCount(qtSignature))
    handler = failures.guarded(lambda *args: method(*args[:count]), f"slot {normalized}")
    return _qtConnect(sender, f"2{qtSignature}", handler)


def _isPlainQt(receiver: QObject) -> bool:
    return type(receiver).__module__.startswith("PySide6")


def _signalsOf(sender: QObject) -> list[tuple[str, str]]:
    """(signature in Slicer, signature in PySide) of every signal; they differ where a stand-in passes a VTK object."""
    meta = sender.metaObject()
    methods = (meta.method(index) for index in range(meta.methodCount()))
    own = [
        _text(method.methodSignature()) for method in methods if method.methodType() == QMetaMethod.MethodType.Signal
    ]
    renamed: dict[str, str] = getattr(type(sender), "slicerSignatures", {})
    hidden = set(renamed.values())
    return [*renamed.items(), *((signature, signature) for signature in own if signature not in hidden)]


def _qtSignature(sender: QObject, normalized: str) -> str:
    known = dict(_signalsOf(sender))
    if normalized not in known:
        name = normalized.partition("(")[0]
        near = [each for each in known if each.startswith(name)] or sorted(known)
        raise ValueError(
            f"{sender.metaObject().className()} has no signal {normalized!r}; it has {', '.join(map(repr, near))}"
        )
    return known[normalized]


def _of(sender: QObject) -> list[_Connection]:
    """The sender's connections; forgotten with the sender, as its address may be given to another object."""
    address = shiboken6.getCppPointer(sender)[0]
    if address not in _connections:
        _connections[address] = []
        _qtConnect(sender, "2destroyed()", lambda: _connections.pop(address, None))
    return _connections[address]


def _normalized(signature: str) -> str:
    return _text(QMetaObject.normalizedSignature(signature))


def _argumentCount(signature: str) -> int:
    inside = signature.partition("(")[2].rpartition(")")[0]
    return inside.count(",") + 1 if inside else 0


def _text(raw: Any) -> str:
    return bytes(raw).decode()
