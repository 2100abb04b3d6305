"""A person reviews the result of a run: real segments, real edits and clicks, files that are read back."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import qt
import slicer

from MambaSegmentLib.review.document import geometry_sha256, read_review
from Testing.host.segment_editor import KEYS
from Testing.module.panel_cases import press, segmentations, someVoxels, wait_for_end
from Testing.module.review_cases import (
    ANTERIOR,
    POSTERIOR,
    SHA,
    a_mask,
    add_segments_of_a_run,
    brush,
    choose,
    choose_folder,
    correct_and_sign,
    result_of_a_run,
    review_it,
    select,
    settle,
    statuses,
)
from Testing.module.scene_cases import addVolume, labelsOf, tag

AT_ANTERIOR, NOWHERE = (0, 0, 1), (0, 0, 0)  # (k, j, i) of a voxel of the one segment, and of none
DECIDED = "reviewAcceptButton", "reviewCorrectedButton", "reviewRejectButton"


@pytest.fixture
def widget(host):
    """The panel, without a worker, which no review needs."""
    host.load_module()
    widget = host.enter("MambaSegment")
    widget.panel.warmUp.want = lambda *_: None
    return widget


@pytest.fixture
def a_review(host, widget, tmp_path):
    """The review of a result; returns its volume and its segmentation. Files go to a folder of the test."""
    volume, node = result_of_a_run()
    review_it(host, widget, node)
    choose_folder(widget, tmp_path)
    widget.ui.reviewReviewerEdit.text = "A. Reviewer"
    return volume, node


def session_of(widget):
    return widget.panel.review._session


def all_segmentations():
    """The model's own results too, which a user does not see."""
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def all_prediction_nodes():
    return [each for each in all_segmentations() if each.GetHideFromEditors()]


def document_of(folder, case="case 7"):
    return read_review(Path(folder) / f"{case}.review.json")


# --- what is shown


def test_what_is_under_review_is_shown_with_slicers_status(widget, a_review):
    volume, node = a_review
    ui = widget.ui
    assert ui.reviewSegmentationSelector.currentNode() is node
    assert ui.reviewContent.visible
    assert ui.reviewProgressLabel.text == "0 of 2 completed"
    assert ui.reviewSegmentsTable.segmentCount == 2
    assert ui.reviewSegmentsTable.tableWidget().item(0, 4).text() == "Not started"
    assert ui.reviewStateLabel.text == "Not saved yet."
    assert ui.reviewWhyNotLabel.text == "Choose a decision first."
    assert not ui.reviewSignOffButton.enabled
    editor = widget.panel.review.editor
    assert editor.widget.segmentationNode() is node
    assert editor.widget.sourceVolumeNode() is volume
    assert editor.node.GetSingletonTag() == "MambaSegmentReview"
    assert [*editor.widget.effectButtons()] == ["Paint", "Draw", "Erase", "Scissors", "Islands", "Smoothing"]


def test_a_run_is_followed_by_its_review(host, open_module):
    """With a real worker; the model's name, options and time come from the run."""
    addVolume(someVoxels(), name="case 7")
    widget = open_module()
    assert widget.ui.reviewCollapsibleButton.collapsed
    assert "After each run" in widget.ui.reviewHintLabel.text
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert widget.logic.getParameterNode().reviewSegmentation is segmentations()[0]
    assert not widget.ui.reviewCollapsibleButton.collapsed
    assert widget.ui.reviewContent.visible
    state = session_of(widget).state
    assert (state.case, state.model.name, len(state.model.sha256)) == ("case 7", "tiny", 64)
    assert state.options["device"] == "cpu"
    assert [(image.channel, image.file) for image in state.images] == [("T1", None)]
    assert {each: entry.value for each, entry in state.predicted.items()} == {ANTERIOR: 1, POSTERIOR: 5}

    assert "torch" not in sys.modules


def a_finished_job(volume, node, identifiers=(ANTERIOR, POSTERIOR)):
    """Of a job what the review reads, made of real parts."""
    from MambaSegmentPanel.job import Outcome, Request
    from MambaSegmentPanel.segmenter import modelOf

    path, manifest = modelOf("hippocampus-t1")
    return SimpleNamespace(
        request=Request((volume,), path, manifest), outcome=Outcome(node=node, segmentIds=list(identifiers))
    )


