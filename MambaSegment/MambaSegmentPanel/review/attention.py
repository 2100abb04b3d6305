"""Signs that somebody looks at the images: slices that move. Edits and clicks tell of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk


class Attention:
    """Calls `onSign` whenever a slice view moves, between `start` and `stop`."""

    def __init__(self, onSign: Callable[[], None]) -> None:
        self._onSign = onSign
        self._observed: list[tuple[Any, int]] = []

    def start(self) -> None:
        if not self._observed:
            for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
                self._observed.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onModified)))

    def stop(self) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed.clear()

    def _onModified(self, _caller: Any, _event: Any) -> None:
        self._onSign()
