"""`@parameterNodeWrapper`: a class with typed fields kept in a vtkMRMLScriptedModuleNode."""

import logging
import typing
import weakref

import slicer
import vtk

from . import packs
from .annotations import Default, findFirstAnnotation, splitAnnotations
from .gui import GuiBinding
from .serializers import serializerOf
from .validators import Validator

_RESERVED = {
    *(
        "allParameters",
        "default",
        "isCached",
        "dataType",
        "getValue",
        "setValue",
        "connectGui",
        "connectParametersToGui",
    ),
    *("disconnectGui", "StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified"),
}
_FIRST = 100.0  # priority of the observer that refreshes the cache, before the users' own


class Field:
    """One annotated name of the class."""

    def __init__(self, cls, name, annotated):
        self.name, self.annotated = name, annotated
        kind, self.annotations = splitAnnotations(annotated)
        self.serializer = serializerOf(kind)
        self.validators = [each for each in self.annotations if isinstance(each, Validator)]
        self.default = self._defaultOf(cls)
        unused = [each for each in self.annotations if not isinstance(each, (Validator, Default))]
        if unused:
            logging.warning("Unused annotations of %s.%s: %s", cls.__name__, name, unused)

    def _defaultOf(self, cls):
        annotated = findFirstAnnotation(self.annotations, Default)
        if self.name in cls.__dict__:
            return Default(cls.__dict__[self.name])
        return annotated or Default(generator=self.serializer.default)

    def check(self, value):
        self.serializer.check(value)
        for each in self.validators:
            each.validate(value)


def isParameterNodeWrapper(cls):
    return isinstance(cls, type) and issubclass(cls, _Methods)


def parameterNodeWrapper(cls=None):
    """Class decorator, with or without parentheses."""
    return _made(cls) if cls is not None else _made


def _made(cls):
    hints = typing.get_type_hints(cls, include_extras=True)
    if _RESERVED & set(hints):
        raise ValueError(f"reserved names in {cls.__name__}: {', '.join(sorted(_RESERVED & set(hints)))}")
    fields = {name: Field(cls, name, annotated) for name, annotated in hints.items()}
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__", "__init__")}
    body |= {name: _fieldProperty(field) for name, field in fields.items()} | {"allParameters": fields}
    return type(cls.__name__, (_Methods, *cls.__bases__), body)


def _fieldProperty(field):
    return property(lambda self: self._read(field), lambda self, value: self._write(field, value))


class _Methods:
    """What every wrapper can do."""

    allParameters: typing.ClassVar[dict] = {}

    def __init__(self, parameterNode, prefix=None):
        self.parameterNode = parameterNode
        self._prefix = prefix or ""
        self._cache = {}
        self._guis = {}
        for field in self.allParameters.values():
            if not field.serializer.isIn(parameterNode, self._prefix + field.name):
                self._write(field, field.default.value)
        self._refreshCache()
        me = weakref.ref(self)
        tag = parameterNode.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda *_: me() is not None and me()._refreshCache(), _FIRST
        )
        weakref.finalize(self, parameterNode.RemoveObserver, tag)

    def _refreshCache(self):
        for name, field in self.allParameters.items():
            if field.serializer.cached:
                self._cache[name] = self._stored(field)

    def _stored(self, field):
        name = self._prefix + field.name
        if not field.serializer.isIn(self.parameterNode, name):
            return field.default.value  # closing the scene emptied the node
        return field.serializer.read(self.parameterNode, name, lambda value: self._write(field, value))

    def _read(self, field):
        if not field.serializer.isIn(self.parameterNode, self._prefix + field.name):
            self._write(field, field.default.value)
        return self._cache[field.name] if field.serializer.cached and field.name in self._cache else self._stored(field)

    def _write(self, field, value):
        field.check(value)
        with slicer.util.NodeModify(self.parameterNode):
            field.serializer.write(self.parameterNode, self._prefix + field.name, value)
        if field.serializer.cached:
            self._cache[field.name] = self._stored(field)

    def default(self, name):
        return self._field(name).default

    def isCached(self, name):
        return self._field(name).serializer.cached

    @classmethod
    def dataType(cls, name):
        return cls._field(name).annotated

    @classmethod
    def _field(cls, name):
        if name not in cls.allParameters:
            raise ValueError(f"{cls.__name__} has no parameter {name!r}")
        return cls.allParameters[name]

    def typeOf(self, dotted):  # not in Slicer: (type, annotations) of a field, or of a member of a pack
        first, *rest = dotted.split(".")
        kind, annotations = splitAnnotations(self._field(first).annotated)
        for name in rest:
            if not packs.isParameterPack(kind) or name not in packs.members(kind):
                raise ValueError(f"{type(self).__name__} has no parameter {dotted!r}")
            kind, annotations = splitAnnotations(packs.members(kind)[name])
        return kind, annotations

    def getValue(self, dotted):
        self.typeOf(dotted)
        value = self
        for name in dotted.split("."):
            value = getattr(value, name)
        return value

    def setValue(self, dotted, value):
        self.typeOf(dotted)
        owner, _, name = dotted.rpartition(".")
        setattr(self.getValue(owner) if owner else self, name, value)

    def connectGui(self, gui):
        """Bind every widget that carries a parameter's name; returns the tag for `disconnectGui`."""
        return self._bind(GuiBinding.found(self, gui))

    def connectParametersToGui(self, mapping):
        return self._bind(GuiBinding.named(self, mapping))

    def _bind(self, binding):
        tag = max(self._guis, default=0) + 1
        self._guis[tag] = binding
        return tag

    def disconnectGui(self, tag):
        binding = self._guis.pop(tag, None)
        if binding is not None:
            binding.disconnect()

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        return self.parameterNode.EndModify(wasModified)

    def Modified(self):
        self.parameterNode.Modified()

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)
