"""Widgets bound to parameters: which pairs fit, how each is read and written, and when."""

import enum
import pathlib

import ctk
import qt
import slicer
import vtk

from . import packs
from .annotations import Decimals, Default, SingleStep, findFirstAnnotation, getNodeTypes
from .validators import Choice, Maximum, Minimum, RangeBounds, WithinRange

SlicerParameterNamePropertyName = "SlicerParameterName"
SlicerPackParameterNamePropertyName = "SlicerPackParameterName"
_INT32 = 2**31 - 1


class Connector:
    """A widget that shows one parameter; `signal` is empty where the user cannot change it."""

    def __init__(self, widget, signal, read, write):
        self.widget, self.signal, self.read, self.write = widget, signal, read, write

    def connect(self, slot):
        self._slot = slot
        if self.signal:
            getattr(self.widget, self.signal).connect(slot)

    def disconnect(self):
        if self.signal:
            getattr(self.widget, self.signal).disconnect(self._slot)


class GuiBinding:
    """All widgets of one `connectGui`; parameters are written to them first."""

    def __init__(self, wrapper, connectors):
        self._wrapper, self._connectors = wrapper, connectors
        self._updating = False
        self._showAll()
        for name, connector in connectors:
            connector.connect(self._writer(name, connector))
        self._tag = wrapper.AddObserver(vtk.vtkCommand.ModifiedEvent, self._showAll)

    @classmethod
    def found(cls, wrapper, gui):
        """Widgets with the property SlicerParameterName, below a widget or among an object's attributes."""
        widgets = slicer.util.findChildren(gui) if hasattr(gui, "metaObject") else list(vars(gui).values())
        pairs = [(widget.property(SlicerParameterNamePropertyName), widget) for widget in widgets]
        return cls.named(wrapper, [(name, widget) for name, widget in pairs if name])

    @classmethod
    def named(cls, wrapper, pairs):
        pairs = pairs.items() if isinstance(pairs, dict) else pairs
        connectors = []
        for name, widget in pairs:
            kind, annotations = wrapper.typeOf(name)
            if packs.isParameterPack(kind) and type(widget) not in RANGES:
                connectors += cls._membersOf(wrapper, name, widget)
            else:
                connectors.append((name, connectorFor(widget, kind, annotations)))
        return cls(wrapper, connectors)

    @staticmethod
    def _membersOf(wrapper, name, container):
        members = []
        for widget in slicer.util.findChildren(container):
            member = widget.property(SlicerPackParameterNamePropertyName)
            if member:
                full = f"{name}.{member}"
                members.append((full, connectorFor(widget, *wrapper.typeOf(full))))
        if not members:
            raise RuntimeError(f"no widget below {container} shows a member of {name}")
        return members

    def disconnect(self):
        self._wrapper.RemoveObserver(self._tag)
        for _name, connector in self._connectors:
            connector.disconnect()

    def _showAll(self, *_):
        if self._updating:
            return
        self._updating = True
        try:
            for name, connector in self._connectors:
                connector.write(self._wrapper.getValue(name))
        finally:
            self._updating = False

    def _writer(self, name, connector):
        def fromWidget(*_):
            if not self._updating:
                with slicer.util.NodeModify(self._wrapper):
                    self._wrapper.setValue(name, connector.read())

        return fromWidget


def connectorFor(widget, kind, annotations):
    """The connector; the widget's class must be one of the table, sub-classes are refused."""
    make = _TABLE.get(type(widget))
    connector = make(widget, kind, annotations) if make is not None else None
    if connector is None:
        raise RuntimeError(f"a {widget.className()} cannot show a parameter of type {kind}")
    return connector


def _property(widget, signal, name, toPython=None, toWidget=None):
    def write(value):
        value = toWidget(value) if toWidget is not None else value
        if getattr(widget, name) != value:
            setattr(widget, name, value)

    return Connector(widget, signal, lambda: (toPython or (lambda value: value))(getattr(widget, name)), write)


def _checkBox(widget, kind, _annotations):
    return _property(widget, "stateChanged", "checked") if kind is bool else None


def _pushButton(widget, kind, _annotations):
    if kind is not bool:
        return None
    if not widget.checkable:
        widget.checkable = True
    return _property(widget, "toggled", "checked")


def _bounds(annotations):
    both = findFirstAnnotation(annotations, WithinRange)
    low, high = findFirstAnnotation(annotations, Minimum), findFirstAnnotation(annotations, Maximum)
    if both is not None:
        return both.minimum, both.maximum
    return low.minimum if low is not None else None, high.maximum if high is not None else None


