"""Many cases from the panel: real clicks, files and worker; the networks are tiny ones, whose answers are known."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import qt
import slicer

from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.volume import Volume
from Testing.module.panel_cases import (
    expectedLabels,
    isGone,
    press,
    segmentations,
    someVoxels,
    wait_for_end,
)
from Testing.module.scene_cases import addVolume, labelsOf

CONSTANT = np.ones((4, 4, 4), np.int16)


@pytest.fixture
def images(tmp_path):
    """Three cases, the second of which holds nothing to segment."""
    folder = tmp_path / "images é"
    folder.mkdir()
    for name, voxels in (("a", someVoxels()), ("b", CONSTANT), ("c", someVoxels()[::-1].copy())):
        write_volume(Volume(voxels), folder / f"{name}.nrrd")
    return folder


@pytest.fixture
def open_batch(host, open_module):
    """`open_batch(source, output)`: the section, unfolded, with what a user would have typed."""

    def opened(source="", output="", model="tiny", kind="files"):
        widget = open_module(model)
        section = widget.panel.batch
        section.ui.batchCollapsibleButton.collapsed = False
        node = widget.logic.getParameterNode()
        node.batchKind = kind
        for edit, text in ((section.ui.batchSourceEdit, source), (section.ui.batchOutputEdit, output)):
            edit.setText(str(text))
        host.wait_until(lambda: not section._look.isActive())
        return widget, section

    return opened


def statuses(section):
    table = section.ui.batchTable
    return [table.item(row, 1).text() for row in range(table.rowCount)]


def names(section):
    table = section.ui.batchTable
    return [table.item(row, 0).text() for row in range(table.rowCount)]


def wait_for_batch(host, section):
    host.wait_until(lambda: not section.isRunning, timeout_s=60)


def wait_for_case(host, section, row):
    """Until the network of a case computes."""
    host.wait_until(lambda: statuses(section)[row].startswith("running") and "running, 0" not in statuses(section)[row])


def double_click(section, row):
    table = section.ui.batchTable
    place = table.visualItemRect(table.item(row, 0)).center()
    qt.QTest.mouseClick(table.viewport(), qt.Qt.LeftButton, qt.Qt.NoModifier, place)
    qt.QTest.mouseDClick(table.viewport(), qt.Qt.LeftButton, qt.Qt.NoModifier, place)


# --- files


def test_a_folder_is_listed_done_and_a_bad_case_stops_nothing(host, open_batch, images, tmp_path):
    widget, section = open_batch(images, tmp_path / "labels")
    assert (names(section), statuses(section)) == (["a", "b", "c"], ["waiting"] * 3)
    assert section.ui.batchButton.text == "Segment all"
    press(section.ui.batchButton)
    assert section.ui.batchButton.text == "Cancel"
    wait_for_batch(host, section)
    assert statuses(section)[0].startswith("done in ")
    assert statuses(section)[1].startswith("failed: ")
    assert "nothing to segment" in statuses(section)[1]
    assert section.ui.batchStatusLabel.text == "Cases: 2 done, 1 failed."
    assert not section.ui.batchErrorLabel.visible
    np.testing.assert_array_equal(
        read_volume(tmp_path / "labels" / "c.seg.nrrd").array, expectedLabels(someVoxels()[::-1])
    )
    report = json.loads((tmp_path / "labels" / "report.json").read_text(encoding="utf-8"))
    assert (report["done"], report["failed"]) == (2, 1)
    assert segmentations() == []  # nothing is loaded unless it is asked for
    widget.logic.getParameterNode().quality = "fast"  # what became of the cases stays to be seen
    host.process_events(0.6)
    assert statuses(section)[1].startswith("failed: ")
    widget.logic.getParameterNode().quality = "best"

    section.ui.batchTable.setCurrentCell(1, 0)
    assert "Look at the image in a viewer" in section.ui.batchDetailLabel.text  # the worker's advice
    press(section.ui.batchButton)  # again: only what is not done
    wait_for_batch(host, section)
    assert [text.partition(":")[0] for text in statuses(section)] == ["done before", "failed", "done before"]
    assert section.ui.batchStatusLabel.text == "Cases: 2 done, 2 of them before, 1 failed."


def test_a_double_click_opens_image_and_labels_once(host, open_batch, images, tmp_path):
    _, section = open_batch(images, tmp_path / "labels")
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    double_click(section, 1)  # failed: nothing to open
    assert segmentations() == []
    for _ in range(2):
        double_click(section, 2)
        host.process_events()
        (node,) = segmentations()
        (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()[::-1]))
    assert [node.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)] == ["Anterior", "Posterior"]
    (tmp_path / "labels" / "a.seg.nrrd").unlink()
    double_click(section, 0)
    assert "a.seg.nrrd is not there any more" in section.ui.batchErrorLabel.text


def test_a_case_that_is_opened_is_under_review_with_what_made_it(host, open_batch, images, tmp_path):
    widget, section = open_batch(images, tmp_path / "labels")
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    for row in (0, 2, 0):  # one after the other, and back
        double_click(section, row)
        host.process_events()
        session = widget.panel.review._session
        assert session.node is segmentations()[min(row, 1)]
        assert session.state.case == "abc"[row]
    assert len(segmentations()) == 2
    assert not widget.ui.reviewCollapsibleButton.collapsed
    state = session.state
    manifest = section._setup.model.manifest
    assert (state.model.name, state.model.version, state.model.sha256) == ("tiny", manifest.version, manifest.sha256)
    assert state.options["quality"] == "best"
    assert [(image.channel, image.file) for image in state.images] == [(manifest.channels[0].name, "a.nrrd")]
    assert sorted(entry.name for entry in state.predicted.values()) == ["Anterior", "Posterior"]
    assert not widget.ui.reviewErrorLabel.visible


def test_labels_of_another_kind_open_with_the_names_and_colours_of_the_model(host, open_batch, images, tmp_path):
    widget, section = open_batch(images / "a.nrrd", tmp_path / "labels")
    widget.logic.getParameterNode().batchEnding = ".nii.gz"
    assert section.ui.batchEndingSelector.currentText == ".nii.gz"
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    assert (tmp_path / "labels" / "a.nii.gz").is_file()
    double_click(section, 0)
    (node,) = segmentations()
    segments = [node.GetSegmentation().GetNthSegment(number) for number in range(2)]
    assert [segment.GetName() for segment in segments] == ["Anterior", "Posterior"]
    assert segments[1].GetColor() == (0.0, 1.0, 0.0)


def test_cancel_keeps_what_is_done_and_the_next_start_goes_on(host, open_batch, images, tmp_path, tiny_segmenter):
    _, section = open_batch(images, tmp_path / "labels", model="short")
    press(section.ui.batchButton)
    wait_for_case(host, section, 2)
    press(section.ui.batchButton)
    assert section.ui.batchButton.text == "Cancelling…"
    wait_for_batch(host, section)
    assert section.ui.batchStatusLabel.text == "Cancelled on request. Cases: 1 done, 1 failed, 1 not begun."
    assert statuses(section)[2] == "waiting"
    assert not section.ui.batchErrorLabel.visible
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [
        "a.seg.nrrd", "batch.jsonl", "report.csv", "report.json", "segments.csv",
    ]  # fmt: skip
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    assert statuses(section)[0] == "done before"
    assert statuses(section)[2].startswith("done in ")
    assert not list(tiny_segmenter.worker.client.folder.glob("*job*"))


def test_the_panel_segments_between_two_cases(host, open_batch, images, tmp_path):
    addVolume(someVoxels())
    widget, section = open_batch(images, tmp_path / "labels", model="short")
    press(section.ui.batchButton)
    wait_for_case(host, section, 0)
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert len(segmentations()) == 1
    assert section.isRunning
    wait_for_batch(host, section)
    assert section.ui.batchStatusLabel.text == "Cases: 2 done, 1 failed."


def test_nothing_to_do_and_nowhere_to_write_are_said_before(host, open_batch, images, tmp_path):
    _, section = open_batch(tmp_path / "nowhere")
    assert "does not exist" in section.ui.batchWhyNotLabel.text
    assert not section.ui.batchButton.enabled
    section.ui.batchSourceEdit.setText(str(images))
    host.wait_until(lambda: names(section) == ["a", "b", "c"])
    assert section.ui.batchWhyNotLabel.text == "Choose a folder for the labels."
    (tmp_path / "file").write_text("no folder")
    section.ui.batchOutputEdit.setText(str(tmp_path / "file"))
    press(section.ui.batchButton)
    assert "cannot make the folder" in section.ui.batchErrorLabel.text.lower()
    section.ui.batchOutputEdit.setText(str(images))
    section.ui.batchEndingSelector.currentIndex = section.ui.batchEndingSelector.findText(".nrrd")
    press(section.ui.batchButton)
    assert "is an input image, which would be lost" in section.ui.batchErrorLabel.text


def test_folders_and_tables_are_chosen_with_buttons(host, open_batch, images, tmp_path, monkeypatch):
    _, section = open_batch()
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "labels"))
    press(section.ui.batchOutputButton)
    assert section.ui.batchOutputEdit.text == str(tmp_path / "labels")
    table = tmp_path / "cases.csv"
    table.write_text(f"case,T1\nfirst,{images / 'a.nrrd'}\nsecond,nowhere.nrrd\n", encoding="utf-8")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: str(table))
    press(section.ui.batchTableButton)
    host.wait_until(lambda: names(section) == ["first", "second"])
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    assert statuses(section)[0].startswith("done in ")
    assert "nowhere.nrrd" in statuses(section)[1]
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    press(section.ui.batchReportButton)
    assert [url.toLocalFile() for url in opened] == [str(tmp_path / "labels")]


# --- volumes of the scene


def test_volumes_are_ticked_and_those_that_are_done_lose_their_tick(host, open_batch, tmp_path):
    good, bad = addVolume(someVoxels(), name="good"), addVolume(CONSTANT, name="bad")
    widget, section = open_batch(kind="scene", output=tmp_path / "report")
    assert names(section) == ["good", "bad"]
    assert not section.ui.batchSourceEdit.visible
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    assert statuses(section)[0].startswith("done in ")
    assert "nothing to segment" in statuses(section)[1]
    (node,) = segmentations()
    np.testing.assert_array_equal(labelsOf(node, good), expectedLabels(someVoxels()))
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["done"] == 1

    double_click(section, 0)
    host.process_events()
    assert widget.panel.review._session.node is node

    other = addVolume(someVoxels(), name="other")
    host.wait_until(lambda: names(section) == ["good", "bad", "other"])
    assert section.table.ticked() == [1, 2]
    slicer.mrmlScene.RemoveNode(bad)
    host.wait_until(lambda: names(section) == ["good", "other"])
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    assert all(text.startswith("done in ") for text in statuses(section))
    assert len(segmentations()) == 2
    np.testing.assert_array_equal(labelsOf(segmentations()[1], other), expectedLabels(someVoxels()))
    assert section.ui.batchWhyNotLabel.text == "Tick the volumes that shall be segmented."


def test_volumes_of_several_channels_belong_together_by_their_names(panel_module):
    from MambaSegmentLib.manifest import Channel

    volumes = [
        addVolume(CONSTANT, name=name) for name in ("case7_T1", "case8_T2w", "case7_T2", "case8_T1w", "T1 alone", "ct")
    ]
    channels = (Channel("T1", "MR"), Channel("T2", "MR"))
    modalities = ["", "", "MR", "", "", "CT"]
    cases = panel_module("batch_volumes").casesOfScene(channels, volumes, modalities)
    assert [(case.name, [node.GetName() for node in case.nodes]) for case in cases] == [
        ("case7", ["case7_T1", "case7_T2"]),
        ("case8", ["case8_T1w", "case8_T2w"]),
        ("alone", ["T1 alone"]),
    ]
    assert [case.problem for case in cases] == ["", "", "no volume for T2"]
    assert panel_module("batch_volumes").casesOfScene(channels[:1], volumes[-1:], ["CT"]) == []


# --- what happens meanwhile


def test_a_killed_worker_costs_one_case(host, open_batch, images, tmp_path, tiny_segmenter):
    _, section = open_batch(images, tmp_path / "labels", model="short")
    press(section.ui.batchButton)
    wait_for_case(host, section, 0)
    pid = tiny_segmenter.worker.client._run._pid
    os.kill(pid, signal.SIGKILL)
    wait_for_batch(host, section)
    assert statuses(section)[0].startswith("failed: the worker ended unexpectedly")
    section.ui.batchTable.setCurrentCell(0, 0)
    assert "Too little memory is the usual reason" in section.ui.batchDetailLabel.text
    assert statuses(section)[2].startswith("done in ")
    assert isGone(pid)
    assert not list((tmp_path / "labels").glob(".*"))


def test_the_output_folder_goes_meanwhile(host, open_batch, images, tmp_path):
    _, section = open_batch(images, tmp_path / "labels", model="short")
    press(section.ui.batchButton)
    wait_for_case(host, section, 0)
    shutil.rmtree(tmp_path / "labels")
    wait_for_batch(host, section)
    assert "batch.jsonl was removed while the batch ran" in section.ui.batchErrorLabel.text
    assert statuses(section)[2] == "waiting"  # the rest is not computed for nothing
    press(section.ui.batchButton)  # as the message says
    wait_for_batch(host, section)
    assert section.ui.batchStatusLabel.text == "Cases: 2 done, 1 failed."
    assert not section.ui.batchErrorLabel.visible


def test_a_closed_scene_stops_volumes_but_not_files(host, open_batch, images, tmp_path):
    for name in ("one", "two"):
        addVolume(someVoxels(), name=name)
    _, section = open_batch(model="short", kind="scene")
    press(section.ui.batchButton)
    wait_for_case(host, section, 0)
    host.close_scene()
    wait_for_batch(host, section)
    assert section.ui.batchStatusLabel.text.startswith("Cancelled, since the scene was closed.")
    assert segmentations() == []
    host.exit("MambaSegment")

    _, section = open_batch(images, tmp_path / "labels", model="short")
    press(section.ui.batchButton)
    wait_for_case(host, section, 0)
    host.close_scene()
    wait_for_batch(host, section)
    assert section.ui.batchStatusLabel.text == "Cases: 2 done, 1 failed."


def test_a_volume_that_is_deleted_meanwhile_fails_alone(host, open_batch):
    one, two = addVolume(someVoxels(), name="one"), addVolume(someVoxels(), name="two")
    _, section = open_batch(model="short", kind="scene")
    press(section.ui.batchButton)
    wait_for_case(host, section, 0)
    slicer.mrmlScene.RemoveNode(one)
    wait_for_batch(host, section)
    assert statuses(section)[0] == "failed: cancelled, since the volume 'one' was removed"
    assert statuses(section)[1].startswith("done in ")
    np.testing.assert_array_equal(labelsOf(segmentations()[0], two), expectedLabels(someVoxels()))


def test_a_model_that_cannot_be_loaded_ends_the_batch_at_once(host, open_batch, images, tmp_path):
    widget, section = open_batch(images, tmp_path / "labels")
    widget.logic.getParameterNode().device = "cuda:99"
    press(section.ui.batchButton)
    wait_for_batch(host, section)
    assert "cuda:99" in section.ui.batchErrorLabel.text
    assert statuses(section) == ["waiting"] * 3
    assert section.ui.batchStatusLabel.text == "Cases: 0 done, 3 not begun."


def test_choices_are_saved_with_the_scene(host, open_batch, images, tmp_path):
    widget, section = open_batch(images, tmp_path / "labels", kind="files")
    section.ui.batchEndingSelector.currentIndex = section.ui.batchEndingSelector.findText(".mha")
    node = widget.logic.getParameterNode()
    assert (node.batchSource, node.batchOutput, node.batchEnding) == (str(images), str(tmp_path / "labels"), ".mha")
    section.ui.batchKindSelector.currentIndex = 1
    assert node.batchKind == "scene"