def test_a_second_run_into_the_same_segmentation_joins_its_review(host, widget):
    volume, node = result_of_a_run()
    before = labelsOf(node, volume)
    review = widget.panel.review
    assert widget.ui.reviewCollapsibleButton.collapsed
    review.follow(a_finished_job(volume, node))
    assert not widget.ui.reviewCollapsibleButton.collapsed
    assert widget.logic.getParameterNode().reviewSegmentation is node
    assert session_of(widget).state.images[0].channel == "T1"
    choose(widget.ui.reviewRejectButton)
    widget.ui.reviewReviewerEdit.text = "A. Reviewer"
    session_of(widget).signOff("A. Reviewer")
    brush(widget, a_mask(NOWHERE))
    review.follow(a_finished_job(volume, node, add_segments_of_a_run(volume, node)))
    assert statuses(widget) == ["in progress", "not started", "not started", "not started"]
    state = session_of(widget).state
    assert [entry.value for entry in state.predicted.values()] == [1, 5, 2, 3]  # labels that no other segment has
    assert (state.decision, state.signedOffBy) == ("reject", "")
    (prediction,) = all_prediction_nodes()
    assert list(prediction.GetSegmentation().GetSegmentIDs()) == list(node.GetSegmentation().GetSegmentIDs())
    assert prediction.GetSegmentation().GetNumberOfLayers() == 2
    first = slicer.util.arrayFromSegmentBinaryLabelmap(prediction, ANTERIOR, volume)
    np.testing.assert_array_equal(first > 0, before == 1)  # as it was before the edit


def test_a_run_that_ends_while_another_module_is_shown_is_there_afterwards(host, widget):
    volume, node = result_of_a_run()
    host.exit("MambaSegment")
    widget.panel.review.follow(a_finished_job(volume, node))
    assert widget.panel.review.editor.widget is None
    host.enter("MambaSegment")
    assert widget.ui.reviewSegmentationSelector.currentNode() is node
    assert widget.ui.reviewContent.visible
    host.close_scene()
    assert widget.logic.getParameterNode().reviewSegmentation is None


def test_a_section_that_the_user_folded_stays_folded(host, widget, a_review):
    widget.ui.reviewCollapsibleButton.collapsed = True
    host.process_events()
    assert not widget.panel.review._isSeen
    assert widget.panel.review.editor.widget.record().shortcuts_parent is None
    assert not widget.panel.review.editor.widget.record().view_observations


def test_the_models_result_clutters_neither_lists_nor_views(widget, a_review):
    _volume, node = a_review
    (prediction,) = all_prediction_nodes()
    assert node.GetNodeReference("MambaSegment.Prediction") is prediction
    assert not prediction.GetSelectable()
    assert not prediction.GetDisplayNode().GetVisibility()
    assert not prediction.GetDisplayNode().GetVisibility3D()
    assert not prediction.GetSegmentation().ContainsRepresentation("Closed surface")
    assert prediction.GetSegmentation().GetNumberOfLayers() == 1
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    assert not hierarchy.GetItemByDataNode(prediction)
    for selector in (widget.ui.reviewSegmentationSelector, widget.ui.outputSegmentationSelector):
        assert selector.nodeCount() == 1


# --- statuses


def test_completed_goes_on_to_the_next_and_flag_is_taken_back(widget, a_review):
    ui = widget.ui
    press(ui.reviewCompleteButton)
    assert statuses(widget) == ["completed", "not started"]
    assert ui.reviewSegmentsTable.selectedSegmentIDs() == (POSTERIOR,)
    assert widget.panel.review.editor.widget.currentSegmentID() == POSTERIOR
    press(ui.reviewFlagButton)
    assert statuses(widget) == ["completed", "flagged"]
    assert ui.reviewProgressLabel.text == "1 of 2 completed, 1 flagged"
    assert ui.reviewFlagButton.checked
    press(ui.reviewFlagButton)
    assert statuses(widget) == ["completed", "in progress"]
    press(ui.reviewCompleteButton)
    assert ui.reviewProgressLabel.text == "2 of 2 completed"
    assert ui.reviewSegmentsTable.selectedSegmentIDs() == (POSTERIOR,)  # nothing is left


