"""Stand-in for `slicer.parameterNodeWrapper`, written from the fact sheet on its behaviour.

Not imitated: widgets made from a type (`createGui`), user-written serializers and connectors.
"""

from .annotations import (
    Decimals,
    Default,
    Label,
    SingleStep,
    findFirstAnnotation,
    getNodeTypes,
    isNodeOrUnionOfNodes,
    splitAnnotations,
    unannotatedType,
)
from .gui import SlicerPackParameterNamePropertyName, SlicerParameterNamePropertyName
from .packs import FloatRange, isParameterPack, nestedParameterNames, parameterPack
from .validators import Choice, Exclude, IsInstance, Maximum, Minimum, NotNone, RangeBounds, Validator, WithinRange
from .wrapper import isParameterNodeWrapper, parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "IsInstance",
    "Label",
    "Maximum",
    "Minimum",
    "NotNone",
    "RangeBounds",
    "SingleStep",
    "SlicerPackParameterNamePropertyName",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findFirstAnnotation",
    "getNodeTypes",
    "isNodeOrUnionOfNodes",
    "isParameterNodeWrapper",
    "isParameterPack",
    "nestedParameterNames",
    "parameterNodeWrapper",
    "parameterPack",
    "splitAnnotations",
    "unannotatedType",
]
