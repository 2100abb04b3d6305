"""What the user chooses besides model and volume: region, quality, several models, an output that exists.

Real clicks and a real worker; the networks are tiny ones, whose answers are known.
"""

import numpy as np
import pytest
import qt
import slicer

from Testing.module.panel_cases import (
    expectedLabels,
    is_idle,
    press,
    segmentations,
    someVoxels,
    start_run,
    wait_for_end,
)
from Testing.module.scene_cases import addPhantom, addVolume, labelsOf


def choose(box, index):
    """As with the arrow keys."""
    box.setFocus()
    while box.currentIndex != index:
        qt.QTest.keyClick(box, qt.Qt.Key_Down if box.currentIndex < index else qt.Qt.Key_Up)


def run(host, widget):
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)


def segment_names(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(number).GetName() for number in range(segmentation.GetNumberOfSegments())]


# --- region and quality


def test_only_the_region_is_segmented(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module()
    widget.ui.optionsCollapsibleButton.collapsed = False
    region = widget.ui.regionSelector.addNode()  # as the entry "Create new" of the box
    assert list(region.GetSize()) == [8, 7, 6]  # it begins as the whole volume
    assert widget.ui.optionsCollapsibleButton.text == "Options: Region, CPU"
    region.SetCenter(2, 3, 2)
    region.SetSize(3, 3, 3)
    assert widget.ui.segmentButton.enabled
    run(host, widget)
    expected = np.zeros((6, 7, 8), int)
    box = (slice(1, 4), slice(2, 5), slice(1, 4))
    expected[box] = expectedLabels(someVoxels())[box]
    np.testing.assert_array_equal(labelsOf(segmentations()[0], volume), expected)

    region.SetCenter(100, 3, 2)
    outside = "The region “Region” lies outside the volume “T1”; move it."
    host.wait_until(lambda: widget.ui.whyNotReadyLabel.text == outside)
    assert not widget.ui.segmentButton.enabled
    widget.ui.regionSelector.setCurrentNode(None)
    assert widget.ui.segmentButton.enabled


def test_a_region_that_is_moved_away_before_the_click_is_an_error_and_no_run(host, open_module):
    """The panel looks a moment after a move; the click looks again."""
    addVolume(someVoxels())
    widget = open_module()
    region = widget.ui.regionSelector.addNode()
    host.wait_until(lambda: widget.ui.segmentButton.enabled)
    region.SetCenter(100, 3, 2)
    press(widget.ui.segmentButton)
    assert is_idle(widget)
    assert "lies outside the volume" in widget.ui.errorLabel.text
    assert segmentations() == []


def test_quality_reaches_the_worker_and_is_in_the_heading(host, open_module):
    addVolume(someVoxels())
    widget = open_module()
    widget.ui.optionsCollapsibleButton.collapsed = False
    host.process_events()
    choose(widget.ui.qualitySelector, 2)
    assert widget.logic.getParameterNode().quality == "fast"
    assert widget.ui.optionsCollapsibleButton.text == "Options: Fast, CPU"
    run(host, widget)
    assert '"quality":"fast"' in segmentations()[0].GetAttribute("MambaSegment.Options")


def test_what_a_scene_of_a_later_version_says_is_kept(host, open_module):
    widget = open_module()
    node = widget.logic.getParameterNode()
    node.quality = "superb"
    assert widget.ui.qualitySelector.currentText == "superb"
    host.exit("MambaSegment")
    host.enter("MambaSegment")
    assert node.quality == "superb"


def test_voxels_of_another_size_are_said_before_the_run(host):
    """The shipped model was trained with voxels of 1 mm."""
    host.load_module()
    widget = host.enter("MambaSegment")
    node = widget.logic.getParameterNode()
    node.inputVolume = addVolume(someVoxels(), np.diag([0.9, 1.0, 1.9, 1]))
    assert not widget.ui.inputHintLabel.visible
    node.inputVolume = addVolume(someVoxels(), np.diag([0.9, 1.0, 3.0, 1]), name="thick")
    assert (
        "“thick” has voxels of 0.9 × 1 × 3 mm; the model was trained with 1 × 1 × 1 mm."
        in widget.ui.inputHintLabel.text
    )
    assert widget.ui.segmentButton.enabled


# --- several models


def queue(widget, *models):
    widget.ui.queueCollapsibleButton.collapsed = False
    for model in models:
        widget.logic.getParameterNode().model = model
        press(widget.ui.addToQueueButton)


def test_several_models_go_into_one_segmentation_and_a_bad_one_stops_nothing(host, open_module):
    volume = addVolume(someVoxels(), name="T1")
    addVolume(someVoxels()[::-1].copy(), name="T2")
    widget = open_module()
    queue(widget, "tiny", "broken")
    widget.logic.getParameterNode().model = "two"
    widget.panel.onModelChosen()  # which looks for volumes of its channels
    press(widget.ui.addToQueueButton)
    list_ = widget.ui.queueList
    assert [list_.item(row).text() for row in range(list_.count)] == ["tiny: T1", "broken: T1", "two: T1, T2"]
    assert widget.ui.queueCollapsibleButton.text == "Several models: 3"
    assert not widget.ui.addToQueueButton.enabled  # it is there
    values, texts = [], set()
    widget.ui.progressBar.connect("valueChanged(int)", values.append)
    press(widget.ui.segmentButton)
    host.wait_until(lambda: texts.add(widget.ui.progressLabel.text) or not widget.panel.run.isRunning, timeout_s=60)
    (node,) = segmentations()
    assert segment_names(node) == ["Anterior", "Posterior", "Anterior", "Posterior"]
    assert "4 segments of 2 models" in widget.ui.statusLabel.text
    assert "Not segmented with broken" in widget.ui.errorLabel.text
    assert any(text.startswith("Model 3 of 3: ") for text in texts)
    assert values == sorted(values)
    assert len(widget.panel.results.rows) == 4
    masks = [
        slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume)
        for name in node.GetSegmentation().GetSegmentIDs()
    ]
    both = expectedLabels(someVoxels() + someVoxels()[::-1])
    np.testing.assert_array_equal(masks[0], expectedLabels(someVoxels()) == 1)
    np.testing.assert_array_equal(masks[3], both == 5)


