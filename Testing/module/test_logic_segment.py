"""From node to node with a real worker; its networks are tiny ones, whose answers are known by hand."""

import json
import signal
import time

import numpy as np
import psutil
import pytest
import slicer

from MambaSegmentLib.errors import (
    BundleError,
    Cancelled,
    ConfigError,
    GeometryError,
    ImageError,
    ResourceError,
)
from MambaSegmentLib.worker.blocking import InternalError
from MambaSegmentLib.worker.protocol import Options
from Testing.module.panel_cases import VALUES, expectedLabels, someVoxels
from Testing.module.scene_cases import (
    GRIDS,
    addBentTransform,
    addTransform,
    addVolume,
    aRotation,
    gridMatrix,
    labelsOf,
    tag,
)


@pytest.fixture(scope="module")
def models(model_folder):
    return {path.stem: path for path in model_folder.iterdir()}


@pytest.fixture
def segmenter(host, tiny_segmenter):
    yield tiny_segmenter
    tiny_segmenter.cancel()
    host.wait_until(lambda: not tiny_segmenter._jobs)
    assert not list(tiny_segmenter.worker.client.folder.glob("*job*"))


class Told:
    """What the callbacks of a job were given."""

    def __init__(self, panel_module):
        self.progress, self.done, self.failed = [], [], []
        self.callbacks = panel_module("job").Callbacks(self.progress.append, self.done.append, self.failed.append)

    @property
    def stages(self):
        return list(dict.fromkeys(progress.stage for progress in self.progress))


@pytest.fixture
def told(panel_module):
    return Told(panel_module)


@pytest.fixture
def in_network(host, segmenter, models, told):
    """`in_network(node)`: a job whose network computes for four seconds ("short": for one), and has begun to."""

    def begin(node, model="slow", **arguments):
        job = segmenter.begin(node, models[model], Options("cpu"), callbacks=told.callbacks, **arguments)
        host.wait_until(lambda: "network" in told.stages, timeout_s=60)
        return job

    return begin


def workerPid(segmenter):
    return segmenter.worker.client._run._pid


def isGone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- results


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_and_transform_gives_the_labels_of_its_voxels(segmenter, models, grid):
    volume = addVolume(someVoxels(), gridMatrix(grid))
    transform = {"oblique": lambda: addTransform(aRotation()), "all of it": addBentTransform}.get(grid)
    if transform:
        volume.SetAndObserveTransformNodeID(transform().GetID())
    node = segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()))
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_pixel_type_gives_the_same(segmenter, models, kind):
    volume = addVolume(someVoxels(kind), gridMatrix("anisotropic"))
    node = segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()))


def test_channels_come_as_a_list_or_by_name_and_through_their_transforms(segmenter, models):
    """The second channel is moved by a transform to where the first one lies: the sum of both decides."""
    first, second = someVoxels(), someVoxels()[::-1].copy()
    expected = expectedLabels(first + second)
    t1, t2 = addVolume(first, gridMatrix("oblique"), "T1"), addVolume(second, np.eye(4), "T2")
    t2.SetAndObserveTransformNodeID(addTransform(gridMatrix("oblique")).GetID())
    for nodes in ([t1, t2], {"T2": t2, "T1": t1}):
        node = segmenter.wait(segmenter.begin(nodes, models["two"], Options("cpu")))
        np.testing.assert_array_equal(labelsOf(node, t1), expected)


def test_progress_runs_from_export_to_import_and_the_result_says_where_it_came_from(segmenter, models, told, host):
    volume = addVolume(someVoxels())
    options = Options("cpu", statistics=True)
    job = segmenter.begin(volume, models["tiny"], options, callbacks=told.callbacks)
    assert not told.progress  # nobody is called back before begin() returns
    node = segmenter.wait(job)
    assert told.stages[0] == "export"
    assert told.stages[-1] == "import"
    assert {"read", "preprocess", "network", "restore", "write"} <= set(told.stages)
    assert all(0 <= progress.done <= progress.total for progress in told.progress)
    assert (told.done, told.failed, job.isOver) == ([node], [], True)
    assert [entry["voxels"] for entry in job.outcome.segments] == [
        (expectedLabels(someVoxels()) == v).sum() for v in (1, 5)
    ]
    assert {"export", "network", "import", "total"} <= set(job.outcome.timings)
    segment = node.GetSegmentation().GetSegment(job.outcome.segmentIds[0])
    assert (segment.GetName(), tag(segment, "MambaSegment.Model")) == ("Anterior", "tiny")
    assert len(tag(segment, "MambaSegment.ModelSha256")) == 64
    assert '"device":"cpu"' in tag(segment, "MambaSegment.Options")
    assert node.GetName() == "T1 tiny"


