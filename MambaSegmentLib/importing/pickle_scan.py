"""What a pickle would do, found out without doing it.

The opcodes are followed on symbols: a call becomes a `Call`, a reference to a class or function a `Global`. Nothing is
imported or created. Source of the opcodes: Python's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..errors import BundleError

_LONGEST_TEXT = 120
_DEEPEST = 4


@dataclass(frozen=True)
class Global:
    """A class or function by its full name."""

    name: str


@dataclass(frozen=True)
class Persistent:
    """What lies outside the pickle; torch's tensors keep their data so."""

    key: Any


@dataclass(frozen=True, eq=False)
class Call:
    """A function that the pickle would call."""

    function: Any
    arguments: Any


@dataclass
class Scan:
    """Everything of interest, in the order of the file.

    Attributes:
        value: what the last pickle would give, as symbols; containers are empty.
    """

    globals: list[Global] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    persistent: list[Persistent] = field(default_factory=list)
    value: Any = None


class _Mark:
    """The start of a group on the stack."""


class _Opaque:
    """A container, whose content does not matter here."""


def scan_pickle(stream: BinaryIO, scan: Scan | None = None) -> Scan:
    """Follow one pickle, from where the stream is; afterwards the stream is behind it.

    Args:
        scan: to be added to, for a file of several pickles.
    Raises:
        BundleError: not a pickle, or a damaged one.
    """
    machine = _Machine(scan or Scan())
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, UnicodeError, OverflowError) as problem:
        raise BundleError(f"it is no pickle, or it is damaged or cut off ({problem or type(problem).__name__})") from (
            problem
        )
    return machine.scan


def shown(value: Any, depth: int = 0) -> str:
    """A symbol as a person reads it, shortened."""
    if isinstance(value, Global):
        return value.name
    if isinstance(value, Call):
        arguments = value.arguments if isinstance(value.arguments, tuple) else (value.arguments,)
        return f"{shown(value.function, depth + 1)}({_listed(arguments, depth)})"
    if isinstance(value, tuple):
        return f"({_listed(value, depth)})"
    if isinstance(value, Persistent | _Opaque | _Mark):
        return "…"
    text = ascii(value)  # control characters of a hostile file must not reach a terminal
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _listed(values: tuple[Any, ...], depth: int) -> str:
    if depth >= _DEEPEST:
        return "…"
    return ", ".join([shown(value, depth + 1) for value in values[:4]] + ["…"] * (len(values) > 4))


class _Machine:
    """The stack and the memory of an unpickler, on symbols."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise ValueError(f"unexpected instruction {name}")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self, count: int = 1) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise IndexError("instructions out of order")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        return values

    def pop_group(self) -> tuple[Any, ...]:
        """Everything back to the last mark, which goes too."""
        place = len(self._stack) - 1
        while not isinstance(self._stack[place], _Mark):
            place -= 1
            if place < 0:
                raise IndexError("a group without a start")
        values = tuple(self._stack[place + 1 :])
        del self._stack[place:]
        return values

    def drop(self, count: int) -> None:
        self.pop(count)

    def drop_group(self) -> None:
        self.pop_group()

    def collect(self) -> None:
        """A container of a group."""
        self.pop_group()
        self.push(_Opaque())

    def duplicate(self) -> None:
        self.push(self._stack[-1])

    def refer(self, module: Any, name: Any) -> None:
        entry = Global(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?")
        self.scan.globals.append(entry)
        self.push(entry)

    def call(self, function: Any, arguments: Any) -> None:
        entry = Call(function, arguments)
        self.scan.calls.append(entry)
        self.push(entry)

    def fetch_outside(self, key: Any) -> None:
        entry = Persistent(key)
        self.scan.persistent.append(entry)
        self.push(entry)

    def remember(self, place: int | None) -> None:
        self._memory[len(self._memory) if place is None else int(place)] = self._stack[-1]

    def recall(self, place: Any) -> None:
        self.push(self._memory[int(place)])

    def begin_instance(self, text: str) -> None:
        """The oldest way to write an object: INST."""
        arguments = self.pop_group()
        self.refer(*text.split(" ", 1))
        self.call(self.pop()[0], arguments)

    def object_of_group(self) -> None:
        function, *arguments = self.pop_group()
        self.call(function, tuple(arguments))

    def finish(self) -> None:
        self.scan.value = self.pop()[0]


_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_Mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(machine.pop_group()),
    "TUPLE1": lambda machine, _: machine.push(machine.pop(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.pop(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.pop(3)),
    "EMPTY_LIST": lambda machine, _: machine.push(_Opaque()),
    "EMPTY_DICT": lambda machine, _: machine.push(_Opaque()),
    "EMPTY_SET": lambda machine, _: machine.push(_Opaque()),
    "LIST": lambda machine, _: machine.collect(),
    "DICT": lambda machine, _: machine.collect(),
    "FROZENSET": lambda machine, _: machine.collect(),
    "APPEND": lambda machine, _: machine.drop(1),
    "APPENDS": lambda machine, _: machine.drop_group(),
    "SETITEM": lambda machine, _: machine.drop(2),
    "SETITEMS": lambda machine, _: machine.drop_group(),
    "ADDITEMS": lambda machine, _: machine.drop_group(),
    "BUILD": lambda machine, _: machine.drop(1),
    "POP": lambda machine, _: machine.drop(1),
    "POP_MARK": lambda machine, _: machine.drop_group(),
    "DUP": lambda machine, _: machine.duplicate(),
    "GLOBAL": lambda machine, text: machine.refer(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.refer(*machine.pop(2)),
    "INST": lambda machine, text: machine.begin_instance(text),
    "OBJ": lambda machine, _: machine.object_of_group(),
    "REDUCE": lambda machine, _: machine.call(*machine.pop(2)),
    "NEWOBJ": lambda machine, _: machine.call(*machine.pop(2)),
    "NEWOBJ_EX": lambda machine, _: machine.call(*machine.pop(3)[:2]),
    "BINPERSID": lambda machine, _: machine.fetch_outside(machine.pop(1)[0]),
    "PERSID": lambda machine, text: machine.fetch_outside(text),
    "PUT": lambda machine, place: machine.remember(place),
    "BINPUT": lambda machine, place: machine.remember(place),
    "LONG_BINPUT": lambda machine, place: machine.remember(place),
    "MEMOIZE": lambda machine, _: machine.remember(None),
    "GET": lambda machine, place: machine.recall(place),
    "BINGET": lambda machine, place: machine.recall(place),
    "LONG_BINGET": lambda machine, place: machine.recall(place),
    "STOP": lambda machine, _: machine.finish(),
}
