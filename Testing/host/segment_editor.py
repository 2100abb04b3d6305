"""Stand-in for `qMRMLSegmentEditorWidget`: its state lies in a real vtkMRMLSegmentEditorNode, undo in the real logic.

There are no effects and no mouse. What a panel asks for is recorded: see `EditorRecord`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import slicer
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from Testing.host.mrml_widgets import Observations, SceneWidget, qMRMLNodeComboBox
from Testing.host.registry import standIn, stored
from Testing.host.segment_widgets import observeSegments, qMRMLSegmentsTableView, segmentIDsOf

EFFECTS = (
    *("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds", "Fill between slices", "Margin"),
    *("Hollow", "Smoothing", "Scissors", "Islands", "Logical operators", "Mask volume"),
)
# what installKeyboardShortcuts takes; a panel's own shortcut of the same key makes both dead
KEYS = (
    *(f"{digit}" for digit in range(10)),
    *(f"Shift+{digit}" for digit in range(10)),
    *("Esc", "Space", "Z", "Y", "Ctrl+Z", "Ctrl+Y", "Ctrl+Shift+Z", "Q", "W", "/", "*", ",", ".", ">", "<", "I"),
)


@dataclass
class EditorRecord:
    """What was asked of an editor widget."""

    activated_effects: list[str] = field(default_factory=list)
    shortcuts_parent: QWidget | None = None  # None while no shortcuts are installed
    view_observations: bool = False


@standIn
class qSlicerSegmentEditorAbstractEffect(QObject):
    """An effect's name and parameters; it does nothing to voxels."""

    name = stored(str, "")

    def __init__(self, name: str, editor: Any) -> None:
        super().__init__(editor)
        self.__editor = editor
        self.name = name

    def setParameter(self, name: str, value: Any) -> None:
        self.__editor.mrmlSegmentEditorNode().SetAttribute(f"{self.name}.{name}", str(value))

    def parameter(self, name: str) -> str:
        return self.__editor.mrmlSegmentEditorNode().GetAttribute(f"{self.name}.{name}") or ""

    def self(self) -> Any:
        raise NotImplementedError(f"the stand-in host has no segment editor effects, so {self.name} cannot be applied")


