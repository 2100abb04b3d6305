"""Models come and go in the panel: search, a file, a web server on this computer, removal.

The program that copies and downloads is the real one, in a process of its own.
"""

import threading

import pytest
import qt

from MambaSegmentLib.folders import USER_MODELS_VARIABLE
from MambaSegmentLib.manifest import Channel, Manifest
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.store import StoredModel
from Testing.library.fetching.file_server import serving
from Testing.module.panel_cases import press, someVoxels, wait_for_end
from Testing.module.scene_cases import addVolume


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(USER_MODELS_VARIABLE, str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.fixture
def open_models(host, user_folder, model_folder, monkeypatch):
    """The module with its section of models unfolded; the store holds the shipped models alone."""
    monkeypatch.delenv("MAMBASEGMENT_MODELS", raising=False)
    host.load_module()
    widget = host.enter("MambaSegment")
    widget.ui.modelCardCollapsibleButton.collapsed = False
    host.process_events()
    return widget


def type_into(edit, text):
    edit.setFocus()
    edit.text = ""
    qt.QTest.keyClicks(edit, text)


def add(host, widget, source):
    type_into(widget.ui.modelSourceEdit, str(source))
    press(widget.ui.addModelButton)
    wait_until_added(host, widget)


def wait_until_added(host, widget):
    host.wait_until(lambda: not widget.panel.modelFiles.isAdding, timeout_s=60)


def names_in(box):
    return [box.itemText(index) for index in range(box.count)]


# --- adding


def test_a_file_is_added_and_chosen(host, open_models, model_folder, user_folder):
    ui = open_models.ui
    assert not ui.addModelButton.enabled
    add(host, open_models, model_folder / "tiny.safetensors")
    assert ui.modelFilesLabel.text == "“tiny” was added."
    assert (user_folder / "tiny.safetensors").is_file()
    assert open_models.logic.getParameterNode().model == "tiny"
    assert ui.modelSelector.currentText == "tiny"
    assert ui.modelSourceEdit.text == ""


def test_a_download_shows_progress_is_cancelled_and_goes_on(host, open_models, user_folder, repository):
    ui = open_models.ui
    shipped = repository / "MambaSegment" / "Resources" / "Models" / "hippocampus-t1.safetensors"
    with serving(shipped.read_bytes()) as server:
        server.hold = threading.Event()
        type_into(ui.modelSourceEdit, server.url)
        press(ui.addModelButton)
        host.wait_until(lambda: " of " in ui.modelFilesLabel.text, timeout_s=60)
        assert ui.modelProgressBar.isVisible()
        assert not ui.addModelButton.enabled
        press(ui.cancelAddModelButton)
        wait_until_added(host, open_models)
        assert ui.modelFilesLabel.text == "Cancelled. Adding it again goes on from here."
        assert not ui.modelProgressBar.isVisible()
        assert list(user_folder.glob("*.safetensors")) == []
        server.hold.set()
        server.hold = None
        add(host, open_models, server.url)
        assert server.requests[1].startswith("bytes=")
    assert ui.modelFilesLabel.text == "“hippocampus-t1” was added."
    assert [path.name for path in user_folder.iterdir()] == ["hippocampus-t1.safetensors"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://example.org/m.safetensors", "is no https address"),
        ("/nowhere/m.safetensors", "there is no file"),
    ],
)
def test_what_cannot_be_added_says_why(host, open_models, source, words):
    add(host, open_models, source)
    assert open_models.ui.modelFilesLabel.text.startswith("Not added. ")
    assert words.lower() in open_models.ui.modelFilesLabel.text.lower()
    assert "ERROR the model was not added" in open_models.ui.logEdit.plainText


def test_a_wrong_checksum_is_told(host, open_models, model_folder, user_folder):
    type_into(open_models.ui.modelChecksumEdit, "0" * 64)
    add(host, open_models, model_folder / "tiny.safetensors")
    assert "was expected; it was not added" in open_models.ui.modelFilesLabel.text
    assert list(user_folder.iterdir()) == []


def test_a_file_is_looked_for_in_a_dialog(host, open_models, monkeypatch, tmp_path):
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: str(tmp_path / "m.safetensors"))
    press(open_models.ui.browseModelButton)
    assert open_models.ui.modelSourceEdit.text == str(tmp_path / "m.safetensors")