def _number(mustBeBounded, isInt, unbounded):
    def make(widget, kind, annotations):
        if kind not in ((int,) if isInt else (int, float)):
            return None
        low, high = _bounds(annotations)
        if mustBeBounded and (low is None or high is None):
            raise RuntimeError(f"a {widget.className()} needs bounds: annotate with WithinRange")
        widget.minimum = low if low is not None else -unbounded
        widget.maximum = high if high is not None else unbounded
        decimals, step = findFirstAnnotation(annotations, Decimals), findFirstAnnotation(annotations, SingleStep)
        if not isInt:
            widget.decimals = 0 if kind is int else decimals.value if decimals is not None else widget.decimals
        if step is not None:
            widget.singleStep = step.value
        return _property(widget, "valueChanged", "value", toPython=kind)

    return make


def _comboBox(widget, kind, annotations):
    if not isinstance(kind, type):
        raise TypeError(f"a combo box cannot show {kind}")
    if issubclass(kind, enum.Enum):
        values = list(kind)
        texts = [kind.label(each) if hasattr(kind, "label") else each.name for each in values]
    elif kind in (int, float, str, bool):
        choice = findFirstAnnotation(annotations, Choice)
        if choice is None:
            raise RuntimeError("a combo box needs the annotation Choice")
        values = list(choice.choices)
        texts = [str(each) for each in values]
    else:
        return None
    wasBlocked = widget.blockSignals(True)
    widget.clear()
    widget.addItems(texts)
    widget.blockSignals(wasBlocked)

    def write(value):
        widget.currentIndex = values.index(value)  # raises for text of an older scene that is no choice any more

    return Connector(widget, "currentIndexChanged", lambda: values[widget.currentIndex], write)


def _lineEdit(widget, kind, _annotations):
    if kind is not str:
        return None

    def write(value):
        if widget.text != value:
            cursor = widget.cursorPosition
            widget.text = value
            widget.cursorPosition = cursor

    return Connector(widget, "textChanged", lambda: widget.text, write)


def _textEdit(widget, kind, _annotations):
    return _property(widget, "textChanged", "plainText") if kind is str else None


def _label(widget, kind, _annotations):
    return _property(widget, "", "text") if kind is str else None


def _path(signal, name):
    def make(widget, kind, _annotations):
        isPath = isinstance(kind, type) and issubclass(kind, pathlib.PurePath)
        return _property(widget, signal, name, toPython=kind, toWidget=str) if isPath else None

    return make


def _range(widget, kind, annotations):
    if kind is not packs.FloatRange:
        return None
    bounds = findFirstAnnotation(annotations, RangeBounds)
    if bounds is None:
        raise RuntimeError("a range widget needs the annotation RangeBounds")
    if not bounds.minimum <= 0 <= bounds.maximum and findFirstAnnotation(annotations, Default) is None:
        raise RuntimeError("0 lies outside the bounds: the field needs a Default")
    widget.setRange(bounds.minimum, bounds.maximum)
    return Connector(
        widget,
        "valuesChanged",
        lambda: packs.FloatRange(widget.minimumValue, widget.maximumValue),
        lambda value: widget.setValues(value.minimum, value.maximum),
    )


def _nodeBox(widget, kind, _annotations):
    types = getNodeTypes(kind)
    if not types:
        return None
    widget.nodeTypes = [each.__name__ for each in types]
    return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def _color(widget, kind, _annotations):
    return _property(widget, "colorChanged", "color") if kind is qt.QColor else None


_unboundedInt, _unboundedFloat = _number(False, True, _INT32), _number(False, False, float("inf"))
_boundedFloat = _number(True, False, float("inf"))
RANGES = (ctk.ctkRangeWidget, ctk.ctkDoubleRangeSlider, slicer.qMRMLRangeWidget)
_TABLE = {
    qt.QCheckBox: _checkBox,
    ctk.ctkCheckBox: _checkBox,
    qt.QPushButton: _pushButton,
    ctk.ctkCheckablePushButton: _pushButton,
    qt.QSlider: _number(True, True, _INT32),
    qt.QSpinBox: _unboundedInt,
    qt.QDoubleSpinBox: _unboundedFloat,
    ctk.ctkDoubleSpinBox: _unboundedFloat,
    ctk.ctkDoubleSlider: _unboundedFloat,
    slicer.qMRMLSpinBox: _unboundedFloat,
    ctk.ctkSliderWidget: _boundedFloat,
    slicer.qMRMLSliderWidget: _boundedFloat,
    qt.QComboBox: _comboBox,
    ctk.ctkComboBox: _comboBox,
    qt.QLineEdit: _lineEdit,
    qt.QTextEdit: _textEdit,
    qt.QLabel: _label,
    ctk.ctkPathLineEdit: _path("currentPathChanged", "currentPath"),
    ctk.ctkDirectoryButton: _path("directoryChanged", "directory"),
    **dict.fromkeys(RANGES, _range),
    slicer.qMRMLNodeComboBox: _nodeBox,
    ctk.ctkColorPickerButton: _color,
}
