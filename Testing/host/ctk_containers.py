"""Stand-ins for the collapsible containers of CTK."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QChildEvent, QEvent, QObject, QPoint, QPointF, QRect, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPolygonF
from PySide6.QtWidgets import QAbstractButton, QGroupBox, QSizePolicy, QWidget

from Testing.host.registry import standIn, stored

_HEADER_PX = 24
_ANY_HEIGHT_PX = 16777215  # QWIDGETSIZE_MAX


def _showContents(owner: QWidget, hidden: list[QWidget], *, collapsed: bool) -> None:
    """Hide what is shown, and show again only that."""
    if collapsed:
        hidden += [child for child in owner.children() if isinstance(child, QWidget) and not child.isHidden()]
    for child in hidden:
        child.setVisible(not collapsed)
    if not collapsed:
        hidden.clear()


@standIn
class ctkCollapsibleButton(QAbstractButton):
    """A header that folds away what lies below it; the .ui file gives it a layout."""

    contentsCollapsed = Signal(bool)

    collapsed = stored(bool, False, lambda self: self.setChecked(not self.collapsed))
    collapsedHeight = stored(int, 0)
    flat = stored(bool, False)
    contentsFrameShape = stored(int, 0)

    def __init__(self, text: str | QWidget | None = None, parent: QWidget | None = None) -> None:
        super().__init__(text if isinstance(text, QWidget) else parent)
        self.__forcing = False
        self.__unwanted: set[QWidget] = set()  # hidden by the panel itself
        if isinstance(text, str):
            self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, _HEADER_PX, 0, 0)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.toggled.connect(self.__onToggled)

    def childEvent(self, event: QChildEvent) -> None:
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child: QObject, event: QEvent) -> bool:
        """What the panel shows or hides while this is folded counts once it is unfolded."""
        kind = event.type()
        if kind in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent) and not self.__forcing:
            (self.__unwanted.discard if kind == QEvent.Type.ShowToParent else self.__unwanted.add)(child)
            if self.collapsed:
                self.__force([child])
        return False

    def hitButton(self, position: QPoint) -> bool:
        """Only the header reacts to the mouse."""
        return QRect(0, 0, self.width, _HEADER_PX).contains(position)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        header = QRect(0, 0, self.width, _HEADER_PX)
        painter.fillRect(header, self.palette.button())
        painter.setPen(self.palette.buttonText().color())
        painter.setBrush(self.palette.buttonText())
        points = [(6, 9), (16, 9), (11, 16)] if self.checked else [(8, 7), (8, 17), (15, 12)]
        painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in points]))
        text = painter.fontMetrics().elidedText(self.text, Qt.TextElideMode.ElideRight, self.width - 30)
        painter.drawText(
            header.adjusted(24, 0, -4, 0), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text
        )
        painter.end()

    def __onToggled(self, checked: bool) -> None:
        self.collapsed = not checked
        self.__force([child for child in self.children() if isinstance(child, QWidget)])
        self.setMaximumHeight(_ANY_HEIGHT_PX if checked else _HEADER_PX + self.collapsedHeight)
        self.setMinimumHeight(0 if checked else _HEADER_PX)
        self.contentsCollapsed.emit(not checked)

    def __force(self, children: list[QWidget]) -> None:
        """Without the mark of an explicit choice, or Qt would not tell of the panel's next one."""
        self.__forcing = True
        for child in children:
            child.setVisible(not self.collapsed and child not in self.__unwanted)
            if child not in self.__unwanted:
                child.setAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self.__forcing = False


@standIn
class ctkCollapsibleGroupBox(QGroupBox):
    """A group box that folds when unchecked."""

    collapsed = stored(bool, False, lambda self: self.setChecked(not self.collapsed))
    collapsedHeight = stored(int, 14)

    def __init__(self, title: Any = None, parent: QWidget | None = None) -> None:
        super().__init__(title if isinstance(title, QWidget) else parent)
        self.__hidden: list[QWidget] = []
        if isinstance(title, str):
            self.setTitle(title)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self.__onToggled)

    def __onToggled(self, checked: bool) -> None:
        self.collapsed = not checked
        _showContents(self, self.__hidden, collapsed=not checked)
        self.setMaximumHeight(_ANY_HEIGHT_PX if checked else 20 + self.collapsedHeight)
