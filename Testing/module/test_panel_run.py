"""A person clicks Segment: real widgets, clicks and worker; the networks are tiny ones, whose answers are known."""

import os
import signal
import sys

import numpy as np
import pytest
import qt
import slicer

from Testing.module.panel_cases import (
    TINY_WORKER,
    expectedLabels,
    is_idle,
    isGone,
    press,
    segmentations,
    someVoxels,
    start_run,
    wait_for_end,
)
from Testing.module.scene_cases import addVolume, labelsOf

# --- a result


def test_a_click_gives_segments_a_table_and_the_time(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module()
    values = []
    widget.ui.progressBar.connect("valueChanged(int)", values.append)
    press(widget.ui.segmentButton)
    assert widget.ui.segmentButton.text == "Cancel"
    assert widget.ui.progressBar.visible
    wait_for_end(host, widget)
    (node,) = segmentations()
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()))
    assert is_idle(widget)
    assert widget.ui.statusLabel.text.startswith("Done in ")
    assert "“T1 tiny”, 2 segments" in widget.ui.statusLabel.text
    assert values == sorted(values)
    assert len(set(values)) > 5
    assert "torch" not in sys.modules

    table = widget.ui.resultTable
    count = int((expectedLabels(someVoxels()) == 1).sum())
    assert [table.item(0, column).text() for column in (0, 1, 6)] == ["Anterior", f"{count / 1000:.3f}", str(count)]
    assert table.item(0, 4).text() == "1"  # the mean of voxels that are all 1
    press(widget.ui.copyResultButton)
    headings, *lines = (line.split("\t") for line in qt.QApplication.clipboard().text().splitlines())
    assert headings[:3] == ["Segment", "Volume (mL)", "Longest diameter (mm)"]
    assert [line[:2] for line in lines] == [["Anterior", f"{count / 1000:.3f}"], ["Posterior", f"{count / 1000:.3f}"]]


def test_a_second_run_makes_a_second_segmentation_and_touches_the_first_only_when_it_is_chosen(host, open_module):
    """Then what was edited (here, renamed) stays beside the new ones, since nobody allowed to replace it."""
    volume = addVolume(someVoxels())
    widget = open_module()
    for _ in range(2):
        press(widget.ui.segmentButton)
        wait_for_end(host, widget)
    first, second = segmentations()
    assert [each.GetSegmentation().GetNumberOfSegments() for each in (first, second)] == [2, 2]
    first.GetSegmentation().GetNthSegment(0).SetName("edited")
    widget.ui.outputSegmentationSelector.setCurrentNode(first)
    host.process_events()
    assert "The 2 segments that “T1 tiny” has of this model are replaced" in widget.ui.inputHintLabel.text
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    segmentation = first.GetSegmentation()
    names = [segmentation.GetNthSegment(number).GetName() for number in range(segmentation.GetNumberOfSegments())]
    assert names == ["edited", "Anterior", "Posterior"]
    np.testing.assert_array_equal(labelsOf(first, volume), expectedLabels(someVoxels()))
    assert len(segmentations()) == 2


def test_an_image_that_comes_while_the_panel_is_shown_is_taken(host, open_module):
    """As one that is dropped onto Slicer; a second one changes nothing."""
    widget = open_module()
    assert widget.ui.tryItButton.visible
    volume = addVolume(someVoxels(), name="dropped")
    host.wait_until(lambda: widget.ui.inputVolumeSelector.currentNode() is volume)
    assert widget.ui.segmentButton.enabled
    assert not widget.ui.tryItButton.visible
    addVolume(someVoxels(), name="T1")
    host.process_events(0.2)
    assert widget.ui.inputVolumeSelector.currentNode() is volume


