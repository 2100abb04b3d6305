"""How values of each type are kept as text in a vtkMRMLScriptedModuleNode, and which values the types accept."""

import enum
import pathlib
import typing
from collections import UserDict, UserList

import qt

from . import packs
from .annotations import isNode, isUnion, unannotatedType


class Serializer:
    """Base: `cached` says whether a field of this type keeps a Python copy."""

    cached = True

    def default(self):
        return None

    def check(self, value):
        """Raise TypeError or ValueError for what this type does not accept."""

    def isIn(self, node, name):
        return bool(node.HasParameter(name))

    def write(self, node, name, value):
        raise NotImplementedError

    def read(self, node, name, save=None):
        """The value; `save(value)` is called by observed containers after each change."""
        raise NotImplementedError

    def remove(self, node, name):
        node.UnsetParameter(name)


class Text(Serializer):
    """One text for one value."""

    def __init__(self, kind, accepted, default, toText, fromText, cached=True):
        self.kind, self.accepted, self.first = kind, accepted, default
        self.toText, self.fromText, self.cached = toText, fromText, cached

    def default(self):
        return self.first

    def check(self, value):
        if value is None:
            raise ValueError(f"None is no {self.kind.__name__}")
        if not isinstance(value, self.accepted):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.kind.__name__}")

    def write(self, node, name, value):
        node.SetParameter(name, self.toText(value))

    def read(self, node, name, save=None):
        return self.fromText(node.GetParameter(name))


class Node(Serializer):
    """An empty text, and the node reference of the same name."""

    def __init__(self, kind):
        self.kind = kind

    def check(self, value):
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.kind.__name__}")

    def write(self, node, name, value):
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name, save=None):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class NoneOnly(Serializer):
    def check(self, value):
        if value is not None:
            raise TypeError(f"{value!r} is not None")

    def write(self, node, name, value):
        node.SetParameter(name, "None")

    def read(self, node, name, save=None):
        return None


class OneOf(Serializer):
    """A union: the first member that accepts the value; its place is part of the name."""

    def __init__(self, members):
        self.members = [serializerOf(each) for each in members]
        self.optional = type(None) in members and len(members) == 2
        self.cached = all(each.cached for each in self.members)

    def default(self):
        return None if self.optional else self.members[0].default()

    def check(self, value):
        self._memberFor(value)

    def isIn(self, node, name):
        return any(each.isIn(node, f"{name}.{index}") for index, each in enumerate(self.members))

    def write(self, node, name, value):
        chosen = self._memberFor(value)
        for index, each in enumerate(self.members):
            if each is chosen:
                each.write(node, f"{name}.{index}", value)
            elif each.isIn(node, f"{name}.{index}"):
                each.remove(node, f"{name}.{index}")

    def read(self, node, name, save=None):
        for index, each in enumerate(self.members):
            if each.isIn(node, f"{name}.{index}"):
                return each.read(node, f"{name}.{index}", save)
        return self.default()

    def remove(self, node, name):
        for index, each in enumerate(self.members):
            each.remove(node, f"{name}.{index}")

    def _memberFor(self, value):
        for each in self.members:
            try:
                each.check(value)
            except (TypeError, ValueError):
                continue
            return each
        raise TypeError(f"{value!r} fits none of the types of the union")


class Sequence(Serializer):
    """A list: its length, then each item."""

    def __init__(self, item):
        self.item = serializerOf(item)
        self.cached = self.item.cached

    def default(self):
        return []

    def check(self, value):
        if not isinstance(value, (list, tuple, UserList)):
            raise TypeError(f"{value!r} is no list")
        for each in value:
            self.item.check(each)

    def isIn(self, node, name):
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node, name, value):
        self.check(value)
        before = int(node.GetParameter(f"{name}.len") or 0)
        for index in range(len(value), before):
            self.item.remove(node, f"{name}.{index}")
        node.SetParameter(f"{name}.len", str(len(value)))
        for index, each in enumerate(value):
            self.item.write(node, f"{name}.{index}", each)

    def read(self, node, name, save=None):
        length = int(node.GetParameter(f"{name}.len"))
        return ObservedList([self.item.read(node, f"{name}.{index}") for index in range(length)], save)

    def remove(self, node, name):
        for index in range(int(node.GetParameter(f"{name}.len") or 0)):
            self.item.remove(node, f"{name}.{index}")
        node.UnsetParameter(f"{name}.len")


