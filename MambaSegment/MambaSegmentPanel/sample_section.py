"""`Try it with a sample`: there while the scene holds no image, for a first look without data of one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import slicer

from .sample_data import MODEL, sampleVolume
from .scene_io import imageVolumes

_log = logging.getLogger("MambaSegment")


class SampleSection:
    """Args:
    ui: the named widgets of MambaSegment.ui.
    onSample: given the loaded volume and the name of the model that it suits.
    """

    def __init__(self, ui: Any, onSample: Callable[[Any, str], None]) -> None:
        self.ui = ui
        self.node: Any = None
        self._onSample = onSample
        ui.tryItButton.connect("clicked()", self.onTryIt)

    def show(self, node: Any, canRun: bool) -> None:
        """Args: node: the parameter node or None. canRun: whether packages are there to run anything."""
        self.node = node
        self.ui.tryItButton.visible = node is not None and canRun and not imageVolumes(slicer.mrmlScene)

    def onTryIt(self) -> None:
        if self.node is None:
            return
        with slicer.util.tryWithErrorDisplay():
            volume = sampleVolume()
        _log.info("the sample %s was loaded", volume.GetName())
        self._onSample(volume, MODEL)