def test_completed_falls_back_when_it_is_edited_and_only_then(host, widget, a_review):
    press(widget.ui.reviewCompleteButton)
    press(widget.ui.reviewCompleteButton)
    select(widget, ANTERIOR)
    brush(widget, a_mask(AT_ANTERIOR))  # paints what is there already
    settle(host, widget)
    assert statuses(widget) == ["completed", "completed"]
    brush(widget, a_mask(NOWHERE))
    settle(host, widget)
    assert statuses(widget) == ["in progress", "completed"]


def test_painting_over_a_neighbour_is_an_edit_of_both(host, widget, a_review):
    for _ in range(2):
        press(widget.ui.reviewCompleteButton)
    at_posterior = tuple(int(each) for each in np.argwhere(someVoxels() == 2)[0])
    select(widget, ANTERIOR)
    brush(widget, a_mask(at_posterior))
    settle(host, widget)
    assert statuses(widget) == ["in progress", "in progress"]


def test_events_alone_announce_an_edit_after_a_moment(host, widget, a_review):
    """Nobody asks; colours and names are none."""
    press(widget.ui.reviewCompleteButton)
    segment = a_review[1].GetSegmentation().GetSegment(ANTERIOR)
    segment.SetColor(0.1, 0.2, 0.3)
    segment.SetName("front")
    host.process_events(0.5)
    assert statuses(widget)[0] == "completed"
    select(widget, ANTERIOR)
    brush(widget, a_mask(NOWHERE))
    host.wait_until(lambda: statuses(widget)[0] == "in progress", timeout_s=5)


def test_an_undone_edit_leaves_the_flag(host, widget, a_review):
    select(widget, ANTERIOR)
    brush(widget, a_mask(NOWHERE))
    settle(host, widget)
    press(widget.ui.reviewFlagButton)
    widget.panel.review.editor.widget.undo()
    settle(host, widget)
    assert labelsOf(a_review[1], a_review[0])[NOWHERE] == 0
    assert statuses(widget)[0] == "flagged"


def test_edits_are_noticed_while_another_module_is_shown(host, widget, a_review):
    volume, node = a_review
    press(widget.ui.reviewCompleteButton)
    host.exit("MambaSegment")
    mask = a_mask(NOWHERE).astype(np.uint8) | slicer.util.arrayFromSegmentBinaryLabelmap(node, ANTERIOR, volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, ANTERIOR, volume)
    host.enter("MambaSegment")
    settle(host, widget)
    assert statuses(widget)[0] == "in progress"


def test_a_segment_that_is_added_and_one_that_is_removed(host, widget, a_review, tmp_path):
    _volume, node = a_review
    segmentation = node.GetSegmentation()
    segmentation.AddEmptySegment("new", "Lesion")
    segmentation.RemoveSegment(POSTERIOR)
    settle(host, widget)
    press(widget.ui.reviewSaveButton)
    entries = {each.name: each for each in document_of(tmp_path).segments}
    assert set(entries) == {"Anterior", "Posterior", "Lesion"}
    assert (entries["Lesion"].value, entries["Lesion"].volume_ml_before, entries["Lesion"].dice) == (2, 0.0, None)
    assert entries["Posterior"].volume_ml_before > 0
    assert (entries["Posterior"].volume_ml_after, entries["Posterior"].dice) == (0.0, 0.0)


# --- compare, restore, undo


def test_compare_shows_outlines_over_the_fill_and_takes_them_away(host, widget, a_review):
    _volume, node = a_review
    (prediction,) = all_prediction_nodes()
    mine, models = node.GetDisplayNode(), prediction.GetDisplayNode()
    mine.SetSegmentVisibility(POSTERIOR, False)
    press(widget.ui.reviewCompareButton)
    assert (models.GetVisibility(), models.GetVisibility2DOutline(), models.GetVisibility2DFill()) == (1, True, False)
    assert [models.GetSegmentVisibility(each) for each in (ANTERIOR, POSTERIOR)] == [True, False]
    assert not models.GetVisibility3D()
    assert (mine.GetVisibility2DOutline(), mine.GetVisibility2DFill()) == (False, True)
    press(widget.ui.reviewCompareButton)
    assert not models.GetVisibility()
    assert mine.GetVisibility2DOutline()

    mine.SetVisibility2DOutline(False)  # as the user had it
    press(widget.ui.reviewCompareButton)
    press(widget.ui.reviewCompareButton)
    assert not mine.GetVisibility2DOutline()


