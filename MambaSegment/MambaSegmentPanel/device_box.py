"""The choice of the device: long names in the box, the worker's in the parameter node."""

from __future__ import annotations

import sys
from typing import Any

from slicer.i18n import tr as _


class DeviceBox:
    """A device that a scene names and this system does not offer is shown as it is, and not replaced."""

    def __init__(self, box: Any) -> None:
        self.box = box
        self.node: Any = None
        for text, name in devices():
            box.addItem(text, name)
        box.connect("currentIndexChanged(int)", self._onChosen)

    @property
    def chosen(self) -> str:
        return "auto" if self.node is None else self.node.device

    def show(self, node: Any) -> None:
        self.node = node
        index = self.box.findData(self.chosen)
        wasBlocked = self.box.blockSignals(True)
        if index < 0:
            self.box.addItem(self.chosen, self.chosen)
            index = self.box.count - 1
        self.box.currentIndex = index
        self.box.blockSignals(wasBlocked)

    def _onChosen(self, index: int) -> None:
        if self.node is not None and index >= 0:
            self.node.device = str(self.box.itemData(index))


def devices(platform: str = sys.platform) -> list[tuple[str, str]]:
    """What to show, and the worker's name of it; whether it is there, only the worker can tell."""
    gpu = (_("Apple GPU"), "mps") if platform == "darwin" else (_("GPU (CUDA or ROCm)"), "cuda")
    return [(_("Automatic"), "auto"), gpu, (_("CPU"), "cpu")]
