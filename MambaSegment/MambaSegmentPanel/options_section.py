"""Quality, region, device and 3D view; the heading names what is not as usual, so that it may stay folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from .choice_box import ChoiceBox, devices, qualities, surfaces, textOf
from .region import fitToVolume

_LOOK_AFTER_MS = 100  # a region that is dragged changes many times a second
_USUAL = {"quality": "best", "device": "auto", "surface": "small"}


class OptionsSection:
    """Args:
    ui: the named widgets of MambaSegment.ui; the region's selector is bound to the parameter node by its property.
    onRegion: called after the chosen region was drawn or moved.
    """

    def __init__(self, ui: Any, onRegion: Callable[[], None]) -> None:
        self.ui = ui
        self.node: Any = None
        self._boxes = [
            self._box(ui.qualitySelector, qualities(), "quality"),
            self._box(ui.deviceSelector, devices(), "device"),
            self._box(ui.surfaceSelector, surfaces(), "surface"),
        ]
        self._onRegion = onRegion
        self._observed: list[tuple[Any, int]] = []
        self._later: Any = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.connect("timeout()", onRegion)
        ui.optionsCollapsibleButton.collapsed = True
        ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onRegionAdded)

    @property
    def device(self) -> str:
        return self._read("device")

    @property
    def quality(self) -> str:
        return self._read("quality")

    @property
    def surface(self) -> str:
        return self._read("surface")

    @property
    def region(self) -> Any:
        """The ROI node, or None for the whole image."""
        return None if self.node is None else self.node.region

    def show(self, node: Any) -> None:
        self.node = node
        self._observe(self.region)
        for box in self._boxes:
            box.show()
        unusual = [
            textOf(choices, self._read(name))
            for name, choices in (("quality", qualities()), ("device", devices()))
            if self._read(name) != _USUAL[name]
        ]
        if self.region is not None:
            unusual.insert(0, self.region.GetName())
        heading = _("Options: {choices}").format(choices=", ".join(unusual)) if unusual else _("Options")
        self.ui.optionsCollapsibleButton.text = heading

    def onRegionAdded(self, regionNode: Any) -> None:
        """A new region begins as the whole volume, to be drawn smaller: at once in sight, and nothing is cut off."""
        if self.node is not None and self.node.inputVolume is not None:
            fitToVolume(regionNode, self.node.inputVolume)
            self._onRegion()
            slicer.util.showStatusMessage(_("Pull at the faces of the region in the slices or in 3D."), 5_000)

    def close(self) -> None:
        self._observe(None)
        self._later.stop()

    def _observe(self, regionNode: Any) -> None:
        if regionNode is (self._observed[0][0] if self._observed else None):
            return
        for subject, tag in self._observed:
            subject.RemoveObserver(tag)
        self._observed = []
        if regionNode is not None:
            events = (
                vtk.vtkCommand.ModifiedEvent,
                slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
                slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
            )
            self._observed = [(regionNode, regionNode.AddObserver(event, self._onRegionChanged)) for event in events]

    def _onRegionChanged(self, _caller: Any, _event: Any) -> None:
        self._later.start(_LOOK_AFTER_MS)

    def _box(self, box: Any, choices: list[tuple[str, str]], name: str) -> ChoiceBox:
        return ChoiceBox(box, choices, lambda: self._read(name), lambda value: self._write(name, value))

    def _read(self, name: str) -> str:
        return _USUAL[name] if self.node is None else getattr(self.node, name)

    def _write(self, name: str, value: str) -> None:
        if self.node is not None:
            setattr(self.node, name, value)