def test_two_channels_have_two_selectors_prefilled_by_name(host, open_module):
    """The order of the scene is not that of the channels; their sum tells whether each went where it belongs."""
    t2, t1 = addVolume(someVoxels()[::-1].copy(), name="case7_T2w"), addVolume(someVoxels(), name="case7_T1")
    widget = open_module("two")
    node = widget.logic.getParameterNode()
    selector = slicer.util.findChild(widget.parent, "inputVolumeSelector2")
    node.inputVolume = None
    assert widget.ui.inputVolumeLabel.text == "T1:"
    assert widget.ui.segmentButton.toolTip == "Choose a volume for T1."
    assert not widget.ui.segmentButton.enabled
    host.exit("MambaSegment")
    widget = host.enter("MambaSegment")
    assert (widget.ui.inputVolumeSelector.currentNode(), selector.currentNode()) == (t1, t2)
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    expected = expectedLabels(someVoxels() + someVoxels()[::-1])
    np.testing.assert_array_equal(labelsOf(segmentations()[0], t1), expected)

    selector.setCurrentNode(t1)
    assert "chosen for T1 and for T2" in widget.ui.segmentButton.toolTip
    assert "chosen for T1 and for T2" in widget.ui.whyNotReadyLabel.text
    assert widget.ui.whyNotReadyLabel.visible
    node.model = "tiny"
    host.process_events()
    assert slicer.util.findChildren(widget.parent, name="inputVolumeSelector2") == []
    assert widget.ui.segmentButton.enabled


def test_what_a_person_should_know_about_the_images_is_shown(host, open_module):
    addVolume(someVoxels(), name="T1")
    addVolume(someVoxels()[:, :, ::2].copy(), np.diag([2.0, 1, 1, 1]), "T2")
    widget = open_module("two")
    host.exit("MambaSegment")
    widget = host.enter("MambaSegment")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert "The volume 'T2' does not lie on the grid" in widget.ui.warningsLabel.text
    assert widget.ui.warningsLabel.visible


def test_the_model_is_warm_before_the_first_click_but_only_when_one_can_be_made(host, open_module, monkeypatch):
    widget = open_module()
    asked = []
    monkeypatch.setattr(widget.logic, "warmUp", lambda model, **options: asked.append((model, *options.values())))
    node = widget.logic.getParameterNode()
    host.process_events(0.8)
    assert asked == []  # there is no volume
    node.inputVolume = addVolume(someVoxels())
    node.model = "slow"
    node.model = "short"
    host.wait_until(lambda: asked)
    host.exit("MambaSegment")
    host.enter("MambaSegment")
    host.process_events(0.8)
    assert asked == [("short", "cpu", "best")]


def test_channels_and_device_are_saved_with_the_scene(host, open_module, tmp_path):
    addVolume(someVoxels(), name="T1")
    second = addVolume(someVoxels(), name="T2")
    widget = open_module("two")
    host.exit("MambaSegment")
    widget = host.enter("MambaSegment")
    assert slicer.util.findChild(widget.parent, "inputVolumeSelector2").currentNode() is second
    host.exit("MambaSegment")
    path = str(tmp_path / "scene.mrml")
    slicer.mrmlScene.SetURL(path)
    for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        slicer.util.saveNode(volume, str(tmp_path / f"{volume.GetName()}.nrrd"))
    assert slicer.mrmlScene.Commit(path)
    host.close_scene()
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Connect()
    widget = host.enter("MambaSegment")
    assert widget.ui.inputVolumeSelector.currentNode().GetName() == "T1"
    assert slicer.util.findChild(widget.parent, "inputVolumeSelector2").currentNode().GetName() == "T2"
    assert widget.ui.deviceSelector.currentText == "CPU"


# --- no result


def test_cancel_leaves_the_scene_as_it_was(host, open_module):
    addVolume(someVoxels())
    widget = open_module("slow")
    start_run(host, widget)
    press(widget.ui.segmentButton)
    assert not widget.ui.segmentButton.enabled
    wait_for_end(host, widget)
    assert is_idle(widget)
    assert widget.ui.statusLabel.text == "Cancelled on request."
    assert not widget.ui.errorLabel.visible
    assert segmentations() == []


def test_an_error_is_a_message_and_advice_and_the_next_run_works(host, open_module):
    constant = addVolume(np.ones((4, 4, 4), np.int16), name="constant")
    widget = open_module()
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    text = widget.ui.errorLabel.text
    assert "nothing to segment" in text
    assert "<i>Look at the image in a viewer" in text  # the worker's advice
    assert "Traceback" not in text
    widget.ui.logCollapsibleButton.collapsed = False
    press(widget.ui.copyLogButton)
    assert "ERROR" in qt.QApplication.clipboard().text()
    assert "nothing to segment" in qt.QApplication.clipboard().text()

    slicer.mrmlScene.RemoveNode(constant)
    assert widget.ui.segmentButton.toolTip == "Choose a volume for T1."
    widget.logic.getParameterNode().inputVolume = addVolume(someVoxels())
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert not widget.ui.errorLabel.visible
    assert len(segmentations()) == 1


