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

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.phantom import hippocampus_phantom
from MambaSegmentLib.volume import Volume
from Testing.host.rendering import SliceView, ThreeDView
from Testing.module.panel_cases import press, segmentations, start_run, wait_for_end
from Testing.module.scene_cases import addPhantom, addTransform, addVolume, aRotation

NARROW_PX, USUAL_PX = 300, 420
DARK = {"Window": 45, "Base": 30, "AlternateBase": 40, "Button": 60, "ToolTipBase": 45}
LIGHT_TEXT = ("WindowText", "Text", "ButtonText", "ToolTipText", "BrightText")


@pytest.fixture
def picture_folder(tmp_path):
    return Path(os.environ.get("MAMBASEGMENT_PICTURES") or tmp_path)


@pytest.fixture
def pictures(host, picture_folder):
    """`pictures(widget, "ready")`: narrow in light and dark, and of the usual width; no text that does not fit."""
    before = host.app.palette()

    def take(widget, name):
        host.process_events(0.3)  # what a review measures is shown a moment after a click
        for look, palette, width in (
            ("usual", before, USUAL_PX),
            ("light", before, NARROW_PX),
            ("dark", darkPalette(), NARROW_PX),
        ):
            host.app.setPalette(palette)
            host.process_events()
            picture = host.screenshot(widget.parent, picture_folder / f"panel-{name}-{look}.png", width=width)
            assert widget.parent.width == width
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


def test_ready_running_done_and_then_an_error(host, pictures, picture_folder):
    """With the shipped model, and the views that a user would see beside the panel."""
    volume = addPhantom("phantom")
    host.load_module()
    widget = host.enter("MambaSegment")
    node = widget.logic.getParameterNode()
    pictures(widget, "ready")
    node.inputVolume = addVolume(np.tile(slicer.util.arrayFromVolume(volume), (3, 3, 3)), name="many phantoms")
    start_run(host, widget)
    pictures(widget, "running")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    node.inputVolume = volume
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert widget.ui.resultTable.rowCount == 2
    assert widget.ui.resultTable.item(0, 1).text() != ""
    pictures(widget, "done")
    take_views(volume, picture_folder)
    node.inputVolume = addVolume(np.ones((4, 4, 4), np.int16), name="constant")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    pictures(widget, "error")
    widget.ui.logCollapsibleButton.collapsed = False
    pictures(widget, "log")


def take_views(volume, folder):
    (node,) = segmentations()
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(True)
    view = SliceView(volume, size_px=(320, 320))
    view.save(folder / "view-slice.png")
    view.close()
    node.CreateClosedSurfaceRepresentation()
    view = ThreeDView(size_px=(320, 320))
    view.save(folder / "view-3d.png")
    view.close()


def test_many_cases(host, pictures, tmp_path, monkeypatch):
    """Of the shipped model as well; one of the files holds nothing."""
    monkeypatch.chdir(tmp_path)  # short paths in the pictures
    Path("images").mkdir()
    for number in range(1, 5):
        image = Volume(np.ones((4, 4, 4), np.int16)) if number == 2 else hippocampus_phantom().image
        write_volume(image, Path("images", f"phantom {number}.nii.gz"))
    host.load_module()
    widget = host.enter("MambaSegment")
    section = widget.panel.batch
    for button in (widget.ui.inputsCollapsibleButton, widget.ui.modelCardCollapsibleButton):
        button.collapsed = True
    section.ui.batchCollapsibleButton.collapsed = False
    pictures(widget, "batch-empty")
    section.ui.batchSourceEdit.setText("images")
    section.ui.batchOutputEdit.setText("labels")
    host.wait_until(lambda: section.ui.batchButton.enabled)
    pictures(widget, "batch-ready")
    press(section.ui.batchButton)
    host.wait_until(lambda: section.ui.batchTable.item(2, 1).text().startswith("running"), timeout_s=120)
    pictures(widget, "batch-running")
    host.wait_until(lambda: not section.isRunning, timeout_s=120)
    section.ui.batchTable.setCurrentCell(1, 0)
    pictures(widget, "batch-done")