def test_two_jobs_wait_for_each_other(segmenter, models, told, host):
    volume = addVolume(someVoxels())
    jobs = [segmenter.begin(volume, models["tiny"], Options("cpu"), callbacks=told.callbacks) for _ in range(2)]
    segmenter.wait(jobs[1])
    assert jobs[0].isOver
    assert told.done == [job.result() for job in jobs]


def test_segments_are_added_to_a_given_node_and_nothing_in_it_is_lost(segmenter, models):
    volume = addVolume(someVoxels())
    node = segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    again = segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu"), output=node))
    assert again is node
    assert node.GetSegmentation().GetNumberOfSegments() == 4
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()))


# --- what is refused


def test_what_cannot_work_is_refused_before_anything_begins(segmenter, models, tmp_path):
    volume = addVolume(someVoxels())
    with pytest.raises(BundleError, match="no-such"):
        segmenter.begin(volume, "no-such-model")
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x02")
    with pytest.raises(BundleError):
        segmenter.begin(volume, tmp_path / "bad.safetensors")
    with pytest.raises(ConfigError, match=r"takes 2 image\(s\) \(T1, T2"):
        segmenter.begin(volume, models["two"])
    with pytest.raises(ConfigError, match="None is no node of the scene"):
        segmenter.begin(None, models["tiny"])
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(ConfigError, match="'T1' is no node of the scene"):
        segmenter.begin(volume, models["tiny"])
    with pytest.raises(ImageError, match="no voxels"):
        segmenter.begin(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"), models["tiny"])
    assert not segmenter._jobs


def test_failures_of_the_worker_are_raised_as_what_they_are_and_it_goes_on(segmenter, models):
    volume, constant = addVolume(someVoxels()), addVolume(np.ones((4, 4, 4), np.int16), name="constant")
    for node, model, device, kind, words in (
        (constant, "tiny", "cpu", ImageError, "nothing to segment"),
        (volume, "tiny", "cuda:99", ResourceError, "cuda:99"),
        (volume, "broken", "cpu", InternalError, "a bug"),
    ):
        with pytest.raises(kind, match=words):
            segmenter.wait(segmenter.begin(node, models[model], Options(device)))
    pid = workerPid(segmenter)
    segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    assert workerPid(segmenter) == pid
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_odd_voxels_are_refused_by_the_volumes_name_or_taken_with_a_warning(segmenter, models, told):
    voxels = someVoxels("float32")
    voxels[0, 0, :3] = np.nan
    volume = addVolume(voxels, name="T1 ä")
    with pytest.raises(ImageError, match=r"the volume 'T1 ä' holds NaN or infinity in 3 of 336 voxels"):
        segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    options = Options("cpu", allow_nonfinite=True)
    job = segmenter.begin(volume, models["tiny"], options)
    np.testing.assert_array_equal(labelsOf(segmenter.wait(job), volume), expectedLabels(np.nan_to_num(voxels)))
    assert "3 of 336 voxels" in job.outcome.warnings[0]
    assert "channel-0" not in job.outcome.warnings[0]


def test_channels_on_other_grids_are_brought_to_the_first_with_a_warning_or_refused(segmenter, models):
    first = addVolume(someVoxels(), name="first")
    second = addVolume(someVoxels()[:, :, ::2].copy(), np.diag([2.0, 1, 1, 1]), "second")
    job = segmenter.begin([first, second], models["two"], Options("cpu"))
    assert labelsOf(segmenter.wait(job), first).shape == (6, 7, 8)
    assert "the volume 'second'" in job.outcome.warnings[0]
    assert "was resampled" in job.outcome.warnings[0]
    with pytest.raises(GeometryError, match="the volume 'second'"):
        segmenter.wait(segmenter.begin([first, second], models["two"], Options("cpu", strict=True)))


def test_of_many_volumes_a_bad_one_and_a_bug_stop_nothing(segmenter, models, panel_module):
    good, bad = addVolume(someVoxels(), name="good"), addVolume(np.ones((4, 4, 4), np.int16), name="bad")
    arguments = {"options": Options("cpu", statistics=True), "reportFolder": None, "onProgress": None}
    segmentNodes = panel_module("batches").segmentNodes
    found = segmentNodes(segmenter, [bad, None, [good, good], [], good], models["tiny"], **arguments)
    told = [(outcome.case, outcome.status, outcome.kind) for outcome in found.report.outcomes]
    assert told == [
        ("bad", "failed", "ImageError"),
        ("None", "failed", "ConfigError"),
        ("good", "failed", "ConfigError"),
        ("no volume", "failed", "ConfigError"),
        ("good", "done", ""),
    ]
    assert [node is None for node in found.nodes] == [True, True, True, True, False]
    found = segmentNodes(segmenter, [good, good], models["broken"], **arguments)
    assert [outcome.status for outcome in found.report.outcomes] == ["failed", "failed"]
    assert "a bug" in found.report.outcomes[0].message


@pytest.mark.parametrize("shape", [(1, 7, 8), (6, 1, 8), (6, 7, 1), (1, 1, 4)])
def test_volumes_one_voxel_thick_work(segmenter, models, shape):
    voxels = np.resize(VALUES, shape).astype(np.int16)
    volume = addVolume(voxels, gridMatrix("oblique"))
    node = segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(voxels))


