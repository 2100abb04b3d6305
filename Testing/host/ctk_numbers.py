"""Stand-ins for the number widgets of CTK and qMRML: sliders, spin boxes and ranges of real numbers."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

from Testing.host.registry import standIn, stored

_STEPS = 1000  # positions of a slider
_LARGEST = 1e15  # what a Qt spin box takes for "no bound"


def _finite(value: float) -> float:
    return max(-_LARGEST, min(_LARGEST, value))


class _OneNumber(QWidget):
    """A value between two bounds, shown by the parts that a sub-class makes."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    minimum = stored("double", 0.0, lambda self: self._boundsChanged())
    maximum = stored("double", 99.0, lambda self: self._boundsChanged())
    singleStep = stored("double", 1.0, lambda self: self._showAll())
    pageStep = stored("double", 10.0)
    decimals = stored(int, 2, lambda self: self._showAll())
    prefix = stored(str, "", lambda self: self._showAll())
    suffix = stored(str, "", lambda self: self._showAll())

    def __init__(self, parent: QWidget | None = None, *, slider: bool, spinBox: bool) -> None:
        super().__init__(parent)
        self.__value = 0.0
        self.__showing = False
        self.__slider = QSlider(Qt.Orientation.Horizontal) if slider else None
        self.__spinBox = QDoubleSpinBox() if spinBox else None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        if self.__slider is not None:
            self.__slider.setRange(0, _STEPS)
            self.__slider.valueChanged.connect(self.__fromSlider)
            layout.addWidget(self.__slider)
        if self.__spinBox is not None:
            self.__spinBox.valueChanged.connect(self.__fromSpinBox)
            layout.addWidget(self.__spinBox)
        self._showAll()

    def setValue(self, value: float) -> None:
        if not isinstance(value, (int, float)):
            raise ValueError(f"{value!r} is no number")
        kept = min(max(float(value), self.minimum), self.maximum)
        changed = kept != self.__value
        self.__value = kept
        self._showAll()
        if changed:
            self.valueIsChanging.emit(kept)
            self.valueChanged.emit(kept)

    value = Property(float, lambda self: self.__value, setValue)

    def spinBox(self) -> QDoubleSpinBox | None:  # the part that a test types into
        return self.__spinBox

    def slider(self) -> QSlider | None:
        return self.__slider

    def _boundsChanged(self) -> None:
        self.setValue(self.__value)

    def _showAll(self) -> None:
        self.__showing = True
        box = self.__spinBox
        if box is not None:
            box.setDecimals(self.decimals)
            box.setRange(_finite(self.minimum), _finite(self.maximum))
            box.setSingleStep(self.singleStep)
            box.setPrefix(self.prefix)
            box.setSuffix(self.suffix)
            box.setValue(_finite(self.__value))
        if self.__slider is not None:
            self.__slider.setValue(round(_STEPS * self.__fraction()))
        self.__showing = False

    def __fraction(self) -> float:
        width = self.maximum - self.minimum
        return (self.__value - self.minimum) / width if math.isfinite(width) and width > 0 else 0.0

    def __fromSlider(self, position: int) -> None:
        if not self.__showing and math.isfinite(self.maximum - self.minimum):
            exact = self.minimum + (self.maximum - self.minimum) * position / _STEPS
            self.setValue(round(exact, self.decimals))

    def __fromSpinBox(self, value: float) -> None:
        if not self.__showing:
            self.setValue(value)


@standIn
class ctkSliderWidget(_OneNumber):
    """A slider and a spin box."""

    tracking = stored(bool, True)
    spinBoxVisible = stored(bool, True, lambda self: self.spinBox().setVisible(self.spinBoxVisible))

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, slider=True, spinBox=True)


