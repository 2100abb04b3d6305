"""What can go wrong around a run, each provoked for real, and the words in which the panel says it.

A cancelled run, bad images, a killed worker, a closed scene, removed nodes, the end of the module: test_panel_run.py.
The same for many cases: test_batch_section.py. After each of these no process and no file may be left.
"""

import shutil
import subprocess
import sys
import tempfile

import numpy as np
import psutil
import pytest
import slicer

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume
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

SIZE = 64  # voxels along each edge of a volume that a tiny disk cannot take: 512 kB
LABELS_KB = SIZE**3 // 1024


@pytest.fixture
def tiny_disk(tmp_path):
    """`tiny_disk(256)` is a folder on a disk of so many kB."""
    mounted = []

    def mount(size_kb):
        folder = tmp_path / "tiny disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("a disk of limited size needs Linux and the right to mount one")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def segmenter_in(host, panel_module, monkeypatch):
    """`segmenter_in(folder)`: a worker of its own, whose files lie there."""
    made = []

    def make(folder):
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        segmenter = panel_module("segmenter").Segmenter(panel_module("worker_owner").WorkerOwner(command=TINY_WORKER))
        made.append(segmenter)
        return segmenter

    yield make
    for segmenter in made:
        segmenter.close()


def workers():
    """All workers below this process, except the one that serves every test of the file."""
    found = psutil.Process().children(recursive=True)
    return [one.pid for one in found if "tiny_worker" in " ".join(one.cmdline())]


def a_large_volume(name="T1"):
    return addVolume(np.resize(someVoxels(), (SIZE, SIZE, SIZE)), name=name)


def problem(widget):
    assert widget.ui.errorLabel.visible
    assert "Traceback" not in widget.ui.errorLabel.text
    return widget.ui.errorLabel.text


# --- the worker


def test_a_crash_is_an_error_with_advice_and_another_worker_comes(host, open_module, tiny_segmenter):
    addVolume(someVoxels())
    widget = open_module("crash")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert "The worker ended unexpectedly" in problem(widget)
    assert "Too little memory is the usual reason: crop the image or close other programs." in problem(widget)
    assert is_idle(widget)
    assert not list(tiny_segmenter.worker.client.folder.glob("*job*"))
    widget.logic.getParameterNode().model = "tiny"
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert len(segmentations()) == 1
    assert len(workers()) == 1


def test_too_little_memory_is_said_and_the_worker_goes_on(host, open_module, tiny_segmenter):
    addVolume(someVoxels())
    widget = open_module("greedy")
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert "Not enough memory" in problem(widget)
    assert "crop the image" in problem(widget)
    pid = tiny_segmenter.worker.client._run._pid
    widget.logic.getParameterNode().model = "tiny"
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert len(segmentations()) == 1
    assert tiny_segmenter.worker.client._run._pid == pid


# --- the disk


