"""A review is decided, signed and saved: what is refused, and files that are read back."""

import sys

import numpy as np
import pytest
import qt
import slicer

from MambaSegmentLib.review.document import geometry_sha256
from Testing.module.panel_cases import press
from Testing.module.review_cases import (
    ANTERIOR,
    DECIDED,
    NOWHERE,
    POSTERIOR,
    SHA,
    a_mask,
    all_prediction_nodes,
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
)
from Testing.module.scene_cases import labelsOf, tag

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
