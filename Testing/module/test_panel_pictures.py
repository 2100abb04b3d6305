"""What the panel looks like in each of its states, in a narrow dock, in light and dark; nothing may be cut off.

With MAMBASEGMENT_PICTURES set to a folder the pictures are kept there, to be looked at.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
import slicer.packaging

from Testing.module.panel_cases import (
    press,
    start_run,
    wait_for_end,
)
from Testing.module.scene_cases import addPhantom, addTransform, addVolume, aRotation

NARROW_PX = 300
DARK = {"Window": 45, "Base": 30, "AlternateBase": 40, "Button": 60, "ToolTipBase": 45}
LIGHT_TEXT = ("WindowText", "Text", "ButtonText", "ToolTipText", "BrightText")


@pytest.fixture
def pictures(host, tmp_path):
    """`pictures(widget, "ready")`: one in light and one in dark, and no text that does not fit."""
    folder = Path(os.environ.get("MAMBASEGMENT_PICTURES") or tmp_path)
    before = host.app.palette()

    def take(widget, name):
        for theme, palette in (("light", before), ("dark", darkPalette())):
            host.app.setPalette(palette)
            host.process_events()
            picture = host.screenshot(widget.parent, folder / f"panel-{name}-{theme}.png", width=NARROW_PX)
            assert widget.parent.width == NARROW_PX
            assert host.layout_faults(widget.parent) == []
            assert picture.stat().st_size > 5000

    yield take
    host.app.setPalette(before)


def darkPalette():
    palette = qt.QPalette()
    for name, grey in DARK.items():
        palette.setColor(getattr(qt.QPalette, name), qt.QColor(grey, grey, grey))
    for name in LIGHT_TEXT:
        palette.setColor(getattr(qt.QPalette, name), qt.QColor(235, 235, 235))
    for name in ("Text", "WindowText", "ButtonText"):
        palette.setColor(qt.QPalette.Disabled, getattr(qt.QPalette, name), qt.QColor(130, 130, 130))
    palette.setColor(qt.QPalette.PlaceholderText, qt.QColor(140, 140, 140))
    palette.setColor(qt.QPalette.Highlight, qt.QColor(60, 110, 170))
    return palette


def test_first_use(host, pictures, monkeypatch):
    host.load_module()
    logic = sys.modules["MambaSegment"].MambaSegmentLogic
    monkeypatch.setattr(logic, "missingPackages", lambda _self: ["safetensors>=0.4.3", "slicerio>=1.1", "numba>=0.60"])
    monkeypatch.setattr(logic, "torchIsInstalled", lambda _self: False)
    host.set_pip("import time; time.sleep(1.0)")
    widget = host.enter("MambaSegment")
    pictures(widget, "first-use")
    press(widget.ui.installButton)
    host.wait_until(slicer.packaging.isPipInstallInProgress)
    pictures(widget, "installing")
    press(widget.ui.cancelInstallButton)
    host.wait_until(lambda: not widget.panel.firstUse.installer.isRunning)
    pictures(widget, "installation-stopped")


def test_ready_with_two_channels(host, pictures, open_module):
    addVolume(np.zeros((2, 2, 2), np.int16), name="T1")
    widget = open_module("two")
    pictures(widget, "not-ready")  # the second channel is missing


def test_every_section_unfolded(host, pictures, open_module):
    """With a list of models, a region that is turned, and voxels of another size than the model's."""
    volume = addVolume(np.resize(np.arange(3, dtype=np.int16), (6, 7, 8)), name="T1 of a patient with a long name")
    widget = open_module("tiny")
    ui, node = widget.ui, widget.logic.getParameterNode()
    for name in ("options", "queue", "modelCard", "settings"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False
    press(ui.addToQueueButton)
    node.model = "short"
    press(ui.addToQueueButton)
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "around the hippocampus")
    region.SetSize(4, 4, 4)
    turn = addTransform(aRotation())
    volume.SetAndObserveTransformNodeID(turn.GetID())
    region.SetCenterWorld(*turn.GetMatrixTransformToParent().MultiplyPoint((3, 3, 3, 1))[:3])
    node.quality, node.region = "fast", region
    widget.panel.update()
    pictures(widget, "unfolded")


def test_running(host, pictures, open_module):
    addVolume(np.resize(np.arange(3, dtype=np.int16), (6, 7, 8)), name="head of a patient with a long name")
    widget = open_module("slow")
    start_run(host, widget)
    pictures(widget, "running")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)


def test_ready_done_and_then_an_error(host, pictures):
    """With the shipped model."""
    addPhantom("T1")
    host.load_module()
    widget = host.enter("MambaSegment")
    pictures(widget, "ready")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert widget.ui.resultTable.rowCount == 2
    assert widget.ui.resultTable.item(0, 1).text() != ""
    pictures(widget, "done")
    widget.logic.getParameterNode().inputVolume = addVolume(np.ones((4, 4, 4), np.int16), name="constant")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    widget.ui.logCollapsibleButton.collapsed = False
    pictures(widget, "error")