def test_comparing_ends_with_the_choice_of_another_segmentation(host, widget, a_review):
    _volume, node = a_review
    press(widget.ui.reviewCompareButton)
    widget.ui.reviewSegmentationSelector.setCurrentNode(None)
    host.process_events()
    assert not widget.ui.reviewContent.visible
    assert node.GetDisplayNode().GetVisibility2DOutline()
    assert not all_prediction_nodes()[0].GetDisplayNode().GetVisibility()


def test_restore_gives_the_models_voxels_back_and_undo_takes_that_back(host, widget, a_review):
    volume, node = a_review
    before = labelsOf(node, volume)
    at_posterior = tuple(int(each) for each in np.argwhere(before == 5)[0])
    select(widget, ANTERIOR)
    brush(widget, a_mask(NOWHERE, at_posterior))
    brush(widget, a_mask(AT_ANTERIOR), erase=True)
    settle(host, widget)
    edited = labelsOf(node, volume)
    assert not np.array_equal(edited, before)
    host.process_events(0.3)
    assert "Dice 0." in widget.ui.reviewChangeLabel.text
    press(widget.ui.reviewRestoreButton)
    np.testing.assert_array_equal(labelsOf(node, volume) == 1, before == 1)
    assert labelsOf(node, volume)[at_posterior] == 0  # what was taken from the neighbour is the neighbour's to restore
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    host.process_events(0.3)
    assert widget.ui.reviewChangeLabel.text.endswith(" mL, unchanged")
    widget.panel.review.editor.widget.undo()
    settle(host, widget)
    np.testing.assert_array_equal(labelsOf(node, volume), edited)
    select(widget, POSTERIOR)
    press(widget.ui.reviewRestoreButton)
    np.testing.assert_array_equal(labelsOf(node, volume) == 5, before == 5)


def test_restoring_heeds_no_mask_and_leaves_the_users_masks_alone(host, widget, a_review):
    volume, node = a_review
    before = labelsOf(node, volume)
    select(widget, ANTERIOR)
    brush(widget, a_mask(NOWHERE))
    editor = widget.panel.review.editor.node
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments)
    editor.SetOverwriteMode(editor.OverwriteNone)
    press(widget.ui.reviewRestoreButton)
    np.testing.assert_array_equal(labelsOf(node, volume), before)
    assert editor.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments
    assert editor.GetOverwriteMode() == editor.OverwriteNone


# --- decision and signature


def test_sign_off_is_refused_with_the_reason_until_nothing_stands_against_it(host, widget, a_review, tmp_path):
    ui = widget.ui
    select(widget, ANTERIOR)
    choose(ui.reviewAcceptButton)
    ui.reviewReviewerEdit.text = " "
    assert ui.reviewWhyNotLabel.text == "Enter the reviewer's name first."
    ui.reviewReviewerEdit.text = "A. Reviewer"
    assert not ui.reviewWhyNotLabel.visible
    press(ui.reviewFlagButton)
    assert ui.reviewWhyNotLabel.text == "Resolve what is flagged first: Anterior."
    assert not ui.reviewSignOffButton.enabled
    press(ui.reviewFlagButton)
    brush(widget, a_mask(NOWHERE))
    press(ui.reviewSignOffButton)  # at once, before the edit was announced
    assert ui.reviewErrorLabel.text.startswith("These segments were changed: Anterior. Choose “Accept with corr")
    choose(ui.reviewCorrectedButton)
    press(ui.reviewRestoreButton)
    press(ui.reviewSignOffButton)
    assert ui.reviewErrorLabel.text.startswith("No segment differs from the model")
    assert list(tmp_path.iterdir()) == []
    choose(ui.reviewAcceptButton)
    press(ui.reviewSignOffButton)
    assert not ui.reviewErrorLabel.visible
    assert document_of(tmp_path).signed_off


