"""Fields of a JSON object, taken out one by one; what is wrong is said with the name of the field."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError

_SHOWN = 80  # characters of a wrong value that a message repeats


class Fields:
    """One object of a document.

    Args:
        content: what JSON gave; refused unless it is an object.
        where: how messages call it, such as "segments[2]"; empty for the document itself.
    Raises:
        ConfigError: by every method, when a field is missing or of another kind than expected.
    """

    def __init__(self, content: Any, where: str = "") -> None:
        if not isinstance(content, Mapping):
            raise ConfigError(f"{where or 'the document'} is {shown(content)}; a JSON object is needed")
        self._content = content
        self._where = where

    def name(self, key: str) -> str:
        """How messages call a field."""
        return f"{self._where}.{key}" if self._where else key

    def text(self, key: str) -> str:
        return self._checked(key, lambda value: isinstance(value, str), "a text")

    def text_or_none(self, key: str) -> str | None:
        return None if self._value(key) is None else self.text(key)

    def flag(self, key: str) -> bool:
        return self._checked(key, lambda value: isinstance(value, bool), "true or false")

    def integer(self, key: str) -> int:
        return self._checked(key, is_integer, "a whole number")

    def number(self, key: str) -> float:
        return float(self._checked(key, is_number, "a finite number"))

    def number_or_none(self, key: str) -> float | None:
        return None if self._value(key) is None else self.number(key)

    def choice(self, key: str, known: Sequence[str]) -> str:
        return self._checked(key, lambda value: value in known, f"one of {', '.join(map(repr, known))}")

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        return tuple(map(float, self._list_of(key, count, is_number, f"a list of {count} finite numbers")))

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        return tuple(self._list_of(key, count, is_integer, f"a list of {count} whole numbers"))

    def mapping(self, key: str) -> dict[str, Any]:
        return dict(self._checked(key, lambda value: isinstance(value, Mapping), "a JSON object"))

    def inner(self, key: str) -> "Fields":
        return Fields(self._value(key), self.name(key))

    def inner_or_none(self, key: str) -> "Fields | None":
        return None if self._value(key) is None else self.inner(key)

    def each(self, key: str) -> list["Fields"]:
        """A list of objects."""
        items = self._checked(key, lambda value: isinstance(value, list), "a list")
        return [Fields(item, f"{self.name(key)}[{number}]") for number, item in enumerate(items)]

    def items(self, key: str) -> list[Any]:
        return list(self._checked(key, lambda value: isinstance(value, list), "a list"))

    def _value(self, key: str) -> Any:
        if key not in self._content:
            raise ConfigError(f"{self.name(key)} is missing")
        return self._content[key]

    def _list_of(self, key: str, count: int, fits: Callable[[Any], bool], expected: str) -> list[Any]:
        return self._checked(
            key, lambda value: isinstance(value, list) and len(value) == count and all(map(fits, value)), expected
        )

    def _checked(self, key: str, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self._value(key)
        if not fits(value):
            raise ConfigError(f"{self.name(key)} is {shown(value)}; {expected} is needed")
        return value


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
