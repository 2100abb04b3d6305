"""Quality, region, device and 3D view; the heading names what is not as usual, so that it may stay folded."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from .choice_box import ChoiceBox, devices, qualities, surfaces, textOf
from .region import fitToVolume

_USUAL = {"quality": "best", "device": "auto", "surface": "small"}


class OptionsSection:
    """Args:
    ui: the named widgets of MambaSegment.ui; the region's selector is bound to the parameter node by its property.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.node: Any = None
        self._boxes = [
            self._box(ui.qualitySelector, qualities(), "quality"),
            self._box(ui.deviceSelector, devices(), "device"),
            self._box(ui.surfaceSelector, surfaces(), "surface"),
        ]
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
            slicer.util.showStatusMessage(_("Pull at the faces of the region in the slices or in 3D."), 5_000)

    def _box(self, box: Any, choices: list[tuple[str, str]], name: str) -> ChoiceBox:
        return ChoiceBox(box, choices, lambda: self._read(name), lambda value: self._write(name, value))

    def _read(self, name: str) -> str:
        return _USUAL[name] if self.node is None else getattr(self.node, name)

    def _write(self, name: str, value: str) -> None:
        if self.node is not None:
            setattr(self.node, name, value)
