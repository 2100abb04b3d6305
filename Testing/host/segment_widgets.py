"""Stand-ins for the widgets that show the segments of a segmentation node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer
import vtk
from PySide6.QtCore import Property, QItemSelection, QItemSelectionModel, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from Testing.host.mrml_widgets import Observations, SceneWidget, qMRMLNodeComboBox
from Testing.host.registry import standIn, stored

_COLUMNS = ("", "", "Opacity", "Name", "Status")  # visible and colour are icons in Slicer
_VISIBLE, _COLOR, _OPACITY, _NAME, _STATUS = range(len(_COLUMNS))
_ICON_PX = 26
_STATUS_TEXTS = ("Not started", "In progress", "Completed", "Flagged")
_EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified")


def observeSegments(observations: Observations, node: Any, method: Any) -> None:
    """Call `method(owner)` whenever the segments of the node, or how they are shown, change."""
    observations.remove()
    if node is not None:
        for event in _EVENTS:
            observations.observe(node, getattr(slicer.vtkSegmentation, event), method)
        observations.observe(node, node.SegmentationChangedEvent, method)
        observations.observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, method)


def segmentIDsOf(node: Any) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []


@standIn
class qMRMLSegmentsTableView(SceneWidget):
    """One row a segment: shown or not, colour, opacity, name, status; the table inside is a QTableWidget."""

    selectionChanged = Signal(QItemSelection, QItemSelection)

    selectionMode = stored(int, 3, lambda self: self.__applyMode())
    headerVisible = stored(bool, True, lambda self: self.__applyColumns())
    visibilityColumnVisible = stored(bool, True, lambda self: self.__applyColumns())
    colorColumnVisible = stored(bool, True, lambda self: self.__applyColumns())
    opacityColumnVisible = stored(bool, True, lambda self: self.__applyColumns())
    statusColumnVisible = stored(bool, False, lambda self: self.__applyColumns())
    readOnly = stored(bool, False, lambda self: self.__refresh())
    filterBarVisible = stored(bool, False)
    textFilter = stored(str, "", lambda self: self.__refresh())
    jumpToSelectedSegmentEnabled = stored(bool, False)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__node: Any = None
        self.__hidden: set[str] = set()
        self.__shown: list[str] = []
        self.__filling = False
        self.__observations = Observations(self)
        self.__table = QTableWidget(0, len(_COLUMNS))
        self.__table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.__table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.__table.verticalHeader().hide()
        header = self.__table.horizontalHeader()
        header.setMinimumSectionSize(_ICON_PX)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in ((_VISIBLE, _ICON_PX), (_COLOR, _ICON_PX), (_OPACITY, 60), (_STATUS, 90)):
            self.__table.setColumnWidth(column, width)
        self.__table.itemChanged.connect(self.__onItemChanged)
        self.__table.selectionModel().selectionChanged.connect(self.__onSelection)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.__table)
        self.__applyColumns()

    segmentCount = Property(int, lambda self: len(self.__shown))

    def setSegmentationNode(self, node: Any) -> None:
        self.__node = node
        observeSegments(self.__observations, node, qMRMLSegmentsTableView.__refresh)
        self.__refresh()

    def segmentationNode(self) -> Any:
        return self.__node

    def tableWidget(self) -> QTableWidget:
        return self.__table

    def rowForSegmentID(self, segmentID: str) -> int:
        return self.__shown.index(segmentID) if segmentID in self.__shown else -1

    def segmentIDForRow(self, row: int) -> str:
        return self.__shown[row] if 0 <= row < len(self.__shown) else ""

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        rows = sorted({index.row() for index in self.__table.selectionModel().selectedRows()})
        return tuple(self.__shown[row] for row in rows)

    def setSelectedSegmentIDs(self, segmentIDs: Iterable[str]) -> None:
        model = self.__table.selectionModel()
        flags = QItemSelectionModel.SelectionFlag
        model.clearSelection()
        for segmentID in segmentIDs:
            if segmentID in self.__shown:
                index = self.__table.model().index(self.__shown.index(segmentID), 0)
                model.select(index, flags.Select | flags.Rows)

    def clearSelection(self) -> None:
        self.__table.clearSelection()

    def setHideSegments(self, segmentIDs: Iterable[str]) -> None:
        """Do not list these."""
        self.__hidden = set(segmentIDs)
        self.__refresh()

    def setSelectedSegmentsStatus(self, status: int) -> None:
        for segmentID in self.selectedSegmentIDs():
            segment = self.__node.GetSegmentation().GetSegment(segmentID)
            slicer.vtkSlicerSegmentationsModuleLogic.SetSegmentStatus(segment, status)

    def jumpSlices(self) -> None:
        for segmentID in self.selectedSegmentIDs()[:1]:
            center = self.__node.GetSegmentCenterRAS(segmentID)
            if center is not None:
                slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center)

    def __applyMode(self) -> None:
        self.__table.setSelectionMode(QAbstractItemView.SelectionMode(self.selectionMode))

    def __applyColumns(self) -> None:
        self.__table.horizontalHeader().setVisible(self.headerVisible)
        for column, visible in (
            (_VISIBLE, self.visibilityColumnVisible),
            (_COLOR, self.colorColumnVisible),
            (_OPACITY, self.opacityColumnVisible),
            (_STATUS, self.statusColumnVisible),
        ):
            self.__table.setColumnHidden(column, not visible)

    def __refresh(self) -> None:
        selected = self.selectedSegmentIDs()
        self.__filling = True
        self.__shown = [each for each in segmentIDsOf(self.__node) if self.__lists(each)]
        self.__table.setRowCount(len(self.__shown))
        for row, segmentID in enumerate(self.__shown):
            self.__fillRow(row, segmentID)
        self.__filling = False
        if selected != self.selectedSegmentIDs():
            self.setSelectedSegmentIDs(selected)

    def __lists(self, segmentID: str) -> bool:
        name = self.__node.GetSegmentation().GetSegment(segmentID).GetName() or ""
        return segmentID not in self.__hidden and self.textFilter.lower() in name.lower()

    def __fillRow(self, row: int, segmentID: str) -> None:
        segment = self.__node.GetSegmentation().GetSegment(segmentID)
        display = self.__node.GetDisplayNode()
        visible = display is None or display.GetSegmentVisibility(segmentID)
        opacity = 1.0 if display is None else display.GetSegmentOpacity3D(segmentID)
        status = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
        texts = ("", "", f"{opacity:.2f}", segment.GetName() or "", _STATUS_TEXTS[status])
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            if column != _NAME or self.readOnly:
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            if column == _VISIBLE:
                item.setCheckState(Qt.CheckState.Checked if visible else Qt.CheckState.Unchecked)
            if column == _COLOR:
                item.setBackground(QColor.fromRgbF(*segment.GetColor()))
            self.__table.setItem(row, column, item)

    def __onItemChanged(self, item: QTableWidgetItem) -> None:
        """The user ticked a box or typed a name."""
        if self.__filling:
            return
        # all at once: what follows may fill the table anew, which deletes the item
        segmentID, column, text = self.__shown[item.row()], item.column(), item.text()
        checked = item.checkState() == Qt.CheckState.Checked
        if column == _VISIBLE and self.__node.GetDisplayNode() is not None:
            self.__node.GetDisplayNode().SetSegmentVisibility(segmentID, checked)
        if column == _NAME:
            self.__node.GetSegmentation().GetSegment(segmentID).SetName(text)

    def __onSelection(self, selected: QItemSelection, deselected: QItemSelection) -> None:
        if not self.__filling:
            self.selectionChanged.emit(selected, deselected)
            if self.jumpToSelectedSegmentEnabled:
                self.jumpSlices()


@standIn
class qMRMLSegmentSelectorWidget(SceneWidget):
    """A segmentation and one or several of its segments."""

    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal("QStringList")
    slicerSignatures = {  # noqa: RUF012
        **SceneWidget.slicerSignatures,
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
    }

    noneEnabled = stored(bool, False, lambda self: self.__applyProperties())
    multiSelection = stored(bool, False)
    horizontalLayout = stored(bool, False)
    editEnabled = stored(bool, False)
    segmentationNodeSelectorVisible = stored(bool, True, lambda self: self.__applyProperties())

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__selected: tuple[str, ...] = ()
        self.__nodes = qMRMLNodeComboBox()
        self.__nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        self.__nodes.currentNodeChanged.connect(self.__onNode)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.__nodes)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self.__nodes.setMRMLScene(scene)

    def currentNode(self) -> Any:
        return self.__nodes.currentNode()

    def currentNodeID(self) -> str:
        return self.__nodes.currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self.__nodes.setCurrentNode(node)

    setCurrentNodeID = setCurrentNode

    def segmentIDs(self) -> tuple[str, ...]:
        return tuple(segmentIDsOf(self.currentNode()))

    def currentSegmentID(self) -> str:
        return self.__selected[0] if self.__selected else ""

    def setCurrentSegmentID(self, segmentID: str) -> None:
        self.setSelectedSegmentIDs([segmentID] if segmentID else [])

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return self.__selected

    def setSelectedSegmentIDs(self, segmentIDs: Iterable[str]) -> None:
        before = self.__selected
        self.__selected = tuple(each for each in segmentIDs if each in self.segmentIDs())
        if self.__selected != before:
            self.segmentSelectionChanged.emit(list(self.__selected))
            self.currentSegmentChanged.emit(self.currentSegmentID())

    def __applyProperties(self) -> None:
        self.__nodes.noneEnabled = self.noneEnabled
        self.__nodes.setVisible(self.segmentationNodeSelectorVisible)

    def __onNode(self, node: Any) -> None:
        self.currentNodeChanged.emit(node)
        first = [] if self.noneEnabled or self.multiSelection else list(self.segmentIDs()[:1])
        self.setSelectedSegmentIDs(first)


@standIn
class qMRMLSegmentationShow3DButton(QPushButton):
    """Makes and removes the surfaces of a segmentation."""

    locked = stored(bool, False)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Show 3D", parent)
        self.__node: Any = None
        self.setCheckable(True)
        self.toggled.connect(self.__onToggled)

    def setSegmentationNode(self, node: Any) -> None:
        self.__node = node
        wasBlocked = self.blockSignals(True)
        self.setChecked(node is not None and node.GetSegmentation().ContainsRepresentation("Closed surface"))
        self.blockSignals(wasBlocked)

    def setMRMLScene(self, _scene: vtk.vtkObject) -> None:
        """The node brings its scene."""

    def __onToggled(self, on: bool) -> None:
        if self.__node is not None and not self.locked:
            if on:
                self.__node.CreateClosedSurfaceRepresentation()
            else:
                self.__node.RemoveClosedSurfaceRepresentation()