@standIn
class ctkDoubleSlider(_OneNumber):
    """A slider alone."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent if isinstance(parent, QWidget) else None, slider=True, spinBox=False)


@standIn
class ctkDoubleSpinBox(_OneNumber):
    """A spin box alone."""

    editingFinished = Signal()
    readOnly = stored(bool, False, lambda self: self.spinBox().setReadOnly(self.readOnly))

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, slider=False, spinBox=True)
        self.spinBox().editingFinished.connect(self.editingFinished.emit)


class _TwoNumbers(QWidget):
    """A lower and an upper value between two bounds."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)

    singleStep = stored("double", 1.0, lambda self: self.__showAll())
    decimals = stored(int, 2, lambda self: self.__showAll())

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent if isinstance(parent, QWidget) else None)
        self.__bounds, self.__values, self.__showing = (0.0, 99.0), (0.0, 99.0), False
        self.__boxes = (QDoubleSpinBox(), QDoubleSpinBox())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for box in self.__boxes:
            layout.addWidget(box)
            box.valueChanged.connect(self.__fromBoxes)
        self.__showAll()

    def setRange(self, minimum: float, maximum: float) -> None:
        self.__bounds = (float(minimum), float(maximum))
        self.rangeChanged.emit(*self.__bounds)
        self.setValues(*self.__values)

    def setValues(self, minimum: float, maximum: float) -> None:
        low, high = self.__bounds
        kept = tuple(min(max(float(each), low), high) for each in sorted((minimum, maximum)))
        before, self.__values = self.__values, kept
        self.__showAll()
        if kept[0] != before[0]:
            self.minimumValueChanged.emit(kept[0])
        if kept[1] != before[1]:
            self.maximumValueChanged.emit(kept[1])
        if kept != before:
            self.valuesChanged.emit(*kept)

    minimum = Property(
        float, lambda self: self.__bounds[0], lambda self, value: self.setRange(value, max(value, self.__bounds[1]))
    )
    maximum = Property(
        float, lambda self: self.__bounds[1], lambda self, value: self.setRange(min(value, self.__bounds[0]), value)
    )
    minimumValue = Property(
        float, lambda self: self.__values[0], lambda self, value: self.setValues(value, max(value, self.__values[1]))
    )
    maximumValue = Property(
        float, lambda self: self.__values[1], lambda self, value: self.setValues(min(value, self.__values[0]), value)
    )

    def __showAll(self) -> None:
        self.__showing = True
        for box, value in zip(self.__boxes, self.__values, strict=True):
            box.setDecimals(self.decimals)
            box.setSingleStep(self.singleStep)
            box.setRange(*map(_finite, self.__bounds))
            box.setValue(_finite(value))
        self.__showing = False

    def __fromBoxes(self, _value: float) -> None:
        if not self.__showing:
            self.setValues(*(box.value for box in self.__boxes))


@standIn
class ctkRangeWidget(_TwoNumbers):
    """Two handles and two spin boxes; here the boxes alone."""


@standIn
class ctkDoubleRangeSlider(_TwoNumbers):
    """Two handles; here two boxes."""


@standIn
class qMRMLSliderWidget(_OneNumber):
    """A ctkSliderWidget that knows the scene's units."""

    quantity, unitAwareProperties = stored(str, ""), stored("QVariant", 0)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, slider=True, spinBox=True)

    def setMRMLScene(self, scene: Any) -> None:
        self.__scene = scene


@standIn
class qMRMLSpinBox(_OneNumber):
    """A ctkDoubleSpinBox that knows the scene's units."""

    quantity, unitAwareProperties = stored(str, ""), stored("QVariant", 0)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, slider=False, spinBox=True)

    def setMRMLScene(self, scene: Any) -> None:
        self.__scene = scene


@standIn
class qMRMLRangeWidget(_TwoNumbers):
    """A ctkRangeWidget that knows the scene's units."""

    quantity, unitAwareProperties = stored(str, ""), stored("QVariant", 0)

    def setMRMLScene(self, scene: Any) -> None:
        self.__scene = scene
