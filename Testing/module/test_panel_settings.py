"""Preferences, keys, the check of the installation, and the sample that needs no network."""

import hashlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import qt
import slicer

from MambaSegmentLib.phantom import hippocampus_phantom
from Testing.module.panel_cases import press, segmentations, someVoxels, start_run, wait_for_end
from Testing.module.sample_file import FILE, PICTURE, drawn
from Testing.module.scene_cases import addVolume, labelsOf


@pytest.fixture
def open_settings(host):
    """The module with its settings unfolded; the store holds the shipped model."""

    def opened():
        host.load_module()
        widget = host.enter("MambaSegment")
        widget.ui.settingsCollapsibleButton.collapsed = False
        widget.parent.resize(420, 1600)  # what lies outside a window cannot be clicked
        host.process_events()
        return widget

    return opened


# --- folders and device


def test_a_folder_of_models_is_kept_and_looked_through(host, open_settings, repository, tmp_path):
    folder = tmp_path / "models of mine"
    folder.mkdir()
    shipped = repository / "MambaSegment" / "Resources" / "Models" / "hippocampus-t1.safetensors"
    (folder / "copy.safetensors").write_bytes(shipped.read_bytes())
    widget = open_settings()
    widget.ui.modelFolderEdit.currentPath = str(folder)
    box = widget.ui.modelSelector
    host.wait_until(
        lambda: [box.itemText(index) for index in range(box.count)] == ["cardiac-lv", "copy", "hippocampus-t1"]
    )
    assert f"Models are added to {folder}." in widget.ui.foldersHintLabel.text
    again = host.reload("MambaSegment")
    assert again.ui.modelFolderEdit.currentPath == str(folder)
    assert "copy" in [model.name for model in again.logic.installedModels()]
    again.ui.modelFolderEdit.currentPath = ""
    host.process_events(0.5)
    assert "copy" not in [model.name for model in again.logic.installedModels()]


def test_what_a_site_has_set_cannot_be_changed_here(open_settings, monkeypatch, tmp_path):
    monkeypatch.setenv("MAMBASEGMENT_USER_MODELS", str(tmp_path))
    widget = open_settings()
    assert not widget.ui.modelFolderEdit.enabled
    assert widget.ui.wheelFolderEdit.enabled
    assert f"Models are added to {tmp_path}." in widget.ui.foldersHintLabel.text
    assert "set by this site" in widget.ui.foldersHintLabel.text


def test_a_new_scene_gets_the_preferred_device_and_an_old_one_keeps_its_own(host, open_settings):
    widget = open_settings()
    assert widget.logic.getParameterNode().device == "auto"
    box = widget.ui.defaultDeviceSelector
    box.setFocus()
    while box.currentText != "CPU":
        qt.QTest.keyClick(box, qt.Qt.Key_Down)
    assert widget.logic.getParameterNode().device == "auto"
    host.close_scene()
    assert widget.logic.getParameterNode().device == "cpu"


# --- keys


@pytest.fixture
def shortcuts(host, panel_module):
    preferences = panel_module("preferences").Preferences()
    window = qt.QWidget()
    window.show()
    return panel_module("shortcuts").Shortcuts(preferences, {}, window)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("Z", "Segment Editor"),
        ("3", "Segment Editor"),
        ("Shift+3", "Segment Editor"),
        ("Ctrl+Z", "Segment Editor"),
        ("ctrl+z", "Segment Editor"),
        ("/", "Segment Editor"),
        ("Space", "Segment Editor"),
        ("Ctrl+S", "main window"),
        ("M", "by accident"),
        ("Alt+X", "in use here"),
        ("Alt+M, Alt+N", "is no key"),
        ("nonsense", "is no key"),
    ],
)
def test_keys_that_are_taken_are_refused(shortcuts, key, words):
    assert words in shortcuts.setKey("Segment", key)
    assert shortcuts.key("Segment") == "Ctrl+Return"


