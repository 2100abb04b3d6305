"""`Annotated[type, …]` taken apart, and the annotations that are no validators."""

import types
import typing

import slicer


class Default:
    """The first value of a field; a generator gives a fresh one each time."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator is not None else self._value


class _ForGui:
    def __init__(self, value):
        self.value = value


class Decimals(_ForGui):
    """Digits after the point in the widget."""


class SingleStep(_ForGui):
    """One step of the widget."""


class Label(_ForGui):
    """The widget's name for the user."""


def splitAnnotations(annotated):
    """(type, list of annotations)."""
    if typing.get_origin(annotated) is typing.Annotated:
        return typing.get_args(annotated)[0], list(annotated.__metadata__)
    return annotated, []


def unannotatedType(annotated):
    return splitAnnotations(annotated)[0]


def findFirstAnnotation(annotations, kind):
    return next((each for each in annotations if isinstance(each, kind)), None)


def isUnion(kind):
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def isNode(kind):
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def isNodeOrUnionOfNodes(annotated):
    return bool(getNodeTypes(annotated))


def getNodeTypes(annotated):
    """The node classes of a node field, empty for any other."""
    kind = unannotatedType(annotated)
    members = [each for each in (typing.get_args(kind) if isUnion(kind) else [kind]) if each is not type(None)]
    return members if members and all(isNode(each) for each in members) else []
