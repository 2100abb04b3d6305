"""Slicer's own segment editor inside the section, with an editor node of its own, so that the Segment Editor module
keeps what it shows.

The widget is large, so it is made when the first review is opened, not with the panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

SINGLETON_TAG = "MambaSegmentReview"
EFFECTS = ("Paint", "Draw", "Erase", "Scissors", "Islands", "Smoothing")  # names that Slicer does not translate
_UNDO_STATES = 10


class ReviewEditor:
    """Args:
    place: a layout that takes the widget.
    onSelected: called with the id of the segment that was chosen in the editor, by its keys for instance.
    """

    def __init__(self, place: Any, onSelected: Callable[[str], None]) -> None:
        self._place = place
        self._onSelected = onSelected
        self._node: Any = None
        self._isEntered = False
        self.widget: Any = None

    def show(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Edit a segmentation over an image, which may be None."""
        if self.widget is None:
            self._make()
        self._takeNode()
        if self.widget.segmentationNodeID() != segmentationNode.GetID():
            self.widget.setActiveEffectByName("")
            self.widget.setSegmentationNode(segmentationNode)
        self.widget.setSourceVolumeNode(volumeNode)

    def enter(self, shortcutsParent: Any) -> None:
        """The section is seen: keys and views belong to the editor."""
        if self.widget is not None and not self._isEntered:
            self._isEntered = True
            self.widget.setupViewObservations()
            self.widget.installKeyboardShortcuts(shortcutsParent)
            self.widget.updateWidgetFromMRML()

    def leave(self) -> None:
        """An effect that stayed active would go on catching the mouse in all views."""
        if self.widget is not None:
            self.widget.setActiveEffectByName("")
            if self._isEntered:
                self.widget.uninstallKeyboardShortcuts()
                self.widget.removeViewObservations()
        self._isEntered = False

    def forget(self) -> None:
        """Nothing is edited any more; the scene may be closed."""
        self.leave()
        if self.widget is not None:
            self.widget.setSegmentationNode(None)
            self.widget.setSourceVolumeNode(None)

    def close(self) -> None:
        """The panel goes."""
        self.forget()
        if self.widget is not None:
            self.widget.setMRMLSegmentEditorNode(None)
            self.widget.setMRMLScene(None)

    @property
    def node(self) -> Any:
        """The vtkMRMLSegmentEditorNode."""
        return self._node

    def select(self, identifier: str) -> None:
        if self.widget is not None and identifier != self.widget.currentSegmentID():
            self.widget.setCurrentSegmentID(identifier)

    def saveForUndo(self) -> None:
        """Before a change of ours, so that the editor's undo takes it back."""
        self.widget.saveStateForUndo()

    def _make(self) -> None:
        widget = slicer.qMRMLSegmentEditorWidget()
        widget.objectName = "reviewSegmentEditor"
        widget.setMaximumNumberOfUndoStates(_UNDO_STATES)
        for name in (
            "segmentationNodeSelectorVisible",
            "sourceVolumeNodeSelectorVisible",
            "addRemoveSegmentButtonsVisible",
            "switchToSegmentationsButtonVisible",
            "specifyGeometryButtonVisible",
            "maskingSectionVisible",
            "unorderedEffectsVisible",
            "autoShowSourceVolumeNode",  # what the views show is the user's choice
        ):
            setattr(widget, name, False)
        widget.setEffectNameOrder(list(EFFECTS))
        for table in slicer.util.findChildren(widget, className="qMRMLSegmentsTableView"):
            table.visible = False  # the section has one, with the status
        self.widget = widget
        self._takeNode()
        widget.setMRMLScene(slicer.mrmlScene)
        widget.connect("currentSegmentIDChanged(QString)", self._onSelected)
        self._place.addWidget(widget)

    def _takeNode(self) -> None:
        """The scene's node of our tag, made if it is not there, as after the scene was closed."""
        if self._node is not None and slicer.mrmlScene.IsNodePresent(self._node):
            return
        node = slicer.mrmlScene.GetSingletonNode(SINGLETON_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(SINGLETON_TAG)
            node = slicer.mrmlScene.AddNode(node)
        self._node = node
        self.widget.setMRMLSegmentEditorNode(node)
