"""`@parameterPack`: plain classes with typed members, stored member by member."""

import typing

from .annotations import Default, findFirstAnnotation, splitAnnotations
from .validators import Validator

_MARK = "_slicerParameterPackMembers"


def isParameterPack(cls):
    return isinstance(cls, type) and hasattr(cls, _MARK)


def members(cls):
    """Name → annotated type, in the order of the class."""
    return getattr(cls, _MARK)


def nestedParameterNames(cls):
    """Dotted names of all that is no pack itself."""
    names = []
    for name, annotated in members(cls).items():
        kind = splitAnnotations(annotated)[0]
        names += [f"{name}.{each}" for each in nestedParameterNames(kind)] if isParameterPack(kind) else [name]
    return names


def parameterPack(cls=None):
    """Class decorator, with or without parentheses."""
    return _made(cls) if cls is not None else _made


def _made(cls):
    hints = typing.get_type_hints(cls, include_extras=True)
    defaults = {name: _defaultOf(cls, name, annotated) for name, annotated in hints.items()}
    setattr(cls, _MARK, hints)
    for name, annotated in hints.items():
        setattr(cls, name, _memberProperty(name, annotated))
    for name, make in defaults.items():  # a wrong default is an error of the class
        _checked(hints[name], make())
    own = cls.__dict__.get("__init__")

    def __init__(self, *args, **kwargs):
        _fill(self, defaults)
        if own is not None:
            own(self, *args, **kwargs)
            return
        if len(args) > len(hints) or set(kwargs) - set(hints):
            raise TypeError(f"{cls.__name__} takes {', '.join(hints)}")
        for name, value in {**dict(zip(hints, args, strict=False)), **kwargs}.items():
            setattr(self, name, value)

    def __eq__(self, other):
        return isinstance(other, cls) and all(getattr(self, name) == getattr(other, name) for name in hints)

    def __str__(self):
        return f"{cls.__name__}({', '.join(f'{name}={getattr(self, name)}' for name in hints)})"

    cls.__init__, cls.__eq__, cls.__str__, cls.__hash__ = __init__, __eq__, __str__, None
    return cls


def observed(cls, values, save):
    """A pack read from a node: members save when set, and it takes no new names."""
    pack = cls.__new__(_observing(cls))
    pack.__dict__.update({f"_{name}": value for name, value in zip(members(cls), values, strict=True)}, _save=save)
    return pack


def _observing(cls):
    def __setattr__(self, name, value):
        if name not in members(cls):
            raise AttributeError(f"{cls.__name__} has no member {name!r}")
        object.__setattr__(self, name, value)
        if self._save is not None:
            self._save(self)

    return type(cls.__name__, (cls,), {"__setattr__": __setattr__})


def _fill(pack, defaults):
    for name, make in defaults.items():
        pack.__dict__[f"_{name}"] = make()


def _memberProperty(name, annotated):
    def set(self, value):
        self.__dict__[f"_{name}"] = _checked(annotated, value)

    return property(lambda self: self.__dict__[f"_{name}"], set)


def _checked(annotated, value):
    from .serializers import serializerOf  # it knows packs too

    serializerOf(annotated).check(value)
    for each in splitAnnotations(annotated)[1]:
        if isinstance(each, Validator):
            each.validate(value)
    return value


def _defaultOf(cls, name, annotated):
    from .serializers import serializerOf

    if name in cls.__dict__:
        value = cls.__dict__[name]
        return lambda: value
    default = findFirstAnnotation(splitAnnotations(annotated)[1], Default)
    return (lambda: default.value) if default is not None else serializerOf(annotated).default


@parameterPack
class FloatRange:
    """Two numbers in order."""

    minimum: float
    maximum: float

    def __init__(self, minimum=0.0, maximum=0.0):
        if minimum > maximum:
            raise ValueError(f"the minimum {minimum} is greater than the maximum {maximum}")
        self.minimum, self.maximum = minimum, maximum