class Fixed(Serializer):
    """A tuple of given types, or the members of a pack."""

    def __init__(self, parts):
        self.parts = {name: serializerOf(kind) for name, kind in parts.items()}
        self.cached = all(each.cached for each in self.parts.values())

    def default(self):
        return tuple(each.default() for each in self.parts.values())

    def values(self, value):
        if not isinstance(value, tuple) or len(value) != len(self.parts):
            raise ValueError(f"{value!r} is no tuple of {len(self.parts)}")
        return value

    def check(self, value):
        for each, part in zip(self.values(value), self.parts.values(), strict=True):
            part.check(each)

    def isIn(self, node, name):
        return all(part.isIn(node, f"{name}.{key}") for key, part in self.parts.items())

    def write(self, node, name, value):
        for each, (key, part) in zip(self.values(value), self.parts.items(), strict=True):
            part.write(node, f"{name}.{key}", each)

    def read(self, node, name, save=None):
        return tuple(part.read(node, f"{name}.{key}") for key, part in self.parts.items())

    def remove(self, node, name):
        for key, part in self.parts.items():
            part.remove(node, f"{name}.{key}")


class Pack(Fixed):
    """A parameterPack: every member under its name."""

    def __init__(self, cls):
        super().__init__(packs.members(cls))
        self.cls = cls

    def default(self):
        return self.cls()

    def values(self, value):
        if not isinstance(value, self.cls):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.cls.__name__}")
        return [getattr(value, key) for key in self.parts]

    def read(self, node, name, save=None):
        return packs.observed(self.cls, super().read(node, name), save)


class Mapping(Serializer):
    """A dict, as a list of pairs."""

    def __init__(self, key, value):
        self.pairs = Sequence(tuple[key, value])
        self.cached = self.pairs.cached

    def default(self):
        return {}

    def check(self, value):
        if not isinstance(value, (dict, UserDict)):
            raise TypeError(f"{value!r} is no dict")
        self.pairs.check(list(value.items()))

    def isIn(self, node, name):
        return self.pairs.isIn(node, name)

    def write(self, node, name, value):
        self.check(value)
        self.pairs.write(node, name, list(value.items()))

    def read(self, node, name, save=None):
        return ObservedDict(dict(self.pairs.read(node, name)), save)

    def remove(self, node, name):
        self.pairs.remove(node, name)


def serializerOf(annotated):
    """The serializer of a type; ValueError for a type that cannot be stored."""
    kind = unannotatedType(annotated)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isUnion(kind):
        return OneOf(args)
    if origin is list:
        return Sequence(*args)
    if origin is tuple:
        return Fixed({str(index): each for index, each in enumerate(args)})
    if origin is dict:
        return Mapping(*args)
    if kind is type(None):
        return NoneOnly()
    if isinstance(kind, type):
        return _serializerOfClass(kind)
    raise ValueError(f"no value of type {kind} can be stored in a parameter node")


def _serializerOfClass(kind):
    if isNode(kind):
        return Node(kind)
    if packs.isParameterPack(kind):
        return Pack(kind)
    if issubclass(kind, enum.Enum):
        return Text(kind, kind, next(iter(kind)), lambda value: value.name, lambda text: _member(kind, text))
    if issubclass(kind, pathlib.PurePath):
        return Text(kind, kind, kind(), str, kind)
    plain = {
        int: ((int,), 0, str, int, True),
        float: ((int, float), 0, str, float, True),
        str: ((str,), "", str, str, True),
        bool: ((bool,), False, str, lambda text: text == "True", True),
        qt.QColor: ((qt.QColor,), qt.QColor(), lambda color: color.name(qt.QColor.HexArgb), qt.QColor, False),
    }
    if kind not in plain:
        raise ValueError(f"no value of type {kind.__name__} can be stored in a parameter node")
    return Text(kind, *plain[kind])


def _member(kind, text):
    if text not in kind.__members__:
        raise ValueError(f"{text!r} is no member of {kind.__name__}")
    return kind[text]


class _Saving:
    """Saves after each change; a change that cannot be saved is undone."""

    def _change(self, method, *args, **kwargs):
        before = self.data.copy()
        result = method(self, *args, **kwargs)
        if self.save is not None:
            try:
                self.save(self.data)
            except (TypeError, ValueError):
                self.data = before
                raise
        return result


def _saving(base, names):
    def make(name):
        original = getattr(base, name)
        return lambda self, *args, **kwargs: self._change(original, *args, **kwargs)

    return {name: make(name) for name in names}


def _refused(self, *_args):
    raise NotImplementedError("an observed list cannot be added or multiplied; make a plain list of it")


_LIST_CHANGES = (
    "append",
    "extend",
    "insert",
    "pop",
    "remove",
    "clear",
    "sort",
    "reverse",
    "__setitem__",
    "__delitem__",
)
_ListBase = type("_ListBase", (_Saving, UserList), _saving(UserList, (*_LIST_CHANGES, "__iadd__")))
_DictBase = type("_DictBase", (_Saving, UserDict), _saving(UserDict, ("__setitem__", "__delitem__", "clear", "pop")))


class ObservedList(_ListBase):
    """A list field's value: each change is saved at once."""

    def __init__(self, values, save):
        self.data, self.save = list(values), save

    __add__ = __radd__ = __mul__ = __rmul__ = _refused


class ObservedDict(_DictBase):
    """A dict field's value."""

    def __init__(self, values, save):
        self.data, self.save = dict(values), save

    def get(self, key):
        return self.data.get(key)
