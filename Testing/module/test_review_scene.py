"""A review comes back from its file or the scene, and ends with its nodes."""

import numpy as np
import pytest
import qt
import slicer

from Testing.module.panel_cases import press, someVoxels
from Testing.module.review_cases import (
    ANTERIOR,
    DECIDED,
    NOWHERE,
    a_mask,
    all_prediction_nodes,
    all_segmentations,
    brush,
    choose,
    choose_folder,
    correct_and_sign,
    document_of,
    result_of_a_run,
    review_it,
    select,
    session_of,
    settle,
    statuses,
)
from Testing.module.scene_cases import addVolume, labelsOf

# --- back again


def test_a_saved_review_opens_as_it_was(host, widget, a_review, tmp_path, monkeypatch):
    volume, node = a_review
    ui = widget.ui
    correct_and_sign(host, widget, NOWHERE, comment="mended")
    corrected, saved = labelsOf(node, volume), document_of(tmp_path)
    slicer.mrmlScene.RemoveNode(node)
    assert all_prediction_nodes() == []

    path = str(tmp_path / "case 7.review.json")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: path)
    press(ui.reviewOpenButton)
    assert not ui.reviewErrorLabel.visible, ui.reviewErrorLabel.text
    again = ui.reviewSegmentationSelector.currentNode()
    np.testing.assert_array_equal(labelsOf(again, volume), corrected)
    assert again.GetNodeReference("referenceImageGeometryRef") is volume
    assert statuses(widget) == ["completed", "not started"]
    assert ui.reviewCorrectedButton.checked
    assert ui.reviewCommentEdit.plainText == "mended"
    assert ui.reviewStateLabel.text.startswith("Signed off by A. Reviewer. Saved as case 7, ")
    assert "Changed since" not in ui.reviewStateLabel.text
    assert len(all_prediction_nodes()) == 1
    assert len(all_segmentations()) == 2

    select(widget, ANTERIOR)
    press(ui.reviewSignOffButton)
    press(ui.reviewRestoreButton)
    assert labelsOf(again, volume)[NOWHERE] == 0
    choose(ui.reviewAcceptButton)
    press(ui.reviewSignOffButton)
    assert not ui.reviewConflictFrame.visible  # they are its own files
    document = document_of(tmp_path)
    assert (document.decision, document.segments[0].dice) == ("accept", 1.0)
    assert (document.images, document.grid, document.model) == (saved.images, saved.grid, saved.model)
    assert document.times.opened_utc == saved.times.opened_utc
    assert document.times.review_s >= saved.times.review_s


def test_a_review_opens_without_its_image_and_says_so(host, widget, a_review, tmp_path):
    volume, _node = a_review
    press(widget.ui.reviewSaveButton)
    host.close_scene()
    assert volume.GetScene() is None
    widget.panel.review.open(tmp_path / "case 7.review.json")
    assert "is not in the scene" in widget.ui.reviewErrorLabel.text
    assert widget.ui.reviewContent.visible


@pytest.mark.parametrize("damage", ["not JSON", "segments gone", "prediction gone", "other segments"])
def test_a_review_that_cannot_be_opened_leaves_the_scene_alone(host, widget, a_review, tmp_path, damage):
    press(widget.ui.reviewSaveButton)
    path = tmp_path / "case 7.review.json"
    if damage == "not JSON":
        path.write_text("{")
    elif damage == "other segments":
        path.write_text(path.read_text().replace('"value": 5', '"value": 6'))
    else:
        (tmp_path / ("case 7.seg.nrrd" if damage == "segments gone" else "case 7.ai.seg.nrrd")).unlink()
    before = slicer.mrmlScene.GetNumberOfNodes()
    widget.panel.review.open(path)
    words = {"not JSON": "is no JSON", "other segments": "does not hold the segments Posterior"}
    assert words.get(damage, "is missing") in widget.ui.reviewErrorLabel.text
    assert len(all_segmentations()) == 2
    assert slicer.mrmlScene.GetNumberOfNodes() == before


# --- the scene and the module


def test_a_saved_scene_brings_the_review_back(host, widget, a_review, tmp_path):
    ui = widget.ui
    select(widget, ANTERIOR)
    brush(widget, a_mask(NOWHERE))
    settle(host, widget)
    press(ui.reviewCompleteButton)
    press(ui.reviewFlagButton)
    choose(ui.reviewCorrectedButton)
    ui.reviewCommentEdit.plainText = "first line; 50 % | done\nsecond: “line”"
    press(ui.reviewSaveButton)
    before = session_of(widget).state
    file = str(tmp_path / "scene.mrb")
    host.exit("MambaSegment")
    assert slicer.util.saveScene(file)
    host.enter("MambaSegment")
    host.close_scene()
    assert not ui.reviewContent.visible
    assert all_segmentations() == []
    slicer.util.loadScene(file)
    host.process_events()
    assert ui.reviewContent.visible
    state = session_of(widget).state
    assert (state.comment, state.decision, state.saved) == (before.comment, before.decision, before.saved)
    assert list(state.predicted.items()) == list(before.predicted.items())
    assert ui.reviewCommentEdit.plainText == "first line; 50 % | done\nsecond: “line”"
    assert statuses(widget) == ["completed", "flagged"]
    (prediction,) = all_prediction_nodes()
    assert not prediction.GetSelectable()
    select(widget, ANTERIOR)
    press(ui.reviewRestoreButton)
    again = ui.reviewSegmentationSelector.currentNode()
    assert labelsOf(again, slicer.util.getNode("case 7"))[NOWHERE] == 0