@standIn
class qMRMLSegmentEditorWidget(SceneWidget):
    """Selectors, segments table and effect buttons."""

    currentSegmentIDChanged = Signal(str)
    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)
    slicerSignatures = {  # noqa: RUF012
        **SceneWidget.slicerSignatures,
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged(PyObject)",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged(PyObject)",
    }

    segmentationNodeSelectorVisible = stored(bool, True, lambda self: self.__applyVisibility())
    sourceVolumeNodeSelectorVisible = stored(bool, True, lambda self: self.__applyVisibility())
    addRemoveSegmentButtonsVisible = stored(bool, True, lambda self: self.__applyVisibility())
    unorderedEffectsVisible = stored(bool, True, lambda self: self.__makeEffectButtons())
    maskingSectionVisible = stored(bool, True)
    specifyGeometryButtonVisible = stored(bool, True)
    show3DButtonVisible = stored(bool, True)
    switchToSegmentationsButtonVisible = stored(bool, True)
    autoShowSourceVolumeNode = stored(bool, True)
    undoEnabled = stored(bool, True, lambda self: self.__applyVisibility())
    readOnly = stored(bool, False, lambda self: self.__applyVisibility())
    effectButtonStyle = stored("QVariant", 0)
    effectColumnCount = stored(int, 2, lambda self: self.__makeEffectButtons())
    jumpToSelectedSegmentEnabled = stored(bool, False)
    defaultTerminologyEntry = stored(str, "")
    defaultTerminologyEntrySettingsKey = stored(str, "")
    maximumNumberOfUndoStates = stored(
        int, 10, lambda self: self.__logic.SetMaximumNumberOfUndoStates(self.maximumNumberOfUndoStates)
    )

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.__record = EditorRecord()
        self.__editorNode: Any = None
        self.__logic = slicer.vtkSlicerSegmentEditorLogic()
        self.__effectOrder: tuple[str, ...] = EFFECTS
        self.__effects = {name: qSlicerSegmentEditorAbstractEffect(name, self) for name in EFFECTS}
        self.__shortcuts: list[QShortcut] = []
        self.__observations = Observations(self)
        self.__build()

    def __build(self) -> None:
        self.__segmentations, self.__volumes = qMRMLNodeComboBox(), qMRMLNodeComboBox()
        self.__segmentations.nodeTypes, self.__segmentations.noneEnabled = ["vtkMRMLSegmentationNode"], True
        self.__volumes.nodeTypes, self.__volumes.noneEnabled = ["vtkMRMLScalarVolumeNode"], True
        self.__segmentations.currentNodeChanged.connect(self.setSegmentationNode)
        self.__volumes.currentNodeChanged.connect(self.setSourceVolumeNode)
        self.__table = qMRMLSegmentsTableView()
        self.__table.selectionMode = 1
        self.__table.connect("selectionChanged(QItemSelection,QItemSelection)", self.__onTableSelection)  # type: ignore[call-overload]
        self.__add, self.__remove = QPushButton("Add"), QPushButton("Remove")
        self.__add.clicked.connect(self.__onAdd)
        self.__remove.clicked.connect(self.__onRemove)
        self.__undo, self.__redo = QPushButton("Undo"), QPushButton("Redo")
        self.__undo.clicked.connect(self.undo)
        self.__redo.clicked.connect(self.redo)
        buttons, self.__effectGrid, history = QHBoxLayout(), QGridLayout(), QHBoxLayout()
        buttons.addWidget(self.__add)
        buttons.addWidget(self.__remove)
        history.addWidget(self.__undo)
        history.addWidget(self.__redo)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for each in (self.__segmentations, self.__volumes, self.__table):
            layout.addWidget(each)
        layout.addLayout(buttons)
        layout.addLayout(self.__effectGrid)
        layout.addLayout(history)
        self.__effectButtons: dict[str, QPushButton] = {}
        self.__makeEffectButtons()

    def record(self) -> EditorRecord:  # not in Slicer
        return self.__record

    def logic(self) -> Any:
        return self.__logic

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self.__logic.SetMRMLScene(scene)
        self.__segmentations.setMRMLScene(scene)
        self.__volumes.setMRMLScene(scene)
        self.updateWidgetFromMRML()

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self.__editorNode = node
        self.__logic.SetSegmentEditorNode(node)
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        return self.__editorNode

    def segmentationNode(self) -> Any:
        return self.__editorNode.GetSegmentationNode() if self.__editorNode is not None else None

    def segmentationNodeID(self) -> str:
        return self.segmentationNode().GetID() if self.segmentationNode() is not None else ""

    def setSegmentationNode(self, node: Any) -> None:
        if self.__editorNode is None:
            return
        if node is not self.segmentationNode():
            self.setActiveEffectByName("")
            self.__editorNode.SetAndObserveSegmentationNode(node)
            self.__logic.SetSegmentationNode(node)
            self.segmentationNodeChanged.emit(node)
        self.updateWidgetFromMRML()

    def sourceVolumeNode(self) -> Any:
        return self.__editorNode.GetSourceVolumeNode() if self.__editorNode is not None else None

    def setSourceVolumeNode(self, node: Any) -> None:
        if self.__editorNode is not None and node is not self.sourceVolumeNode():
            self.__editorNode.SetAndObserveSourceVolumeNode(node)
            self.__logic.SetSourceVolumeNode(node)
            self.sourceVolumeNodeChanged.emit(node)
        self.updateWidgetFromMRML()

    def currentSegmentID(self) -> str:
        return (self.__editorNode.GetSelectedSegmentID() or "") if self.__editorNode is not None else ""

    def setCurrentSegmentID(self, segmentID: str) -> None:
        if self.__editorNode is not None and segmentID != self.currentSegmentID():
            self.__editorNode.SetSelectedSegmentID(segmentID)
            self.__logic.SetCurrentSegmentID(segmentID)
            self.__table.setSelectedSegmentIDs([segmentID] if segmentID else [])
            self.currentSegmentIDChanged.emit(segmentID)

    def selectNextSegment(self) -> None:
        self.__select(1)

    def selectPreviousSegment(self) -> None:
        self.__select(-1)

    def setActiveEffectByName(self, name: str) -> None:
        if name and name not in self.availableEffectNames():
            raise ValueError(f"there is no effect {name!r}; there are {', '.join(self.availableEffectNames())}")
        if self.__editorNode is not None and name != (self.__editorNode.GetActiveEffectName() or ""):
            self.__editorNode.SetActiveEffectName(name)
            self.__record.activated_effects.append(name)
        for effect, button in self.__effectButtons.items():
            button.setChecked(effect == name)

    def setActiveEffect(self, effect: Any) -> None:
        self.setActiveEffectByName(effect.name if effect is not None else "")

    def activeEffect(self) -> Any:
        return self.effectByName(self.__editorNode.GetActiveEffectName() or "") if self.__editorNode else None

    def effectByName(self, name: str) -> Any:
        return self.__effects.get(name)

    def availableEffectNames(self) -> tuple[str, ...]:
        return tuple(self.__effects)

    def setEffectNameOrder(self, names: Iterable[str]) -> None:
        self.__effectOrder = tuple(names)
        self.__makeEffectButtons()

    def applyEffect(self, labelmap: Any, mode: Any) -> None:  # not in Slicer: what an effect does to the segment
        """Change the current segment by a label map of 0 and 1, as Paint and Erase do: undoable, masks respected.

        Args:
            mode: `ModificationModeAdd`, `ModificationModeRemove` or `ModificationModeSet` of the editor's logic.
        """
        self.saveStateForUndo()
        segment = self.segmentationNode().GetSegmentation().GetSegment(self.currentSegmentID())
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if logic.GetSegmentStatus(segment) == logic.NotStarted:
            logic.SetSegmentStatus(segment, logic.InProgress)
        self.__logic.ModifySegmentByLabelmap(
            self.segmentationNode(), self.currentSegmentID(), labelmap, mode, False, False
        )

    def effectButtons(self) -> dict[str, QPushButton]:  # not in Slicer: the buttons that the user would see
        return self.__effectButtons

    def saveStateForUndo(self) -> None:
        if self.undoEnabled:
            self.__logic.SaveStateForUndo()

    def undo(self) -> None:
        self.__logic.Undo()

    def redo(self) -> None:
        self.__logic.Redo()

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self.maximumNumberOfUndoStates = count

    def setupViewObservations(self) -> None:
        self.__record.view_observations = True

    def removeViewObservations(self) -> None:
        self.__record.view_observations = False

    def installKeyboardShortcuts(self, parent: QWidget | None = None) -> None:
        """Real shortcuts, so that one that a panel has of the same key stops working, as in Slicer."""
        self.uninstallKeyboardShortcuts()
        self.__record.shortcuts_parent = parent or self
        for key in KEYS:
            shortcut = QShortcut(QKeySequence(key), parent or self)
            shortcut.activated.connect(lambda key=key: self.__onKey(key))
            self.__shortcuts.append(shortcut)

    def uninstallKeyboardShortcuts(self) -> None:
        for shortcut in self.__shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.__shortcuts.clear()
        self.__record.shortcuts_parent = None

    def showSourceVolumeInSliceViewers(self, _force: bool = False, _fit: bool = False) -> None:
        """There are no views."""

    def rotateSliceViewsToSegmentation(self) -> None:
        """There are no views."""

    def jumpSlices(self) -> None:
        self.__table.jumpSlices()

    def updateWidgetFromMRML(self) -> None:
        node = self.segmentationNode()
        self.__segmentations.setCurrentNode(node)
        self.__volumes.setCurrentNode(self.sourceVolumeNode())
        if self.__table.segmentationNode() is not node:
            self.__table.setSegmentationNode(node)
            observeSegments(self.__observations, node, qMRMLSegmentEditorWidget.__keepSelection)
        self.__keepSelection()

    def __keepSelection(self) -> None:
        """The first segment where none, or one that is gone, is selected."""
        known = segmentIDsOf(self.segmentationNode())
        if self.currentSegmentID() not in known:
            self.setCurrentSegmentID(known[0] if known else "")

    def __select(self, step: int) -> None:
        known = segmentIDsOf(self.segmentationNode())
        if known:
            place = known.index(self.currentSegmentID()) + step
            self.setCurrentSegmentID(known[max(0, min(place, len(known) - 1))])

    def __makeEffectButtons(self) -> None:
        rest = tuple(name for name in EFFECTS if name not in self.__effectOrder)
        for button in self.__effectButtons.values():
            button.setParent(None)
            button.deleteLater()
        self.__effectButtons = {}
        for place, name in enumerate(self.__effectOrder + (rest if self.unorderedEffectsVisible else ())):
            button = QPushButton(name)
            button.setCheckable(True)
            button.clicked.connect(lambda checked, name=name: self.setActiveEffectByName(name if checked else ""))
            self.__effectGrid.addWidget(button, *divmod(place, self.effectColumnCount))
            self.__effectButtons[name] = button

    def __applyVisibility(self) -> None:
        self.__segmentations.setVisible(self.segmentationNodeSelectorVisible)
        self.__volumes.setVisible(self.sourceVolumeNodeSelectorVisible)
        self.__add.setVisible(self.addRemoveSegmentButtonsVisible)
        self.__remove.setVisible(self.addRemoveSegmentButtonsVisible)
        self.__table.readOnly = self.readOnly
        for button in (self.__undo, self.__redo):
            button.setVisible(self.undoEnabled)

    def __onTableSelection(self, _selected: Any, _deselected: Any) -> None:
        chosen = self.__table.selectedSegmentIDs()
        if chosen:
            self.setCurrentSegmentID(chosen[0])

    def __onAdd(self) -> None:
        if self.segmentationNode() is not None:
            self.setCurrentSegmentID(self.segmentationNode().GetSegmentation().AddEmptySegment())

    def __onRemove(self) -> None:
        if self.segmentationNode() is not None and self.currentSegmentID():
            self.segmentationNode().GetSegmentation().RemoveSegment(self.currentSegmentID())

    def __onKey(self, key: str) -> None:
        """Digits choose effects, Esc none, Z and Y undo and redo; the other keys do nothing here."""
        names = list(self.__effectButtons)
        if key.isdigit() and (int(key) - 1) % 10 < len(names):
            self.setActiveEffectByName(names[(int(key) - 1) % 10])
        actions = {"Esc": lambda: self.setActiveEffectByName(""), "Z": self.undo, "Ctrl+Z": self.undo}
        actions |= {"Y": self.redo, "Ctrl+Y": self.redo, "Ctrl+Shift+Z": self.redo}
        actions |= {"Q": self.selectPreviousSegment, "W": self.selectNextSegment}
        if key in actions:
            actions[key]()