def test_cancel_ends_all_that_is_on_the_list_and_keeps_what_is_done(host, open_module):
    addVolume(someVoxels())
    widget = open_module()
    queue(widget, "tiny", "slow", "short")
    start_run(host, widget, "Model 2 of 3: Network")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert is_idle(widget)
    assert widget.ui.statusLabel.text.endswith("2 segments. Cancelled on request.")
    assert segment_names(segmentations()[0]) == ["Anterior", "Posterior"]


def test_the_list_is_changed_and_a_removed_volume_is_told(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module()
    queue(widget, "tiny", "short")
    widget.ui.queueList.setCurrentRow(0)
    press(widget.ui.removeFromQueueButton)
    assert widget.ui.queueList.item(0).text() == "short: T1"
    slicer.mrmlScene.RemoveNode(volume)
    widget.panel.update()
    assert "On the list, short: one of its volumes was removed." in widget.ui.whyNotReadyLabel.text
    press(widget.ui.removeFromQueueButton)
    assert widget.ui.queueCollapsibleButton.text == "Several models"


# --- an output that exists


class Answers:
    """Stands for the user at the dialogs."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def aboutEdited(self, names, segmentation):
        self.asked.append((list(names), segmentation))
        return self.answer


@pytest.fixture
def open_edited(host, open_module):
    """A segmentation of the model, one of whose two segments was painted on, is the output of the next click."""

    def opened(answer, model="tiny"):
        volume = addVolume(someVoxels())
        widget = open_module()
        run(host, widget)
        (node,) = segmentations()
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Segment_1", volume)
        mask[...] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "Segment_1", volume)
        widget.logic.getParameterNode().outputSegmentation = node
        widget.panel.questions = answers = Answers(answer)
        return widget, node, answers

    return opened


@pytest.mark.parametrize(
    ("answer", "names", "painted"),
    [
        ("keep", ["Anterior", "Anterior", "Posterior"], True),
        ("replace", ["Anterior", "Posterior"], False),
        ("stop", ["Anterior", "Posterior"], True),
    ],
)
def test_what_was_edited_is_replaced_only_with_consent(host, open_edited, answer, names, painted):
    widget, node, answers = open_edited(answer)
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert answers.asked == [(["Anterior"], "T1 tiny")]
    assert segment_names(node) == names
    first = node.GetSegmentation().GetNthSegmentID(0)
    volume = slicer.util.getNode("T1")
    assert (slicer.util.arrayFromSegmentBinaryLabelmap(node, first, volume).all()) == painted
    assert len(segmentations()) == 1


def test_an_unedited_result_is_replaced_without_a_question_and_only_when_the_new_one_is_there(host, open_module):
    addVolume(someVoxels())
    widget = open_module()
    run(host, widget)
    (node,) = segmentations()
    widget.logic.getParameterNode().outputSegmentation = node
    widget.panel.questions = answers = Answers("stop")
    run(host, widget)
    assert segment_names(node) == ["Anterior", "Posterior"]
    assert answers.asked == []
    press(widget.ui.segmentButton)
    press(widget.ui.segmentButton)  # cancelled
    wait_for_end(host, widget)
    assert segment_names(node) == ["Anterior", "Posterior"]


def test_what_is_edited_while_the_network_works_stays(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module("short")
    run(host, widget)
    (node,) = segmentations()
    widget.logic.getParameterNode().outputSegmentation = node
    start_run(host, widget)
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones_like(mask), node, identifier, volume)
    wait_for_end(host, widget)
    assert segment_names(node) == ["Anterior", "Anterior", "Posterior"]
    assert "was edited meanwhile, so it was not replaced" in widget.ui.warningsLabel.text


@pytest.mark.parametrize(("button", "answer"), [("Add beside", "keep"), ("Replace", "replace"), ("Cancel", "stop")])
def test_the_question_has_three_answers(host, panel_module, button, answer):
    window = qt.QWidget()
    window.show()
    host.testing = False

    def answerIt():
        box = qt.QApplication.activeModalWidget()
        assert "“result”" in box.text
        assert "A, B, C, D, E and 1 more" in box.text
        press(next(each for each in box.buttons() if each.text.replace("&", "") == button))

    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.connect("timeout()", answerIt)
    timer.start(50)
    assert panel_module("questions").Questions(window).aboutEdited(list("ABCDEF"), "result") == answer


# --- 3D


@pytest.mark.parametrize(("choice", "isMade"), [("small", True), ("always", True), ("never", False)])
def test_surfaces_are_made_when_they_are_wanted_and_on_demand(host, open_module, choice, isMade):
    addVolume(someVoxels())
    widget = open_module()
    widget.logic.getParameterNode().surface = choice
    run(host, widget)
    host.process_events(0.05)
    (node,) = segmentations()
    has = node.GetSegmentation().ContainsRepresentation
    assert has("Closed surface") == isMade
    assert widget.ui.show3DButton.checked == isMade
    assert node.GetDisplayNode().GetVisibility2DFill()
    press(widget.ui.show3DButton)
    assert has("Closed surface") != isMade
    press(widget.ui.show3DButton)
    assert has("Closed surface") == isMade


def test_a_large_result_is_not_made_into_surfaces_unasked(panel_module):
    wanted = panel_module("surfaces").surfacesAreWanted
    assert wanted("small", 30_000)
    assert not wanted("small", 30_001)
    assert not wanted("small", 0)
    assert wanted("always", 10**9)
    assert wanted("what another version has", 10)


# --- table


def test_the_table_is_saved_with_all_digits(host, open_module, tmp_path):
    addVolume(someVoxels())
    widget = open_module()
    run(host, widget)
    widget.panel.results._askFile = lambda suggestion: str(tmp_path / suggestion)
    press(widget.ui.exportResultButton)
    lines = (tmp_path / "T1 tiny.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].split(",")[:3] == ["name", "model", "volume_ml"]
    assert lines[1].split(",")[:2] == ["Anterior", "tiny"]
    assert len(lines) == 3
    assert "Saved as" in widget.ui.resultFileLabel.text
    widget.panel.results._askFile = lambda suggestion: str(tmp_path / "missing" / suggestion)
    press(widget.ui.exportResultButton)
    assert "create it first" in widget.ui.resultFileLabel.text
    widget.panel.results._askFile = lambda suggestion: ""
    press(widget.ui.exportResultButton)


# --- kept with the scene


def test_all_choices_are_in_the_mrb(host, open_module, tmp_path):
    addPhantom("T1")
    addVolume(someVoxels(), name="T2")
    widget = open_module("two")
    host.exit("MambaSegment")
    widget = host.enter("MambaSegment")
    node = widget.logic.getParameterNode()
    node.quality, node.surface = "fast", "always"
    node.outputSegmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    region.SetSize(10, 10, 10)
    node.region = region
    queue(widget, "two")
    node.model = "slow"
    press(widget.ui.addToQueueButton)
    host.exit("MambaSegment")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    host.close_scene()
    assert widget.logic.getParameterNode().model == ""
    addVolume(someVoxels(), name="another, so that the nodes get other ids")
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    widget = host.enter("MambaSegment")
    node = widget.logic.getParameterNode()
    assert (node.model, node.device, node.quality, node.surface) == ("slow", "cpu", "fast", "always")
    assert (node.inputVolume.GetName(), node.outputSegmentation.GetName(), node.region.GetName()) == ("T1", "mine", "R")
    list_ = widget.ui.queueList
    assert [list_.item(row).text() for row in range(list_.count)] == ["two: T1, T2", "slow: T1"]
    assert widget.ui.regionSelector.currentNode() is node.region
    assert widget.ui.qualitySelector.currentText == "Fast"