def test_no_usual_key_is_one_of_the_segment_editors(panel_module):
    module = panel_module("shortcuts")
    assert len(module.SEGMENT_EDITORS) == 36  # of the fact sheet: 20 effects, Esc, Space, 5 of undo, Q, W, I, 6 signs
    assert not module.SEGMENT_EDITORS & set(module.USUAL.values())


def test_a_key_is_changed_kept_and_switched_off(shortcuts):
    assert shortcuts.setKey("Segment", " alt+m ") == ""
    assert shortcuts.key("Segment") == "Alt+M"
    assert shortcuts.setKey("Cancel", "") == ""
    assert shortcuts.key("Cancel") == ""
    assert shortcuts.key("Toggle") == "Alt+A"


def test_keys_segment_cancel_and_hide_while_the_module_is_shown(host, open_module):
    addVolume(someVoxels())
    widget = open_module()
    widget.parent.activateWindow()
    host.process_events()

    def press_key(key, modifier):
        qt.QTest.keyClick(widget.ui.inputVolumeSelector, key, modifier)

    press_key(qt.Qt.Key_Return, qt.Qt.ControlModifier)
    assert widget.panel.run.isRunning
    wait_for_end(host, widget)
    (node,) = segmentations()
    press_key(qt.Qt.Key_A, qt.Qt.AltModifier)
    assert not node.GetDisplayNode().GetVisibility()
    press_key(qt.Qt.Key_A, qt.Qt.AltModifier)
    assert node.GetDisplayNode().GetVisibility()
    widget.logic.getParameterNode().model = "slow"
    start_run(host, widget)
    press_key(qt.Qt.Key_X, qt.Qt.AltModifier)
    wait_for_end(host, widget)
    assert widget.ui.statusLabel.text == "Cancelled on request."
    host.exit("MambaSegment")
    press_key(qt.Qt.Key_Return, qt.Qt.ControlModifier)
    assert not widget.panel.run.isRunning


def test_a_refused_key_is_told_and_the_old_one_stays(host, open_settings):
    widget = open_settings()
    edit = widget.ui.segmentKeyEdit
    edit.setFocus()
    edit.text = "Ctrl+Z"
    qt.QTest.keyClick(edit, qt.Qt.Key_Return)
    assert edit.text == "Ctrl+Return"
    assert "belongs to the Segment Editor" in widget.ui.shortcutsHintLabel.text
    edit.text = "Alt+M"
    qt.QTest.keyClick(edit, qt.Qt.Key_Return)
    assert not widget.ui.shortcutsHintLabel.visible
    assert host.reload("MambaSegment").ui.segmentKeyEdit.text == "Alt+M"


# --- the check of the installation


def test_the_check_is_the_doctors_and_readable(host, open_settings):
    """The real `mambasegment doctor` in the Python that networks run on."""
    widget = open_settings()
    press(widget.ui.checkInstallationButton)
    assert not widget.ui.checkInstallationButton.enabled
    host.wait_until(lambda: not widget.panel.installation.isChecking, timeout_s=90)
    text = widget.ui.installationReportBrowser.plainText
    for words in (
        "Computes on: cpu",
        "Scan kernel: ",
        "Memory: ",
        "Models: cardiac-lv, hippocampus-t1",
        "torch",
        "SimpleITK",
    ):
        assert words in text, words
    assert "{" not in text
    press(widget.ui.copyInstallationReportButton)
    assert "scan kernels" in qt.QApplication.clipboard().text()
    assert "torch" not in sys.modules


def test_a_check_that_ends_badly_says_so(host, open_settings, monkeypatch, panel_module):
    widget = open_settings()
    monkeypatch.setattr(panel_module("side_process"), "pythonExecutable", lambda: "/bin/false")
    press(widget.ui.checkInstallationButton)
    host.wait_until(lambda: not widget.panel.installation.isChecking)
    assert "could not be checked. The check ended with code 1" in widget.ui.installationReportBrowser.plainText
    monkeypatch.setattr(panel_module("side_process"), "pythonExecutable", lambda: "/nowhere/python")
    press(widget.ui.checkInstallationButton)
    assert "cannot be started" in widget.ui.installationReportBrowser.plainText