# --- stopping


def test_cancel_in_the_network_and_while_waiting_keeps_the_worker(host, segmenter, models, in_network, told):
    volume = addVolume(someVoxels())
    job = in_network(volume)
    behind = segmenter.begin(volume, models["slow"], Options("cpu"), callbacks=told.callbacks)
    pid, began = workerPid(segmenter), time.monotonic()
    behind.cancel()
    job.cancel()
    job.cancel()
    host.wait_until(lambda: job.isOver and behind.isOver)
    assert time.monotonic() - began < 1
    assert [type(error) for error in told.failed] == [Cancelled, Cancelled]
    assert not told.done
    segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    assert workerPid(segmenter) == pid


def test_cancel_before_the_volume_has_gone_out(host, segmenter, models, told):
    job = segmenter.begin(addVolume(someVoxels()), models["tiny"], callbacks=told.callbacks)
    job.cancel()
    with pytest.raises(Cancelled):
        segmenter.wait(job)
    assert not told.progress
    assert len(told.failed) == 1


def test_cancel_when_the_labels_have_come_and_when_they_are_in(segmenter, models, panel_module):
    """The last moment to stop is before the scene is touched; afterwards the result stays."""
    for last, kind in ((0, Cancelled), (1, None)):
        jobs = []

        def stop(progress, last=last, jobs=jobs):
            if (progress.stage, progress.done) == ("import", last):
                jobs[0].cancel()

        callbacks = panel_module("job").Callbacks(onProgress=stop)
        job = segmenter.begin(addVolume(someVoxels()), models["tiny"], Options("cpu"), callbacks=callbacks)
        jobs.append(job)
        if kind is None:
            segmenter.wait(job)
        else:
            with pytest.raises(kind):
                segmenter.wait(job)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_a_layer_that_does_not_end_costs_the_process_and_the_job_behind_gets_a_new_one(
    host, segmenter, models, in_network
):
    volume = addVolume(someVoxels())
    job = in_network(volume, "stuck")
    behind = segmenter.begin(volume, models["tiny"], Options("cpu"))
    time.sleep(1.0)  # the stage begins a moment before the layer, and between them a cancel is noticed
    pid, began = workerPid(segmenter), time.monotonic()
    job.cancel()
    host.wait_until(lambda: job.isOver)
    assert time.monotonic() - began < 1
    assert isGone(pid)
    segmenter.wait(behind)
    assert workerPid(segmenter) != pid


def test_ctrl_c_stops_a_call_that_waits(segmenter, models, in_network, host):
    import qt

    volume = addVolume(someVoxels())
    before = signal.getsignal(signal.SIGINT)
    job = in_network(volume)
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.connect("timeout()", lambda: signal.raise_signal(signal.SIGINT))
    timer.start(100)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        segmenter.wait(job)
    assert time.monotonic() - began < 1.1
    assert isinstance(job.outcome.error, Cancelled)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_stops_a_folder_whose_report_is_written_all_the_same(segmenter, models, host, panel_module, tmp_path):
    import qt

    from MambaSegmentLib.image_io import write_volume
    from MambaSegmentLib.volume import Volume

    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for name in "ab":
        write_volume(Volume(someVoxels()), images / f"{name}.nrrd")
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.connect("timeout()", lambda: signal.raise_signal(signal.SIGINT))

    def interruptTheSecond(progress):
        if progress.done == 1:
            timer.start(300)

    arguments = {"ending": ".nrrd", "options": Options("cpu", statistics=True), "onFailure": None}
    with pytest.raises(KeyboardInterrupt):
        panel_module("batches").segmentFolder(
            segmenter, images, models["short"], labels, onProgress=interruptTheSecond, **arguments
        )
    report = json.loads((labels / "report.json").read_text(encoding="utf-8"))
    assert (report["done"], report["open"]) == (1, 1)
    assert sorted(path.name for path in labels.iterdir()) == [
        "a.nrrd",
        "batch.jsonl",
        "report.csv",
        "report.json",
        "segments.csv",
    ]


def test_cancel_from_a_button_stops_a_call_that_waits(segmenter, in_network):
    import qt

    job = in_network(addVolume(someVoxels()))
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.connect("timeout()", segmenter.cancel)
    timer.start(50)
    with pytest.raises(Cancelled, match="on request"):
        segmenter.wait(job)


