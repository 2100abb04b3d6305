"""The panel shows what the logic knows and writes what the user chooses; models and packages are the test's own.

Widgets, events, scene and parameter node are real.
"""

from pathlib import Path

import pytest
import qt
import slicer

from MambaSegmentLib.manifest import Channel, Manifest
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.store import StoredModel


class FakeLogic:
    """Models and packages as a test wants them."""

    def __init__(self, panel_module, names=("first", "second")):
        self.models = [
            StoredModel(name, Path("store") / f"{name}.safetensors", None, f"{name} is damaged") for name in names
        ]
        self.missing: list[str] = []
        self.torch = True
        self.error: Exception | None = None
        self._example = panel_module("shell_line").ShellExample

    def missingPackages(self):
        return self.missing

    def torchIsInstalled(self):
        return self.torch

    def gpuIsIdle(self):
        return False

    def mayRemoveModel(self, model):
        return False

    def removeModel(self, name):
        raise AssertionError("nothing here is removed")

    def warmUp(self, model, *, device, quality):
        raise AssertionError("nothing here is ready to be segmented")

    def close(self):
        pass

    def installedModels(self):
        if self.error is not None:
            raise self.error
        return self.models

    def shellExample(self, model, volumeNode):
        volume = volumeNode.GetName() if volumeNode is not None else None
        return self._example("" if model is None else f"run {model.name} {volume}", "hint")


@pytest.fixture
def a_logic(panel_module):
    return FakeLogic(panel_module)


@pytest.fixture
def a_window(host, repository):
    """What MambaSegment.ui describes, shown."""
    window = slicer.util.loadUI(str(repository / "MambaSegment" / "Resources" / "UI" / "MambaSegment.ui"))
    window.setMRMLScene(slicer.mrmlScene)
    window.show()
    return window


@pytest.fixture
def a_panel(panel_module, a_window, a_logic):
    panel = panel_module("panel").Panel(slicer.util.childWidgetVariables(a_window), a_logic)
    panel.ui.shellCollapsibleButton.collapsed = False
    yield panel
    panel.close()


@pytest.fixture
def a_node(panel_module):
    """`a_node("first")` makes a parameter node that names that model."""

    def make(model=""):
        node = panel_module("parameter_node").MambaSegmentParameterNode(
            slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
        )
        node.model = model
        return node

    return make


def a_usable_manifest() -> Manifest:
    return Manifest(
        name="third",
        architecture_name="lightm_unet",
        architecture_options={},
        channels=(Channel("T1", "MR"),),
        segments=(SegmentInfo(1, "Front", (1.0, 0.5, 0.0)),),
        preprocessing=PreprocessingSpec(normalization=(Normalization("zscore"),)),
        patch_size=(32, 32, 32),
    )


def press(button):
    qt.QTest.mouseClick(button, qt.Qt.LeftButton)


def choose(box, index):
    """As with the arrow keys."""
    box.setFocus()
    while box.currentIndex != index:
        qt.QTest.keyClick(box, qt.Qt.Key_Down if box.currentIndex < index else qt.Qt.Key_Up)


def names_in(box):
    return [box.itemText(index) for index in range(box.count)]


def test_a_new_scene_gets_the_first_model(a_panel, a_node):
    node = a_node()
    a_panel.setParameterNode(node)
    assert node.model == "first"
    assert names_in(a_panel.ui.modelSelector) == ["first", "second"]
    assert a_panel.ui.modelSelector.currentIndex == 0
    assert "first is damaged" in a_panel.ui.modelCardBrowser.plainText


def test_a_new_scene_gets_a_model_that_can_be_used_where_there_is_one(a_panel, a_logic, a_node):
    a_logic.models.append(StoredModel("third", Path("third.safetensors"), a_usable_manifest()))
    a_panel.refresh()
    node = a_node()
    a_panel.setParameterNode(node)
    assert node.model == "third"


def test_what_the_scene_says_wins(a_panel, a_node):
    node = a_node("second")
    node.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    a_panel.setParameterNode(node)
    assert a_panel.ui.modelSelector.currentIndex == 1
    assert a_panel.ui.shellLineEdit.plainText == "run second T1"


def test_choosing_is_kept_in_the_node(a_panel, a_node):
    node = a_node("first")
    a_panel.setParameterNode(node)
    choose(a_panel.ui.modelSelector, 1)
    assert node.model == "second"
    assert "second is damaged" in a_panel.ui.modelCardBrowser.plainText


def test_a_model_of_another_computer_is_named_and_not_replaced(a_panel, a_node):
    node = a_node("elsewhere")
    a_panel.setParameterNode(node)
    assert node.model == "elsewhere"
    assert a_panel.ui.modelSelector.currentIndex == -1
    assert "elsewhere" in a_panel.ui.modelCardBrowser.plainText
    assert not a_panel.ui.copyShellLineButton.enabled
    assert not a_panel.ui.openModelFolderButton.enabled


def test_no_scene_no_choice(a_panel):
    a_panel.setParameterNode(None)
    qt.QTest.keyClick(a_panel.ui.modelSelector, qt.Qt.Key_Down)
    assert a_panel.ui.modelSelector.currentIndex == -1
    assert a_panel.ui.shellLineEdit.plainText == ""


def test_missing_packages_are_named_until_they_are_there(a_panel, a_logic):
    assert not a_panel.ui.missingPackagesLabel.visible
    a_logic.missing = ["platformdirs>=4"]
    a_logic.error = ModuleNotFoundError("No module named 'platformdirs'", name="platformdirs")
    press(a_panel.ui.refreshModelsButton)
    assert a_panel.ui.missingPackagesLabel.visible
    assert "• platformdirs: knows where" in a_panel.ui.missingPackagesLabel.text
    assert names_in(a_panel.ui.modelSelector) == []

    a_logic.missing, a_logic.error = [], None
    press(a_panel.ui.refreshModelsButton)
    assert not a_panel.ui.missingPackagesLabel.visible
    assert names_in(a_panel.ui.modelSelector) == ["first", "second"]


def test_a_file_missing_from_our_own_package_is_not_hidden(host, a_panel, a_logic):
    a_logic.error = ModuleNotFoundError("No module named 'MambaSegmentLib.store'", name="MambaSegmentLib.store")
    with host.failures.expected() as seen:
        press(a_panel.ui.refreshModelsButton)
    assert [type(each.error) for each in seen.swallowed] == [ModuleNotFoundError]


def test_the_button_copies_the_line(a_panel, a_node):
    a_panel.setParameterNode(a_node("first"))
    press(a_panel.ui.copyShellLineButton)
    assert qt.QApplication.clipboard().text() == "run first None"


def test_the_button_opens_the_folder(a_panel, a_node, monkeypatch):
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    a_panel.setParameterNode(a_node("first"))
    press(a_panel.ui.openModelFolderButton)
    assert [url.toLocalFile() for url in opened] == ["store"]
