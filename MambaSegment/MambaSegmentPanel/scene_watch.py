"""Tells when images come into the scene or leave it, such as those that are dropped onto Slicer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk

_LOOK_AFTER_MS = 50  # a scene that is loaded brings many nodes at once


class SceneWatch:
    """Args:
    onChange: called soon after a scalar volume was added or removed.
    """

    def __init__(self, onChange: Callable[[], None]) -> None:
        self._later: Any = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.connect("timeout()", onChange)
        self._scene = slicer.mrmlScene

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def note(_scene: Any, _event: Any, node: Any) -> None:
            if node is not None and node.IsA("vtkMRMLScalarVolumeNode"):
                self._later.start(_LOOK_AFTER_MS)

        events = (self._scene.NodeAddedEvent, self._scene.NodeRemovedEvent)
        self._tags = [self._scene.AddObserver(event, note) for event in events]

    def close(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []
        self._later.stop()