# --- what happens to nodes meanwhile


def test_a_volume_that_is_removed_ends_its_job_and_says_so(host, segmenter, in_network, told):
    volume, other = addVolume(someVoxels()), addVolume(someVoxels(), name="other")
    job = in_network(volume)
    slicer.mrmlScene.RemoveNode(other)
    host.process_events(0.1)
    assert not job.isOver
    slicer.mrmlScene.RemoveNode(volume)
    host.wait_until(lambda: job.isOver, timeout_s=2)
    assert "the volume 'T1' was removed" in str(told.failed[0])
    assert isinstance(told.failed[0], Cancelled)


def test_a_closed_scene_ends_its_job_and_nothing_appears_in_the_new_one(host, segmenter, in_network, told):
    job = in_network(addVolume(someVoxels()))
    host.close_scene()
    host.wait_until(lambda: job.isOver, timeout_s=2)
    assert "the scene was closed" in str(told.failed[0])
    host.process_events(0.2)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_volume_that_is_moved_in_its_header_gets_no_segments(host, segmenter, in_network, told):
    volume = addVolume(someVoxels())
    job = in_network(volume, "short")
    volume.SetOrigin(1, 2, 3)
    host.wait_until(lambda: job.isOver)
    assert isinstance(told.failed[0], GeometryError)
    assert "place of the volume 'T1' was changed" in str(told.failed[0])
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_new_transform_and_new_voxels_meanwhile(host, segmenter, in_network, told):
    volume = addVolume(someVoxels(), gridMatrix("oblique"))
    job = in_network(volume, "short")
    volume.SetAndObserveTransformNodeID(addTransform(aRotation()).GetID())
    slicer.util.arrayFromVolume(volume)[...] = 0
    slicer.util.arrayFromVolumeModified(volume)
    host.wait_until(lambda: job.isOver)
    assert job.outcome.inputChanged
    np.testing.assert_array_equal(labelsOf(told.done[0], volume), expectedLabels(someVoxels()))


def test_an_output_that_is_removed_meanwhile_is_replaced(host, segmenter, models, in_network, told):
    volume = addVolume(someVoxels())
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    job = in_network(volume, "short", output=output)
    slicer.mrmlScene.RemoveNode(output)
    host.wait_until(lambda: job.isOver)
    assert told.done[0] is not output
    np.testing.assert_array_equal(labelsOf(told.done[0], volume), expectedLabels(someVoxels()))


# --- what happens to the worker


def test_a_killed_worker_fails_its_job_and_the_next_one_gets_another(host, segmenter, models, in_network, told):
    volume = addVolume(someVoxels())
    job = in_network(volume)
    behind = segmenter.begin(volume, models["tiny"], Options("cpu"))
    pid = workerPid(segmenter)
    psutil.Process(pid).kill()
    host.wait_until(lambda: job.isOver)
    assert isinstance(told.failed[0], ResourceError)
    assert "ended unexpectedly" in str(told.failed[0])
    node = segmenter.wait(behind)
    np.testing.assert_array_equal(labelsOf(node, volume), expectedLabels(someVoxels()))
    assert workerPid(segmenter) != pid


def test_close_in_the_middle_of_work_leaves_no_process_and_no_file_and_a_new_job_starts_anew(
    segmenter, models, in_network, told
):
    volume = addVolume(someVoxels())
    job = in_network(volume)
    pid, folder, began = workerPid(segmenter), segmenter.worker.client.folder, time.monotonic()
    assert folder.is_dir()
    segmenter.close()
    assert time.monotonic() - began < 3
    assert job.isOver
    assert isinstance(told.failed[0], Cancelled)
    assert isGone(pid)
    assert not folder.exists()
    segmenter.close()  # again is no mistake
    segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))


def test_close_after_the_worker_had_been_killed_deletes_its_folder_too(host, segmenter, models):
    volume = addVolume(someVoxels())
    segmenter.wait(segmenter.begin(volume, models["tiny"], Options("cpu")))
    folder, pid = segmenter.worker.client.folder, workerPid(segmenter)
    psutil.Process(pid).kill()
    host.wait_until(lambda: segmenter.worker.client._run is None)
    segmenter.close()
    assert not folder.exists()


def test_a_callback_that_fails_does_no_harm(host, segmenter, models, panel_module, caplog):
    callbacks = panel_module("job").Callbacks(onProgress=lambda _: 1 / 0, onDone=lambda _: [][1])
    segmenter.wait(segmenter.begin(addVolume(someVoxels()), models["tiny"], Options("cpu"), callbacks=callbacks))
    assert "ZeroDivisionError" in caplog.text
    assert "IndexError" in caplog.text
