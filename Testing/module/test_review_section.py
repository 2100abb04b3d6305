"""A person reviews the result of a run: real segments, real edits and clicks."""

import sys
from types import SimpleNamespace

import numpy as np
import qt
import slicer

from Testing.host.segment_editor import KEYS
from Testing.module.panel_cases import press, segmentations, someVoxels, wait_for_end
from Testing.module.review_cases import (
    ANTERIOR,
    AT_ANTERIOR,
    NOWHERE,
    POSTERIOR,
    a_mask,
    add_segments_of_a_run,
    all_prediction_nodes,
    brush,
    choose,
    document_of,
    result_of_a_run,
    review_it,
    select,
    session_of,
    settle,
    statuses,
)
from Testing.module.scene_cases import addVolume, labelsOf

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