def test_what_is_signed_cannot_be_changed_by_accident_and_an_edit_withdraws_it(host, widget, a_review, tmp_path):
    ui = widget.ui
    choose(ui.reviewAcceptButton)
    press(ui.reviewSignOffButton)
    assert ui.reviewStateLabel.text.startswith("Signed off by A. Reviewer. Saved as case 7, ")
    assert ui.reviewSignOffButton.text == "Withdraw sign-off"
    assert not any(getattr(ui, name).enabled for name in (*DECIDED, "reviewCommentEdit", "reviewReviewerEdit"))
    press(ui.reviewSaveButton)  # again, as it is
    assert document_of(tmp_path).signed_off
    assert tag(a_review[1].GetSegmentation().GetSegment(ANTERIOR), "MambaSegment.Reviewer") == "A. Reviewer"

    brush(widget, a_mask(NOWHERE))
    settle(host, widget)
    assert "the signature was withdrawn" in ui.reviewErrorLabel.text
    assert ui.reviewStateLabel.text.endswith("Changed since.")
    assert all(getattr(ui, name).enabled for name in DECIDED)
    assert document_of(tmp_path).signed_off  # the file is as it was saved
    press(ui.reviewSaveButton)
    assert not document_of(tmp_path).signed_off
    assert tag(a_review[1].GetSegmentation().GetSegment(ANTERIOR), "MambaSegment.Reviewer") is None


def test_a_signature_is_withdrawn_by_hand_and_by_a_flag(host, widget, a_review):
    ui = widget.ui
    choose(ui.reviewRejectButton)
    press(ui.reviewSignOffButton)
    press(ui.reviewSignOffButton)
    assert not session_of(widget).isSignedOff
    assert ui.reviewStateLabel.text.endswith("Changed since.")
    press(ui.reviewSignOffButton)
    press(ui.reviewFlagButton)
    settle(host, widget)
    assert not session_of(widget).isSignedOff


# --- files


def test_the_files_hold_the_review(host, widget, a_review, tmp_path):
    volume, node = a_review
    before = labelsOf(node, volume)
    widget.ui.reviewSlicesEdit.text = "4, 0-2"
    correct_and_sign(host, widget, NOWHERE, comment="Tail – “cut” off;\nmended: 2 slices")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "case 7.ai.seg.nrrd",
        "case 7.review.json",
        "case 7.seg.nrrd",
    ]
    document = document_of(tmp_path)
    assert (document.decision, document.reviewer, document.signed_off) == (
        "accept with corrections",
        "A. Reviewer",
        True,
    )
    assert document.comment == "Tail – “cut” off;\nmended: 2 slices"
    assert document.reviewed_slices.ranges == ((0, 2), (4, 4))
    assert (document.model.name, document.model.version, document.model.sha256) == ("tiny", "1", SHA)
    assert document.options == {"device": "cpu"}
    from MambaSegmentPanel.volume_out import volumeOf

    assert document.images[0].geometry_sha256 == geometry_sha256(volumeOf(volume))
    assert geometry_sha256(document.grid) == geometry_sha256(volumeOf(volume))
    count = int((before == 1).sum())
    voxel_ml = float(np.prod(volume.GetSpacing())) / 1000
    anterior, posterior = document.segments
    assert anterior.dice == pytest.approx(2 * count / (2 * count + 1))
    assert anterior.volume_ml_before == pytest.approx(count * voxel_ml)
    assert anterior.volume_ml_after == pytest.approx((count + 1) * voxel_ml)
    assert (anterior.status, posterior.status, posterior.dice) == ("completed", "not started", 1.0)

    for name, expected in (("case 7.ai.seg.nrrd", before), ("case 7.seg.nrrd", labelsOf(node, volume))):
        loaded = slicer.util.loadSegmentation(str(tmp_path / name))
        np.testing.assert_array_equal(labelsOf(loaded, volume), expected)
    assert tag(node.GetSegmentation().GetSegment(ANTERIOR), "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    assert tag(node.GetSegmentation().GetSegment(POSTERIOR), "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    corrected = loaded.GetSegmentation().GetSegment(ANTERIOR)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.GetSegmentStatus(corrected) == logic.Completed
    assert corrected.GetName() == "Anterior"


def test_files_of_others_are_never_overwritten_silently(widget, a_review, tmp_path):
    ui = widget.ui
    (tmp_path / "case 7.seg.nrrd").write_text("somebody's work")
    press(ui.reviewSaveButton)
    assert ui.reviewConflictFrame.visible
    assert ui.reviewConflictLabel.text.startswith("case 7.seg.nrrd would be overwritten")
    press(ui.reviewKeepButton)
    assert not ui.reviewConflictFrame.visible
    assert [path.name for path in tmp_path.iterdir()] == ["case 7.seg.nrrd"]
    press(ui.reviewSaveButton)
    press(ui.reviewOtherNameButton)
    assert ui.reviewCaseEdit.text == "case 7-2"
    assert document_of(tmp_path, "case 7-2").segmentation_file == "case 7-2.seg.nrrd"
    assert (tmp_path / "case 7.seg.nrrd").read_text() == "somebody's work"

    press(ui.reviewSaveButton)  # its own files, which need no question
    assert not ui.reviewConflictFrame.visible
    document = tmp_path / "case 7-2.review.json"
    document.write_text(document.read_text().replace("A. Reviewer", "B. Reviewer"))  # a colleague saved it
    press(ui.reviewSaveButton)
    assert ui.reviewConflictFrame.visible
    press(ui.reviewReplaceButton)
    assert document_of(tmp_path, "case 7-2").reviewer == "A. Reviewer"


def test_without_the_packages_that_write_files_the_panel_says_what_to_do(widget, a_review, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "slicerio", None)  # as before anything was installed
    press(widget.ui.reviewSaveButton)
    assert widget.ui.reviewErrorLabel.text.startswith("Not saved: The package slicerio is missing; press Install")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["no folder", "full disk", "not permitted"])