# --- the sample


def test_the_sample_is_the_phantom_of_the_library(panel_module):
    """What `python -m Testing.module.sample_file` draws; whole numbers may differ by one where arithmetic does."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(FILE))
    assert np.abs(sitk.GetArrayFromImage(image).astype(int) - drawn()).max() <= 1
    assert image.GetDirection() == hippocampus_phantom().image.direction
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == panel_module("sample_data").SHA256


def test_it_is_registered_with_its_checksum_once_slicer_has_started(host, monkeypatch):
    """In a Sample Data module that notes what it is told, by the names of the real one."""
    told = []
    logic = SimpleNamespace(
        registerCustomSampleDataCategory=lambda category, title: told.append((category, title)),
        registerCustomSampleDataSource=lambda **facts: told.append(facts),
    )
    module = ModuleType("SampleData")
    module.SampleDataLogic = logic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    host.load_module()
    category, source = told
    assert category == ("MambaSegment", "MambaSegment")
    assert source["checksums"] == f"SHA256:{hashlib.sha256(FILE.read_bytes()).hexdigest()}"
    assert source["uris"] == FILE.as_uri()
    assert source["thumbnailFileName"] == str(PICTURE)
    assert set(source) <= {
        "category", "sampleName", "uris", "fileNames", "nodeNames", "thumbnailFileName", "checksums",
    }  # fmt: skip


def test_try_it_loads_the_sample_and_segments_it_with_the_shipped_model(host):
    host.load_module()
    widget = host.enter("MambaSegment")
    press(widget.ui.tryItButton)
    assert widget.panel.run.isRunning
    assert not widget.ui.tryItButton.visible
    wait_for_end(host, widget)
    volume = widget.logic.getParameterNode().inputVolume
    assert volume.GetName() == "MambaSegmentHippocampus"
    found, truth = labelsOf(segmentations()[0], volume), hippocampus_phantom().truth.array
    for value in (1, 2):
        dice = 2 * np.sum((found == value) & (truth == value)) / (np.sum(found == value) + np.sum(truth == value))
        assert dice > 0.7
    slicer.mrmlScene.RemoveNode(volume)
    widget.panel.update()
    assert widget.ui.tryItButton.visible


def test_a_real_volume_is_segmented_in_a_region_and_measured(host, shared):
    """A volume of the data set that the shipped model learned from, with its manual labels."""
    image = sorted((shared / "data" / "hippocampus_mr" / "images").glob("*.nii.gz"))[0]
    truthNode = slicer.util.loadVolume(str(shared / "data" / "hippocampus_mr" / "labels" / image.name))
    truth = slicer.util.arrayFromVolume(truthNode)
    slicer.mrmlScene.RemoveNode(truthNode)
    host.load_module()
    widget = host.enter("MambaSegment")
    volume = slicer.util.loadVolume(str(image))
    host.wait_until(lambda: widget.logic.getParameterNode().inputVolume is volume)
    widget.ui.regionSelector.addNode()  # the whole volume
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    (node,) = segmentations()
    found = labelsOf(node, volume)
    for value in (1, 2):
        dice = 2 * np.sum((found == value) & (truth == value)) / (np.sum(found == value) + np.sum(truth == value))
        assert dice > 0.75
    rows = widget.panel.results.rows
    assert [row.figures["voxels"] for row in rows] == [int(np.sum(found == value)) for value in (1, 2)]
    values = slicer.util.arrayFromVolume(volume)[found == 1]
    assert rows[0].figures["intensity_mean"] == pytest.approx(float(values.mean()), rel=1e-6)
    assert 15 < rows[0].figures["diameter_mm"] < 40