def test_no_room_to_hand_the_volume_over(host, open_module, tiny_disk, segmenter_in):
    a_large_volume()
    folder = tiny_disk(256)
    widget = open_module("tiny", segmenter_in(folder))
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert "the disk is full on which" in problem(widget)
    assert "free some space there and try again." in problem(widget)
    assert not list(folder.rglob("*job*"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)  # the user makes room
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert not widget.ui.errorLabel.visible
    assert len(segmentations()) == 1


def test_no_room_for_the_labels(host, open_module, tiny_disk, segmenter_in):
    a_large_volume()
    folder = tiny_disk(2 * LABELS_KB + LABELS_KB // 2)
    segmenter = segmenter_in(folder)
    widget = open_module("tiny", segmenter)
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert "the disk is full; free some space and try again" in problem(widget)
    assert segmentations() == []
    assert not list(folder.rglob("*job*"))
    pid = segmenter.worker.client._run._pid
    segmenter.close()
    assert isGone(pid)
    assert list(folder.iterdir()) == []


def test_the_folder_for_temporary_files_goes_meanwhile(host, open_module, tmp_path, segmenter_in):
    addVolume(someVoxels())
    segmenter = segmenter_in(tmp_path)
    widget = open_module("short", segmenter)
    start_run(host, widget)
    shutil.rmtree(segmenter.worker.client.folder)
    wait_for_end(host, widget)
    assert "cannot write" in problem(widget).lower() or "does not exist" in problem(widget)
    press(widget.ui.segmentButton)
    wait_for_end(host, widget)
    assert len(segmentations()) == 1


def test_no_room_for_the_labels_of_a_batch(host, open_module, tiny_disk, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in "abcd":
        write_volume(Volume(someVoxels()), images / f"{name}.nrrd")
    folder = tiny_disk(16)
    widget = open_module("tiny")
    section = widget.panel.batch
    section.ui.batchCollapsibleButton.collapsed = False
    section.ui.batchSourceEdit.setText(str(images))
    section.ui.batchOutputEdit.setText(str(folder))
    host.wait_until(lambda: section.ui.batchButton.enabled)
    press(section.ui.batchButton)
    host.wait_until(lambda: not section.isRunning, timeout_s=60)
    assert "No space left" in section.ui.batchErrorLabel.text or "the disk is full" in section.ui.batchErrorLabel.text
    assert "Traceback" not in section.ui.batchErrorLabel.text
    assert not list(folder.glob(".*"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)  # the user makes room
    press(section.ui.batchButton)
    host.wait_until(lambda: not section.isRunning, timeout_s=60)
    assert not section.ui.batchErrorLabel.visible
    assert section.ui.batchStatusLabel.text.startswith("Cases: 4 done")


# --- the scene


def test_the_voxels_are_changed_meanwhile(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module("short")
    start_run(host, widget)
    slicer.util.arrayFromVolume(volume)[...] = 0
    slicer.util.arrayFromVolumeModified(volume)
    wait_for_end(host, widget)
    assert "The volume was changed meanwhile: the segments show what it was before." in widget.ui.warningsLabel.text
    np.testing.assert_array_equal(labelsOf(segmentations()[0], volume), expectedLabels(someVoxels()))


def test_the_volume_is_moved_meanwhile(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module("short")
    start_run(host, widget)
    volume.SetOrigin(1, 2, 3)
    wait_for_end(host, widget)
    assert "place of the volume 'T1' was changed while it was segmented" in problem(widget)
    assert "segment it again" in problem(widget)
    assert segmentations() == []


def test_a_run_of_the_console_waits_for_the_one_of_the_panel(host, open_module):
    volume = addVolume(someVoxels())
    widget = open_module("short")
    start_run(host, widget)
    done = []
    job = widget.logic.segmentAsync(volume, "tiny", device="cpu", onDone=done.append)
    wait_for_end(host, widget)
    host.wait_until(lambda: job.isOver)
    assert [node.GetName() for node in segmentations()] == ["T1 short", "T1 tiny"]
    assert done == [segmentations()[1]]


# --- the module and the application, while a batch runs


@pytest.mark.parametrize("end", ["reload", "end of the application"])
def test_the_module_goes_while_a_batch_runs_which_goes_on_afterwards(host, open_module, segmenter_in, tmp_path, end):
    images, temporary = tmp_path / "images", tmp_path / "temporary"
    for folder in (images, temporary):
        folder.mkdir()
    for name in "ab":
        write_volume(Volume(someVoxels()), images / f"{name}.nrrd")
    segmenter = segmenter_in(temporary)
    widget = open_module("short", segmenter)
    over = []
    callbacks = sys.modules["MambaSegmentPanel.batch_job"].BatchCallbacks(onOver=over.append)
    batch = widget.logic.segmentFolderAsync(images, tmp_path / "labels", "short", device="cpu", callbacks=callbacks)
    host.wait_until(lambda: batch.report.outcomes, timeout_s=60)
    pid = segmenter.worker.client._run._pid
    if end == "reload":
        host.reload("MambaSegment")
    else:
        host.app.aboutToQuit.emit()
        host.unload("MambaSegment")
    assert isGone(pid)
    assert list(temporary.iterdir()) == []
    assert [type(one.error).__name__ for one in over] == ["Cancelled"]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [
        *("a.seg.nrrd", "batch.jsonl", "report.csv", "report.json", "segments.csv")
    ]
    if end == "reload":  # the same start again, in the new panel
        logic = slicer.util.getModuleLogic("MambaSegment")
        logic.segmenter.worker._command = TINY_WORKER
        report = logic.segmentFolder(images, tmp_path / "labels", "short", device="cpu").to_json()
        assert (report["done"], report["resumed"]) == (2, 1)