def test_a_bug_in_the_worker_is_no_traceback_either(host, open_module):
    addVolume(someVoxels())
    widget = open_module("broken")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert "ZeroDivisionError: a bug. Please report this" in widget.ui.errorLabel.text
    assert "Traceback" not in widget.ui.errorLabel.text


def test_what_is_refused_at_once_is_shown_as_well(host, open_module):
    volume = addVolume(someVoxels())
    volume.SetIJKToRASDirections(1, 0.5, 0, 0, 1, 0, 0, 0, 1)  # sheared
    widget = open_module()
    press(widget.ui.segmentButton)
    assert is_idle(widget)
    assert "The volume 'T1': the axes" in widget.ui.errorLabel.text
    assert widget.ui.errorLabel.visible


# --- what happens meanwhile


def test_a_worker_that_is_killed_is_an_error_with_advice_and_another_one_comes(host, open_module, tiny_segmenter):
    addVolume(someVoxels())
    widget = open_module("slow")
    start_run(host, widget)
    pid = tiny_segmenter.worker.client._run._pid
    os.kill(pid, signal.SIGKILL)
    wait_for_end(host, widget)
    assert is_idle(widget)
    assert "The worker ended unexpectedly" in widget.ui.errorLabel.text
    assert "Too little memory is the usual reason" in widget.ui.errorLabel.text
    assert segmentations() == []
    widget.logic.getParameterNode().model = "tiny"
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert len(segmentations()) == 1
    assert tiny_segmenter.worker.client._run._pid != pid


def test_the_scene_is_closed_meanwhile(host, open_module):
    addVolume(someVoxels())
    widget = open_module("slow")
    start_run(host, widget)
    host.close_scene()
    wait_for_end(host, widget)
    assert is_idle(widget)
    assert widget.ui.statusLabel.text == "Cancelled, since the scene was closed."
    assert not widget.ui.segmentButton.enabled
    assert segmentations() == []


def test_a_closed_scene_takes_the_table_of_its_segments_along(host, open_module):
    addVolume(someVoxels())
    widget = open_module()
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert widget.ui.resultsCollapsibleButton.visible
    host.close_scene()
    assert not widget.ui.resultsCollapsibleButton.visible
    assert not widget.ui.statusLabel.visible


def test_the_volume_is_deleted_meanwhile(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module("slow")
    start_run(host, widget)
    slicer.mrmlScene.RemoveNode(volume)
    wait_for_end(host, widget)
    assert widget.ui.statusLabel.text == "Cancelled, since the volume 'T1' was removed."
    assert not widget.ui.segmentButton.enabled


def test_the_output_is_deleted_meanwhile_and_a_new_one_is_made(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module("short")
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    widget.logic.getParameterNode().outputSegmentation = output
    start_run(host, widget)
    slicer.mrmlScene.RemoveNode(output)
    wait_for_end(host, widget)
    (node,) = segmentations()
    assert node.GetName() == "T1 short"
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()))


def test_another_module_is_looked_at_meanwhile(host, open_module):
    addVolume(someVoxels())
    widget = open_module("short")
    start_run(host, widget)
    host.exit("MambaSegment")
    assert host.enter("MambaSegment").ui.segmentButton.text == "Cancel"
    host.exit("MambaSegment")
    wait_for_end(host, widget)
    host.enter("MambaSegment")
    assert len(segmentations()) == 1
    assert widget.ui.statusLabel.text.startswith("Done in ")


@pytest.mark.parametrize("end", ["reload", "end of the application"])
def test_the_module_goes_meanwhile_and_its_worker_with_it(host, open_module, panel_module, end):
    host.load_module()
    segmenter = panel_module("segmenter").Segmenter(panel_module("worker_owner").WorkerOwner(command=TINY_WORKER))
    host.unload("MambaSegment")
    addVolume(someVoxels())
    widget = open_module("slow", segmenter)
    start_run(host, widget)
    pid, folder = segmenter.worker.client._run._pid, segmenter.worker.client.folder
    if end == "reload":
        again = host.reload("MambaSegment")
        assert again is not widget
        assert is_idle(again)
        assert again.ui.segmentButton.enabled
    else:
        host.app.aboutToQuit.emit()
        host.unload("MambaSegment")
    assert not widget.panel.run.isRunning
    assert isGone(pid)
    assert not folder.exists()
    assert segmentations() == []