def test_a_save_that_fails_says_so_and_loses_nothing(host, widget, a_review, tmp_path, monkeypatch, what):
    ui = widget.ui
    choose(ui.reviewAcceptButton)
    if what == "no folder":
        choose_folder(widget, tmp_path / "none")
    elif what == "not permitted":
        if sys.platform != "linux":
            pytest.skip("the folder that not even root may write to is Linux'")
        choose_folder(widget, "/sys/kernel")
    else:
        from MambaSegmentLib.review import saving

        def full(*_args, **_kwargs):  # a disk that is full
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(saving, "write_segmentation", full)
    press(ui.reviewSignOffButton)
    words = {"no folder": "does not exist", "full disk": "the disk is full", "not permitted": "Cannot write"}[what]
    assert ui.reviewErrorLabel.text.startswith("Not saved: ")
    assert words in ui.reviewErrorLabel.text
    assert "The review stays in the scene." in ui.reviewErrorLabel.text
    assert "Traceback" not in ui.reviewErrorLabel.text
    assert session_of(widget).isSignedOff
    assert ui.reviewStateLabel.text == "Signed off by A. Reviewer. Not saved yet."
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    choose_folder(widget, tmp_path)
    press(ui.reviewSaveButton)
    assert not ui.reviewErrorLabel.visible
    assert document_of(tmp_path).signed_off


def test_folder_and_name_are_asked_for_once_and_remembered(host, widget, a_review, tmp_path, monkeypatch):
    ui = widget.ui
    choose_folder(widget, "")
    asked = []
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *args: asked.append(args) or "")
    press(ui.reviewSaveButton)
    assert "choose a folder first" in ui.reviewErrorLabel.text
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *args: asked.append(args) or str(tmp_path))
    press(ui.reviewSaveButton)
    press(ui.reviewSaveButton)
    assert len(asked) == 2
    assert document_of(tmp_path).reviewer == "A. Reviewer"
    again = host.reload("MambaSegment")
    assert again.ui.reviewFolderEdit.currentPath == str(tmp_path)
    assert again.ui.reviewReviewerEdit.text == "A. Reviewer"


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("reviewSlicesEdit", "3-9", "no slices 3 to 9"),
        ("reviewSlicesEdit", "x", "is no slice"),
        ("reviewCaseEdit", "a/b", "is named"),
        ("reviewCaseEdit", "", "is named"),
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_is_saved(widget, a_review, tmp_path, field, text, words):
    getattr(widget.ui, field).text = text
    press(widget.ui.reviewSaveButton)
    assert words in widget.ui.reviewErrorLabel.text
    assert list(tmp_path.iterdir()) == []


