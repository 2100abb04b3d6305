"""Stand-ins for the general widgets of qMRML: the root of every panel, and the box that offers the scene's nodes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import shiboken6
import slicer
import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QInputDialog, QWidget

from Testing.host.registry import standIn, stored


class SceneWidget(QWidget):
    """Holds a scene and tells about another one; base of the stand-ins, itself no class of Slicer."""

    mrmlSceneChanged = Signal(object)
    slicerSignatures = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}  # noqa: RUF012  (never changed)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__scene: Any = None

    def mrmlScene(self) -> Any:
        return self.__scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.__scene:
            self.__scene = scene
            self.mrmlSceneChanged.emit(scene)


@standIn
class qMRMLWidget(SceneWidget):
    """The root of a panel; its .ui file passes the scene on to the others."""


class Observations:
    """VTK observers of a widget; they neither keep it alive nor call it after its C++ half is gone."""

    def __init__(self, owner: Any) -> None:
        self._owner = weakref.ref(owner)
        self._tags: list[tuple[Any, int]] = []

    def observe(self, subject: Any, event: Any, method: Callable[..., None], kind: Any = None) -> None:
        """Call `method(owner)`, or `method(owner, call data)` where a kind of call data is given."""
        owner = self._owner

        def call(_caller: Any, _event: str, data: Any = None) -> None:
            alive = owner()
            if alive is not None and shiboken6.isValid(alive):
                method(alive, data) if kind is not None else method(alive)

        callback = vtk.calldata_type(kind)(call) if kind is not None else call
        self._tags.append((subject, subject.AddObserver(event, callback)))

    def remove(self) -> None:
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags.clear()


_SCENE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent", "EndBatchProcessEvent")


class NodeList(SceneWidget):
    """What the node selectors share: which nodes of the scene they offer, kept up to date."""

    nodeTypes = stored("QStringList", (), lambda self: self.refresh())
    hideChildNodeTypes = stored("QStringList", (), lambda self: self.refresh())
    showChildNodeTypes = stored(bool, True, lambda self: self.refresh())
    showHidden = stored(bool, False, lambda self: self.refresh())

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__attributes: list[tuple[str, str, str | None]] = []
        self.__sceneObservations = Observations(self)
        self.__nodeObservations = Observations(self)

    def setMRMLScene(self, scene: Any) -> None:
        self.__sceneObservations.remove()
        if scene is not None:
            for event in _SCENE_EVENTS:
                self.__sceneObservations.observe(scene, getattr(scene, event), NodeList.__sceneChanged)
            self.__sceneObservations.observe(
                scene,
                scene.NodeAboutToBeRemovedEvent,
                lambda self, node: self._aboutToBeRemoved(node),
                vtk.VTK_OBJECT,
            )
        super().setMRMLScene(scene)
        self.refresh()

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        """Offer only nodes of that type that have the attribute, with the value where one is given."""
        self.__attributes.append((nodeType, name, value))
        self.refresh()

    def offeredNodes(self) -> list[Any]:  # not in Slicer
        if self.mrmlScene() is None:
            return []
        return [node for node in _nodesOf(self.mrmlScene()) if self.__offers(node)]

    def observeNames(self, nodes: Iterable[Any]) -> None:  # not in Slicer
        self.__nodeObservations.remove()
        for node in nodes:
            self.__nodeObservations.observe(node, vtk.vtkCommand.ModifiedEvent, lambda self: self._nodeModified())

    def refresh(self) -> None:  # not in Slicer
        raise NotImplementedError

    def _aboutToBeRemoved(self, node: Any) -> None:
        """For sub-classes."""

    def _nodeModified(self) -> None:
        """For sub-classes."""

    def __sceneChanged(self) -> None:
        scene = self.mrmlScene()
        if scene is not None and not scene.IsBatchProcessing():
            self.refresh()

    def __offers(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if not any(self.__isOfType(node, kind) for kind in self.nodeTypes):
            return False
        return all(_matches(node, *each) for each in self.__attributes if node.IsA(each[0]))

    def __isOfType(self, node: Any, kind: str) -> bool:
        if not self.showChildNodeTypes:
            return node.GetClassName() == kind
        return node.IsA(kind) and node.GetClassName() not in self.hideChildNodeTypes


def _nodesOf(scene: Any) -> list[Any]:
    return [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]


def _matches(node: Any, _kind: str, name: str, value: str | None) -> bool:
    found = node.GetAttribute(name)
    return found is not None and (value is None or found == value)


@standIn
class qMRMLNodeComboBox(NodeList):
    """Offers nodes, "None" where allowed, and entries to create, rename and delete; the box inside is a QComboBox."""

    # the first one is what `.currentNodeChanged.connect` means
    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    slicerSignatures = {  # noqa: RUF012
        **SceneWidget.slicerSignatures,
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded(PyObject)",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser(PyObject)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved(PyObject)",
    }

    noneEnabled = stored(bool, False, lambda self: self.refresh())
    noneDisplay = stored(str, "None", lambda self: self.refresh())
    addEnabled = stored(bool, True, lambda self: self.refresh())
    removeEnabled = stored(bool, True, lambda self: self.refresh())
    editEnabled = stored(bool, False)
    renameEnabled = stored(bool, False, lambda self: self.refresh())
    selectNodeUponCreation = stored(bool, True)
    baseName = stored(str, "")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__nodes: list[Any] = []
        self.__current: Any = None
        self.__box = QComboBox(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.__box)
        self.__box.activated.connect(self.__onActivated)
        self.__box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def currentNode(self) -> Any:
        return self.__current

    def setCurrentNode(self, node: Any) -> None:
        """A node, its id, or None; what is not offered counts as none."""
        if isinstance(node, str):
            node = self.mrmlScene().GetNodeByID(node) if self.mrmlScene() is not None and node else None
        self.__choose(node if node in self.__nodes else self.__fallback())

    def setCurrentNodeID(self, nodeID: str | None) -> None:
        self.setCurrentNode(nodeID or "")

    currentNodeID = Property(
        str,
        lambda self: self.__current.GetID() if self.__current is not None else "",
        lambda self, nodeID: self.setCurrentNodeID(nodeID),
    )

    def nodeCount(self) -> int:
        return len(self.__nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self.__nodes[index] if 0 <= index < len(self.__nodes) else None

    def addNode(self, nodeType: str = "") -> Any:
        """As the entry "Create new …" does."""
        kind = nodeType or self.nodeTypes[0]
        scene = self.mrmlScene()
        node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(self.baseName or scene.GetTagByClassName(kind)))
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.__current is not None:
            self.mrmlScene().RemoveNode(self.__current)

    def renameCurrentNode(self) -> None:
        name = QInputDialog.getText(self, "Rename", "New name:")
        if self.__current is not None and name:
            self.__current.SetName(name)

    def refresh(self) -> None:  # not in Slicer
        before = self.__nodes
        self.__nodes = self.offeredNodes()
        self.observeNames(self.__nodes)
        self.__fill()
        self.__choose(self.__current if self.__current in self.__nodes else self.__fallback())
        for node in self.__nodes:
            if node not in before:
                self.nodeAdded.emit(node)

    def _aboutToBeRemoved(self, node: Any) -> None:
        if node in self.__nodes:
            self.nodeAboutToBeRemoved.emit(node)

    def _nodeModified(self) -> None:
        texts = self.__names()
        if [self.__box.itemText(index) for index in range(len(texts))] != texts:
            self.__fill()
            self.__showCurrent()

    def __fallback(self) -> Any:
        return None if self.noneEnabled or not self.__nodes else self.__nodes[0]

    def __names(self) -> list[str]:
        return [self.noneDisplay] * self.noneEnabled + [node.GetName() or "" for node in self.__nodes]

    def __fill(self) -> None:
        kind = slicer.mrmlScene.GetTagByClassName(self.nodeTypes[0]) if self.nodeTypes else ""
        self.__actions: list[tuple[str, Callable[[], Any]]] = []
        if self.addEnabled and self.nodeTypes:
            self.__actions.append((f"Create new {kind}", self.addNode))
        if self.renameEnabled and self.__current is not None:
            self.__actions.append(("Rename current node", self.renameCurrentNode))
        if self.removeEnabled and self.__current is not None:
            self.__actions.append(("Delete current node", self.removeCurrentNode))
        self.__box.clear()
        self.__box.addItems(self.__names() + [text for text, _action in self.__actions])

    def __showCurrent(self) -> None:
        index = self.__nodes.index(self.__current) + self.noneEnabled if self.__current is not None else -1
        self.__box.setCurrentIndex(0 if index < 0 and self.noneEnabled else index)

    def __choose(self, node: Any) -> None:
        changed = node is not self.__current
        self.__current = node
        if changed:
            self.__fill()  # the entries to rename and delete
        self.__showCurrent()
        if changed:
            self.currentNodeChanged[object].emit(node)
            self.currentNodeChanged[bool].emit(node is not None)
            self.currentNodeIDChanged.emit(self.currentNodeID)

    def __onActivated(self, index: int) -> None:
        """The user chose an entry."""
        actions = index - len(self.__names())
        if actions >= 0:
            self.__showCurrent()
            self.__actions[actions][1]()
        else:
            place = index - self.noneEnabled
            self.__choose(None if place < 0 else self.__nodes[place])