def test_closing_the_scene_lets_go_of_everything_and_the_next_review_works(host, widget, a_review):
    review = widget.panel.review
    review.editor.widget.setActiveEffectByName("Paint")
    press(widget.ui.reviewCompareButton)
    host.close_scene()
    assert review.reviews.sessions() == []
    record = review.editor.widget.record()
    assert record.activated_effects[-1] == ""
    assert record.shortcuts_parent is None
    assert not record.view_observations
    assert widget.ui.reviewSegmentsTable.segmentationNode() is None
    _volume, node = result_of_a_run("next")
    review_it(host, widget, node)
    assert review.editor.widget.segmentationNode() is node
    assert widget.ui.reviewCaseEdit.text == "next"


def test_deleting_the_segmentation_ends_its_review_with_a_word(host, widget, a_review):
    _volume, node = a_review
    brush(widget, a_mask(NOWHERE))
    slicer.mrmlScene.RemoveNode(node)
    host.process_events(0.4)
    assert "“case 7 tiny” was deleted" in widget.ui.reviewErrorLabel.text
    assert not widget.ui.reviewContent.visible
    assert all_segmentations() == []  # the hidden one too
    assert widget.panel.review.editor.widget.segmentationNode() is None


def test_a_deleted_image_does_not_end_the_review(host, widget, a_review, tmp_path):
    volume, _node = a_review
    slicer.mrmlScene.RemoveNode(volume)
    host.process_events()
    press(widget.ui.reviewSaveButton)
    assert document_of(tmp_path).grid.size == (8, 7, 6)


def test_leaving_the_module_hands_keys_and_mouse_back(host, widget, a_review):
    editor = widget.panel.review.editor.widget
    assert editor.record().shortcuts_parent is not None
    press(editor.effectButtons()["Paint"])
    host.exit("MambaSegment")
    assert editor.record().activated_effects == ["Paint", ""]
    assert editor.record().shortcuts_parent is None
    assert not editor.record().view_observations
    host.enter("MambaSegment")
    assert editor.record().view_observations


def test_a_reloaded_module_goes_on_with_the_review(host, widget, a_review):
    choose(widget.ui.reviewRejectButton)
    widget.ui.reviewCommentEdit.plainText = "typed a moment ago"
    again = host.reload("MambaSegment")
    again.panel.warmUp.want = lambda *_: None
    again.ui.reviewCollapsibleButton.collapsed = False
    host.process_events()
    assert again is not widget
    assert again.ui.reviewRejectButton.checked
    assert again.ui.reviewCommentEdit.plainText == "typed a moment ago"
    assert again.ui.reviewSegmentationSelector.currentNode() is a_review[1]
    assert len(all_prediction_nodes()) == 1


def test_two_reviews_are_kept_apart(host, widget, a_review):
    _volume, first = a_review
    ui = widget.ui
    choose(ui.reviewAcceptButton)
    _other, second = result_of_a_run("case 8")
    review_it(host, widget, second)
    assert not any(getattr(ui, name).checked for name in DECIDED)
    assert ui.reviewCaseEdit.text == "case 8"
    choose(ui.reviewRejectButton)
    ui.reviewSegmentationSelector.setCurrentNode(first)
    host.process_events()
    assert ui.reviewAcceptButton.checked
    assert ui.reviewCaseEdit.text == "case 7"


def test_a_segmentation_of_another_program_can_be_reviewed(host, widget, tmp_path):
    """Nothing is known of where it came from; the image is the one that is chosen in the panel."""
    volume = addVolume(someVoxels(), name="CT")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    review_it(host, widget, node)
    assert "has no segments" in widget.ui.reviewErrorLabel.text or "is not known" in widget.ui.reviewErrorLabel.text
    mask = (someVoxels() == 1).astype(np.uint8)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    identifier = node.GetSegmentation().AddEmptySegment("", "Liver")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, identifier, volume)
    press(widget.ui.reviewBeginButton)
    choose_folder(widget, tmp_path)
    press(widget.ui.reviewSaveButton)
    document = document_of(tmp_path, "CT")
    assert (document.model.name, document.model.sha256) == ("", "")
    assert document.segments[0].volume_ml_after == pytest.approx(mask.sum() / 1000)