def test_the_module_goes_while_a_model_comes(host, open_models, model_folder):
    """The fixture fails if a callback reaches a panel that is gone."""
    type_into(open_models.ui.modelSourceEdit, str(model_folder / "tiny.safetensors"))
    press(open_models.ui.addModelButton)
    host.reload("MambaSegment")
    host.process_events(1.0)


# --- removing


def test_ones_own_model_is_removed_after_asking(host, open_models, model_folder, user_folder):
    ui = open_models.ui
    assert not ui.removeModelButton.enabled
    assert "only your own models" in ui.removeModelButton.toolTip
    add(host, open_models, model_folder / "tiny.safetensors")
    press(ui.removeModelButton)  # nobody answers while the application is tested: nothing is removed
    assert (user_folder / "tiny.safetensors").is_file()
    asked = []
    open_models.panel.modelFiles._questions.mayRemoveModel = lambda name, path: asked.append((name, path)) or True
    press(ui.removeModelButton)
    assert asked == [("tiny", user_folder / "tiny.safetensors")]
    assert not (user_folder / "tiny.safetensors").exists()
    assert ui.modelFilesLabel.text == "“tiny” was removed."
    assert names_in(ui.modelSelector) == ["cardiac-lv", "hippocampus-t1"]
    assert "The scene names the model “tiny”" in ui.modelSummaryLabel.text


# --- looking for one


def a_model(name, segments, modality="MR", description=""):
    manifest = Manifest(
        name=name,
        architecture_name="umamba_bot",
        architecture_options={},
        channels=(Channel("image", modality),),
        segments=tuple(SegmentInfo(value, each, (1.0, 0.0, 0.0)) for value, each in enumerate(segments, start=1)),
        preprocessing=PreprocessingSpec((Normalization("none"),)),
        patch_size=(8, 8, 8),
        description=description,
    )
    return StoredModel(name, f"{name}.safetensors", manifest)


MODELS = [
    a_model("abdomen", ["Liver", "Spleen"], "CT"),
    a_model("brain", ["Tumour"], description="Gliomas in four sequences"),
    a_model("liver-mr", ["Liver"], "MR"),
    StoredModel("odd", "odd.safetensors", None, "damaged"),
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["abdomen", "brain", "liver-mr", "odd"]),
        ("liver", ["abdomen", "liver-mr"]),
        ("LIVER ct", ["abdomen"]),
        ("glioma", ["brain"]),
        ("umamba tumour", ["brain"]),
        ("od", ["odd"]),
        ("kidney", []),
    ],
)
def test_a_search_means_all_of_its_words(panel_module, text, names):
    assert [model.name for model in panel_module("model_search").matching(MODELS, text)] == names


def test_the_search_narrows_the_box_and_never_loses_the_choice(host, open_models, monkeypatch):
    widget, node = open_models, open_models.logic.getParameterNode()
    ui = widget.ui
    assert not ui.modelSearchBox.isVisible()  # for one model
    monkeypatch.setattr(type(widget.logic), "installedModels", lambda _self: MODELS)
    monkeypatch.setattr(type(widget.logic), "mayRemoveModel", lambda _self, _model: False)
    widget.panel.refresh()
    node.model = "brain"
    assert ui.modelSearchBox.isVisible()
    type_into(ui.modelSearchBox, "liver")
    assert names_in(ui.modelSelector) == ["abdomen", "brain", "liver-mr"]
    assert ui.modelSelector.currentText == node.model == "brain"
    qt.QTest.keyClick(ui.modelSearchBox, qt.Qt.Key_Return)
    assert node.model == "abdomen"
    assert names_in(ui.modelSelector) == ["abdomen", "liver-mr"]
    type_into(ui.modelSearchBox, "kidney")
    assert ui.modelSearchBox.toolTip == "No model has these words."
    assert node.model == "abdomen"


def test_a_new_scene_takes_the_model_that_was_used_last(host, open_models, model_folder):
    add(host, open_models, model_folder / "tiny.safetensors")
    host.close_scene()
    assert open_models.logic.getParameterNode().model == "tiny"


# --- measured time


def test_the_card_tells_how_long_it_took_here(host, open_module):
    addVolume(someVoxels())
    widget = open_module()
    assert "not run here yet" in widget.ui.modelCardBrowser.plainText
    for _ in range(2):
        press(widget.ui.segmentButton)
        wait_for_end(host, widget)
    text = widget.ui.modelCardBrowser.plainText
    assert "s for 0.000336 million voxels: Best, device CPU, median of 2 runs" in text
    widget.panel.preferences.set("Times", "{damaged")
    assert widget.panel.times.of("x") == []