def test_without_the_models_result_there_is_nothing_to_compare_but_the_work_is_saved(widget, a_review, tmp_path):
    slicer.mrmlScene.RemoveNode(all_prediction_nodes()[0])
    ui = widget.ui
    assert not ui.reviewCompareButton.enabled
    assert not ui.reviewRestoreButton.enabled
    press(ui.reviewSaveButton)
    document = document_of(tmp_path)
    assert document.prediction_file is None
    assert document.segments[0].dice is None
    assert document.segments[0].volume_ml_before > 0
    assert not (tmp_path / "case 7.ai.seg.nrrd").exists()


def test_the_voxels_are_saved_where_a_transform_moved_both(host, widget, tmp_path):
    """The files lie on the image's own grid, as the image's file does."""
    from Testing.module.scene_cases import addTransform, aRotation

    volume, node = result_of_a_run()
    transform = addTransform(aRotation())
    for each in (volume, node):
        each.SetAndObserveTransformNodeID(transform.GetID())
    review_it(host, widget, node)
    choose_folder(widget, tmp_path)
    press(widget.ui.reviewSaveButton)
    expected = labelsOf(node, volume)
    for each in (volume, node):
        each.SetAndObserveTransformNodeID(None)
    loaded = slicer.util.loadSegmentation(str(tmp_path / "case 7.seg.nrrd"))
    np.testing.assert_array_equal(labelsOf(loaded, volume), expected)
    assert expected.any()


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


# --- keys, time, size


def test_keys_do_what_the_buttons_do_and_none_is_the_editors(host, widget, a_review):
    from MambaSegmentPanel.review import keys

    ours = (keys.COMPLETE, keys.FLAG, keys.COMPARE)
    assert not {qt.QKeySequence(key).toString() for key in ours} & {qt.QKeySequence(key).toString() for key in KEYS}
    root = widget.panel.review.root
    widget.parent.activateWindow()
    shift = qt.Qt.ControlModifier | qt.Qt.ShiftModifier
    qt.QTest.keyClick(root, qt.Qt.Key_Return, shift)
    assert statuses(widget) == ["completed", "not started"]
    qt.QTest.keyClick(root, qt.Qt.Key_G, shift)
    assert statuses(widget) == ["completed", "flagged"]
    qt.QTest.keyClick(root, qt.Qt.Key_K, shift)
    assert widget.ui.reviewCompareButton.checked
    host.exit("MambaSegment")
    host.process_events()
    assert slicer.util.findChildren(widget.parent, className="QShortcut") == []


def test_only_time_at_work_counts(panel_module):
    """Twenty minutes, of which somebody was there for three."""
    now = [0.0]
    clock = panel_module("review.clock").ReviewClock(lambda: now[0])
    clock.touch()
    now[0] = 100.0
    assert clock.take_s() == 0.0  # not started
    clock.start()
    for moment in (110.0, 140.0):
        now[0] = moment
        clock.touch()
    now[0] = 1140.0  # away for longer than the limit
    assert clock.take_s() == 40.0 + 120.0
    now[0] = 1160.0
    clock.pause()
    now[0] = 5000.0
    clock.start()
    assert clock.take_s() == 20.0


def test_a_moved_slice_is_a_sign_of_work(host, widget):
    slices = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    slices.SetLayoutName("Red")
    _volume, node = result_of_a_run()
    review_it(host, widget, node)
    seen = []
    session_of(widget).clock.touch = lambda: seen.append(1)
    slices.JumpSliceByCentering(1.0, 2.0, 3.0)
    assert seen
    del seen[:]
    host.exit("MambaSegment")
    del seen[:]
    slices.JumpSliceByCentering(9.0, 2.0, 3.0)
    assert seen == []


def test_nothing_of_this_loads_torch(widget, a_review):
    assert "torch" not in sys.modules
