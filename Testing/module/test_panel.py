"""The panel shows what the logic knows and writes what the user chooses; widgets, logic and node are fakes."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

from MambaSegmentLib.manifest import Channel, Manifest
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.store import StoredModel
from Testing.module.fake_slicer import fakeUi


class FakeLogic:
    """Models and packages as a test wants them."""

    def __init__(self, panel_module, names=("first", "second")):
        self.models = [
            StoredModel(name, Path("store") / f"{name}.safetensors", None, f"{name} is damaged") for name in names
        ]
        self.missing: list[str] = []
        self.error: Exception | None = None
        self._example = panel_module("shell_line").ShellExample

    def missingPackages(self):
        return self.missing

    def installedModels(self):
        if self.error is not None:
            raise self.error
        return self.models

    def shellExample(self, model, volumeNode):
        return self._example("" if model is None else f"run {model.name} {volumeNode}", "hint")


@pytest.fixture
def a_logic(panel_module):
    return FakeLogic(panel_module)


@pytest.fixture
def a_panel(panel_module, repository, a_logic):
    ui = ET.parse(repository / "MambaSegment" / "Resources" / "UI" / "MambaSegment.ui")
    return panel_module("panel").Panel(fakeUi({widget.attrib["name"] for widget in ui.iter("widget")}), a_logic)


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


def a_node(model=""):
    return SimpleNamespace(model=model, inputVolume="T1")


def test_a_new_scene_gets_the_first_model(a_panel):
    node = a_node()
    a_panel.setParameterNode(node)
    assert node.model == "first"
    assert a_panel.ui.modelSelector.items == ["first", "second"]
    assert a_panel.ui.modelSelector.currentIndex == 0
    assert "first is damaged" in a_panel.ui.modelCardBrowser.html


def test_a_new_scene_gets_a_model_that_can_be_used_where_there_is_one(a_panel, a_logic):
    a_logic.models.append(StoredModel("third", Path("third.safetensors"), a_usable_manifest()))
    a_panel.refresh()
    node = a_node()
    a_panel.setParameterNode(node)
    assert node.model == "third"


def test_what_the_scene_says_wins(a_panel):
    a_panel.setParameterNode(a_node("second"))
    assert a_panel.ui.modelSelector.currentIndex == 1
    assert a_panel.ui.shellLineEdit.plainText == "run second T1"


def test_choosing_is_kept_in_the_node(a_panel):
    node = a_node("first")
    a_panel.setParameterNode(node)
    a_panel.ui.modelSelector.choose(1)
    assert node.model == "second"
    assert "second is damaged" in a_panel.ui.modelCardBrowser.html


def test_a_model_of_another_computer_is_named_and_not_replaced(a_panel):
    node = a_node("elsewhere")
    a_panel.setParameterNode(node)
    assert node.model == "elsewhere"
    assert a_panel.ui.modelSelector.currentIndex == -1
    assert "elsewhere" in a_panel.ui.modelCardBrowser.html
    assert not a_panel.ui.copyShellLineButton.enabled
    assert not a_panel.ui.openModelFolderButton.enabled


def test_no_scene_no_choice(a_panel):
    a_panel.setParameterNode(None)
    a_panel.ui.modelSelector.choose(1)
    assert a_panel.ui.shellLineEdit.plainText == ""


def test_missing_packages_are_named_until_they_are_there(a_panel, a_logic):
    assert not a_panel.ui.missingPackagesLabel.visible
    a_logic.missing = ["platformdirs>=4"]
    a_logic.error = ModuleNotFoundError("No module named 'platformdirs'", name="platformdirs")
    a_panel.ui.refreshModelsButton.press()
    assert a_panel.ui.missingPackagesLabel.visible
    assert "platformdirs&gt;=4" in a_panel.ui.missingPackagesLabel.text
    assert a_panel.ui.modelSelector.items == []

    a_logic.missing, a_logic.error = [], None
    a_panel.ui.refreshModelsButton.press()
    assert not a_panel.ui.missingPackagesLabel.visible
    assert a_panel.ui.modelSelector.items == ["first", "second"]


def test_a_file_missing_from_our_own_package_is_not_hidden(a_panel, a_logic):
    a_logic.error = ModuleNotFoundError("No module named 'MambaSegmentLib.store'", name="MambaSegmentLib.store")
    with pytest.raises(ModuleNotFoundError):
        a_panel.ui.refreshModelsButton.press()


def test_buttons_copy_the_line_and_open_the_folder(a_panel, monkeypatch):
    copied, opened = [], []
    qt = sys.modules["qt"]
    clipboard = SimpleNamespace(setText=copied.append)
    monkeypatch.setattr(qt, "QApplication", SimpleNamespace(clipboard=lambda: clipboard), raising=False)
    monkeypatch.setattr(qt, "QDesktopServices", SimpleNamespace(openUrl=opened.append), raising=False)
    monkeypatch.setattr(qt, "QUrl", SimpleNamespace(fromLocalFile=lambda path: path), raising=False)
    a_panel.setParameterNode(a_node("first"))
    a_panel.ui.copyShellLineButton.press()
    a_panel.ui.openModelFolderButton.press()
    assert copied == ["run first T1"]
    assert opened == ["store"]
