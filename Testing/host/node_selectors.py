"""Stand-ins for the less common selectors: several nodes at once, and items of the subject hierarchy."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QListWidget, QListWidgetItem, QWidget

from Testing.host.ctk_inputs import ctkComboBox
from Testing.host.mrml_widgets import NodeList, Observations
from Testing.host.registry import standIn, stored


@standIn
class qMRMLCheckableNodeComboBox(NodeList):
    """Nodes that can be ticked; the list inside is a QListWidget."""

    checkedNodesChanged = Signal()

    noneEnabled = stored(bool, False)
    addEnabled = stored(bool, True)
    removeEnabled = stored(bool, True)
    renameEnabled = stored(bool, False)
    baseName = stored(str, "")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__nodes: list[Any] = []
        self.__checked: list[Any] = []
        self.__list = QListWidget()
        self.__list.itemChanged.connect(self.__onItem)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.__list)

    def nodeCount(self) -> int:
        return len(self.__nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self.__nodes[index] if 0 <= index < len(self.__nodes) else None

    def checkedNodes(self) -> tuple[Any, ...]:
        return tuple(node for node in self.__nodes if node in self.__checked)

    def uncheckedNodes(self) -> tuple[Any, ...]:
        return tuple(node for node in self.__nodes if node not in self.__checked)

    def checkState(self, node: Any) -> Any:
        return Qt.CheckState.Checked if node in self.__checked else Qt.CheckState.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        wanted = Qt.CheckState(state) == Qt.CheckState.Checked
        if node in self.__nodes and wanted != (node in self.__checked):
            self.__checked = [each for each in self.__checked if each is not node] + ([node] if wanted else [])
            self.__show()
            self.checkedNodesChanged.emit()

    def check(self, node: Any) -> None:
        self.setCheckState(node, Qt.CheckState.Checked)

    def refresh(self) -> None:  # not in Slicer
        self.__nodes = self.offeredNodes()
        self.observeNames(self.__nodes)
        before = len(self.__checked)
        self.__checked = [node for node in self.__checked if node in self.__nodes]
        self.__show()
        if len(self.__checked) != before:
            self.checkedNodesChanged.emit()

    def _nodeModified(self) -> None:
        self.__show()

    def __show(self) -> None:
        wasBlocked = self.__list.blockSignals(True)
        self.__list.clear()
        for node in self.__nodes:
            item = QListWidgetItem(node.GetName() or "")
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(self.checkState(node))
            self.__list.addItem(item)
        self.__list.blockSignals(wasBlocked)

    def __onItem(self, item: QListWidgetItem) -> None:
        self.setCheckState(self.__nodes[self.__list.row(item)], item.checkState())


@standIn
class qMRMLSubjectHierarchyComboBox(ctkComboBox):
    """Data nodes and folders of the subject hierarchy, as one list."""

    currentItemChanged = Signal("qlonglong")
    slicerSignatures = {"currentItemChanged(vtkIdType)": "currentItemChanged(qlonglong)"}  # noqa: RUF012

    noneEnabled = stored(bool, False, lambda self: self.__refresh())
    noneDisplay = stored(str, "None", lambda self: self.__refresh())
    showRootItem = stored(bool, True)
    showEmptyHierarchyItems = stored(bool, True)
    nodeTypes = stored("QStringList", (), lambda self: self.__refresh())

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__scene: Any = None
        self.__filters: list[tuple[str, str]] = []
        self.__observations = Observations(self)
        self.currentIndexChanged.connect(lambda _index: self.currentItemChanged.emit(self.currentItem()))

    def setMRMLScene(self, scene: Any) -> None:
        self.__observations.remove()
        self.__scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
                self.__observations.observe(scene, event, qMRMLSubjectHierarchyComboBox.__refresh)
        self.__refresh()

    def addNodeAttributeFilter(self, name: str, value: str = "") -> None:
        self.__filters.append((name, value))
        self.__refresh()

    def currentItem(self) -> int:
        return int(self.itemData(self.currentIndex) or 0)

    def setCurrentItem(self, item: int) -> None:
        self.setCurrentIndex(self.findData(int(item)))

    def currentNode(self) -> Any:
        hierarchy = self.__hierarchy()
        return hierarchy.GetItemDataNode(self.currentItem()) if hierarchy is not None and self.currentItem() else None

    def __hierarchy(self) -> Any:
        if self.__scene is None:
            return None
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.__scene)

    def __refresh(self) -> None:
        hierarchy = self.__hierarchy()
        before = self.currentItem()
        wasBlocked = self.blockSignals(True)
        self.clear()
        if self.noneEnabled:
            self.addItem(self.noneDisplay, 0)
        if hierarchy is not None:
            for item in self.__items(hierarchy):
                self.addItem(hierarchy.GetItemName(item), item)
        self.setCurrentIndex(max(self.findData(before), 0 if self.count else -1))
        self.blockSignals(wasBlocked)
        if self.currentItem() != before:
            self.currentItemChanged.emit(self.currentItem())

    def __items(self, hierarchy: Any) -> list[int]:
        children = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), children, True)
        return [
            item for item in map(children.GetId, range(children.GetNumberOfIds())) if self.__offers(hierarchy, item)
        ]

    def __offers(self, hierarchy: Any, item: int) -> bool:
        node = hierarchy.GetItemDataNode(item)
        if node is None:
            return not self.nodeTypes and not self.__filters
        fits = not self.nodeTypes or any(node.IsA(kind) for kind in self.nodeTypes)
        return fits and all(
            node.GetAttribute(name) is not None and value in ("", node.GetAttribute(name))
            for name, value in self.__filters
        )
