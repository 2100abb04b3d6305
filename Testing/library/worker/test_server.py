"""The worker as a process: what goes in, what comes out, and how it ends."""

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MambaSegmentLib.bundle import read_bundle, write_bundle
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.volume import Volume
from MambaSegmentLib.worker.folder import make_private_folder, use_private_folder
from MambaSegmentLib.worker.protocol import LARGEST_LINE_BYTES
from Testing.library.worker.conftest import TINY_WORKER, RawWorker, is_gone, partial_files, wait_until


def segment(worker, job, image, model, output, **options):
    worker.send(
        "segment", job=job, inputs=[image], model=model, output=str(output), options={"device": "cpu", **options}
    )


def test_hello_comes_before_torch_is_touched(a_worker):
    """About 0.1 s against 2 s on an idle computer; on a busy one both take longer."""
    assert a_worker.heard_s["hello"] < a_worker.heard_s["ready"] / 3


def test_nothing_heavy_is_imported_before_hello(fresh_python):
    script = (
        "import sys\nimport MambaSegmentLib.cli, MambaSegmentLib.worker.folder, MambaSegmentLib.worker.server\n"
        "heavy = {'torch', 'numpy', 'SimpleITK', 'psutil', 'platformdirs'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    fresh_python(script)


def test_commands_are_heard_while_torch_is_loaded(a_model_file, an_image, tmp_path):
    """The end of input comes while torch is being loaded, too: the waiting job is answered and nothing is left."""
    worker = RawWorker([sys.executable, "-P", "-m", "MambaSegmentLib", "worker"])
    hello = worker.next(timeout_s=20)
    assert (hello["type"], hello["protocol"]) == ("hello", 1)
    # In a virtual environment on Windows python.exe is a launcher, as Slicer's is everywhere.
    assert hello["pid"] == worker.process.pid or sys.platform == "win32"
    segment(worker, "1", an_image, a_model_file(), tmp_path / "o.nrrd")
    worker.send("cancel", job="1")
    answer = worker.next("failed", timeout_s=20)
    assert (answer["job"], answer["kind"]) == ("1", "Cancelled")
    worker.process.stdin.close()
    assert worker.process.wait(timeout=20) == 0
    assert not worker.folder.exists()
    assert not (tmp_path / "o.nrrd").exists()


def test_a_job_from_first_progress_to_result(a_worker, a_model_file, an_image, tmp_path):
    output = tmp_path / "o.seg.nrrd"
    beside = {name: str(tmp_path / f"{name}.{end}") for name, end in (("uncertainty", "nrrd"), ("sidecar", "json"))}
    segment(a_worker, "first", an_image, a_model_file(), output, statistics=True, **beside)
    stages, message = [], a_worker.next()
    while message["type"] == "progress":
        assert message["job"] == "first"
        assert message["done"] <= message["total"]
        stages += [message["stage"]] if message["stage"] not in stages else []
        message = a_worker.next()
    assert stages == ["read", "load_model", "preprocess", "network", "restore", "write"]
    assert message["type"] == "result"
    assert message["files"] == [str(output), beside["uncertainty"], beside["sidecar"]]
    assert [Path(file).is_file() for file in message["files"]] == [True, True, True]
    assert [(s["pieces"], 0 < s["mean_uncertainty"] < 1) for s in message["segments"]] == [(1, True), (1, True)]
    found = [(s["value"], s["name"], s["voxels"], s["volume_ml"]) for s in message["segments"]]
    assert found == [(1, "Anterior", 2, 2.0), (5, "Posterior", 1, 1.0)]
    assert list(message["timings"]) == ["load_model", "read", "preprocess", "network", "restore", "measure", "write"]
    assert np.unique(read_volume(output).array, return_counts=True)[1].tolist() == [125, 2, 1]


def test_the_model_is_warm_the_second_time_and_gone_after_unload(a_worker, a_model_file, an_image, tmp_path):
    model = a_model_file("warm")
    a_worker.send("load", job="load", model=model, options={"device": "cpu"})
    loaded = a_worker.answer("load")
    assert set(loaded["timings"]) == {"load_model", "warm_up"}
    assert [entry["name"] for entry in loaded["segments"]] == ["Anterior", "Posterior"]
    a_worker.send("load", job="again", model=model, options={"device": "cpu"})
    assert a_worker.answer("again")["timings"] == {}
    segment(a_worker, "case", an_image, model, tmp_path / "o.nrrd")
    assert "load_model" not in a_worker.answer("case")["timings"]
    a_worker.send("unload", job="unload", model=model)
    assert a_worker.answer("unload")["type"] == "result"
    segment(a_worker, "case", an_image, model, tmp_path / "o.nrrd")
    assert "load_model" in a_worker.answer("case")["timings"]


def test_models_stay_warm_as_far_as_the_memory_goes(a_worker, a_model_file, an_image, tmp_path):
    """Two models in turn: both stay in a worker with room for them, and none in one that keeps nothing."""
    models = [a_model_file("one"), a_model_file("two")]

    def loads(worker):
        for turn in range(4):
            segment(worker, str(turn), an_image, models[turn % 2], tmp_path / "o.nrrd")
            yield "load_model" in worker.answer(str(turn))["timings"]

    assert list(loads(a_worker)) == [True, True, False, False]
    forgetful = RawWorker([*TINY_WORKER, "--keep-mb", "0"])
    try:
        forgetful.next("ready", timeout_s=120)
        assert list(loads(forgetful)) == [True] * 4
    finally:
        forgetful.end()


def test_malformed_and_oversized_lines_fail_and_the_worker_lives_on(a_worker, a_model_file, an_image, tmp_path):
    a_worker.write(b"hello?\n")
    assert (first := a_worker.next("failed"))["job"] is None
    assert first["kind"] == "ConfigError"
    assert "no JSON" in first["message"]
    a_worker.write(b"x" * (3 * LARGEST_LINE_BYTES) + b"\n")
    assert "more than 1048576 bytes" in a_worker.next("failed")["message"]
    a_worker.send("segment", job="7", inputs=[an_image], model="m")
    assert (third := a_worker.next("failed"))["job"] == "7"
    assert "lacks output" in third["message"]
    a_worker.write(b"\xff\xfe\n\n{}\n")
    assert a_worker.next("failed")["kind"] == a_worker.next("failed")["kind"] == "ConfigError"
    segment(a_worker, "7", an_image, a_model_file(), tmp_path / "o.nrrd")
    assert a_worker.answer("7")["type"] == "result"


def test_failed_jobs_name_their_kind_and_the_next_one_works(a_worker, a_model_file, an_image, tmp_path):
    model, output = a_model_file(), tmp_path / "o.nrrd"
    (tmp_path / "text.nii.gz").write_text("no image")
    (tmp_path / "broken.safetensors").write_bytes(b"\x80\x02")
    for inputs, chosen, target, kind, expected in (
        (["none.nii"], model, output, "ImageError", "does not exist"),
        ([str(tmp_path / "text.nii.gz")], model, output, "ImageError", "text.nii.gz"),
        ([an_image, an_image], model, output, "ConfigError", "2 given"),
        ({"T2": an_image}, model, output, "ConfigError", "given: T2"),
        ([an_image], str(tmp_path / "broken.safetensors"), output, "BundleError", "broken"),
        ([an_image], "no such model", output, "BundleError", "no such model"),
        ([an_image], model, tmp_path / "o.jpg", "ImageError", "ending"),
        ([an_image], model, tmp_path / "none" / "o.nrrd", "ImageError", "create it first"),
        ([an_image], model, an_image, "ImageError", "is an input image"),
    ):
        a_worker.send("segment", job="x", inputs=inputs, model=chosen, output=str(target), options={"device": "cpu"})
        answer = a_worker.answer("x")
        assert (answer["type"], answer["kind"]) == ("failed", kind)
        assert expected in answer["message"]
        assert answer["advice"]
    a_worker.send("load", job="x", model=model, options={"device": "cuda:99"})
    assert a_worker.answer("x")["kind"] == "ResourceError"
    segment(a_worker, "x", an_image, a_model_file("buggy", raises=True), output)
    bug = a_worker.answer("x")
    assert (bug["kind"], bug["message"]) == ("ZeroDivisionError", "a bug")
    assert "report" in bug["advice"]
    assert not output.exists()
    segment(a_worker, "x", an_image, model, output)
    assert a_worker.answer("x")["type"] == "result"


def test_cancel_between_layers_between_tiles_and_while_waiting(a_worker, a_model_file, an_image, tmp_path):
    """Thirty layers of 50 ms in each tile: 4.5 s for three tiles if nobody looks at the token.

    The last job has more tiles than are ever answered at once, so that some are done while others wait.
    """
    model, output = a_model_file("slow", sleep_s=0.05, layers=30), tmp_path / "o.nrrd"
    long_image = str(tmp_path / "long.nii.gz")
    write_volume(Volume(np.arange(4 * 4 * 40, dtype=np.float32).reshape(4, 4, 40)), long_image)
    segment(a_worker, "layers", an_image, model, output)
    segment(a_worker, "waits", an_image, model, output)
    segment(a_worker, "tiles", long_image, model, output)
    while a_worker.next("progress")["stage"] != "network":
        pass
    a_worker.send("cancel", job="waits")
    assert (answer := a_worker.next("failed"))["job"] == "waits"  # at once, while the first one works
    assert answer["kind"] == "Cancelled"
    started = time.monotonic()
    a_worker.send("cancel", job="layers")
    assert a_worker.answer("layers")["kind"] == "Cancelled"
    assert time.monotonic() - started < 3
    while (message := a_worker.next("progress"))["stage"] != "network" or message["done"] == 0:
        pass
    assert message["done"] < message["total"]
    assert 0 < message["seconds_left"] < 60
    a_worker.send("cancel", job="tiles")
    a_worker.send("cancel", job="never heard of")
    assert a_worker.answer("tiles")["kind"] == "Cancelled"
    assert not output.exists()
    assert not partial_files(tmp_path)


def test_a_name_in_use_is_refused_without_ending_the_job(a_worker, a_model_file, an_image, tmp_path):
    model = a_model_file("slow", sleep_s=0.05, layers=4)
    segment(a_worker, "same", an_image, model, tmp_path / "o.nrrd")
    segment(a_worker, "same", an_image, model, tmp_path / "o.nrrd")
    refused = a_worker.next("failed")
    assert refused["job"] is None
    assert "is not over yet" in refused["message"]
    assert a_worker.answer("same")["type"] == "result"


def test_a_click_does_not_wait_for_the_warming_up(a_worker, a_model_file, an_image, tmp_path):
    slow = a_model_file("slow", sleep_s=0.02, layers=1500)  # 30 s for one patch
    a_worker.send("load", job="load", model=slow, options={"device": "cpu"})
    while a_worker.next("progress")["stage"] != "network":
        pass
    started = time.monotonic()
    segment(a_worker, "click", an_image, a_model_file(), tmp_path / "o.nrrd")
    assert set(a_worker.answer("load")["timings"]) == {"load_model"}
    assert a_worker.answer("click")["type"] == "result"
    assert time.monotonic() - started < 20


def test_two_workers_do_not_disturb_each_other_and_input_ends_one(a_worker, a_model_file, an_image, tmp_path):
    """The second one ends in the middle of its work, at the end of its input; the first one goes on."""
    other = RawWorker()
    try:
        assert other.folder != a_worker.folder
        other.next("ready", timeout_s=120)
        slow = a_model_file("slow", sleep_s=0.05, layers=40)
        segment(other, "1", an_image, slow, tmp_path / "other.nrrd")
        segment(a_worker, "1", an_image, slow, tmp_path / "o.nrrd")
        while other.next("progress")["stage"] != "network":
            pass
        started = time.monotonic()
        other.process.stdin.close()
        assert other.process.wait(timeout=20) == 0
        assert time.monotonic() - started < 3  # what remained was 6 s of layers; one is enough to notice
        assert not other.folder.exists()
        assert a_worker.answer("1")["type"] == "result"
        assert a_worker.folder.exists()
        assert [path.name for path in tmp_path.glob("o*")] == ["o.nrrd"]
    finally:
        other.end()


@pytest.mark.parametrize("how", ["quit", "polite", "parent"])
def test_every_way_to_end_leaves_nothing(how):
    """No torch here: a worker must end while that is still being loaded, too."""
    if how == "parent":
        script = "import subprocess, sys, time\nsubprocess.Popen(sys.argv[1:])\ntime.sleep(60)"
        worker = RawWorker([sys.executable, "-c", script, *TINY_WORKER])
    else:
        worker = RawWorker()
    pid = worker.next("hello", timeout_s=20)["pid"]
    assert worker.folder.exists()
    try:
        if how == "quit":
            worker.send("quit")
            assert worker.process.wait(timeout=20) == 0
        elif how == "polite":
            worker.process.send_signal(signal.SIGTERM)
            if sys.platform != "win32":  # there is no polite way there
                assert worker.process.wait(timeout=20) == 130
        else:  # its input stays open, since it was handed through
            worker.process.kill()
        assert wait_until(lambda: is_gone(pid), 20)
        assert wait_until(lambda: not worker.folder.exists(), 1) or (how == "polite" and sys.platform == "win32")
    finally:
        worker.end()


def test_only_a_folder_of_ours_is_taken_since_it_is_deleted(tmp_path, monkeypatch):
    for folder in (tmp_path, tmp_path / "none", Path.home()):
        with pytest.raises(ConfigError, match="it is deleted at the end"):
            use_private_folder(folder)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = make_private_folder()
    assert folder.parent == tmp_path.resolve()
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o077 == 0


def test_region_labels_quality_and_limit_reach_the_engine(a_worker, a_model_file, an_image, tmp_path):
    model, output = a_model_file(), tmp_path / "o.nrrd"
    options = {"device": "cpu", "roi": "voxels:1:8,0:4,0:4", "labels": ["Anterior"], "quality": "balanced"}
    a_worker.send("segment", job="r", inputs=[an_image], model=model, output=str(output), options=options)
    assert [segment["name"] for segment in a_worker.answer("r")["segments"]] == ["Anterior"]
    assert np.argwhere(read_volume(output).array).tolist() == [[0, 0, 1]]  # voxel 0 lies outside, 2 has another label
    for change, kind in (({"labels": ["Antrior"]}, "ConfigError"), ({"memory_limit": "1MB"}, "ResourceError")):
        a_worker.send("segment", job="w", inputs=[an_image], model=model, output=str(output), options=options | change)
        assert a_worker.answer("w")["kind"] == kind


def test_several_models_come_from_the_shelf_in_turn(a_worker, a_model_file, an_image, tmp_path):
    """Each with its own quality; the later one lies over the earlier, and the timings are those of both."""
    model, other, output = a_model_file(), tmp_path / "other.safetensors", tmp_path / "o.nrrd"
    bundle = read_bundle(Path(model))
    write_bundle(other, replace(bundle.manifest, name="other"), bundle.folds)
    how = {"model": [model, str(other)], "output": str(output), "inputs": [an_image]}
    options = {"device": "cpu", "quality": ["fast", "best"], "disagreement": None}
    a_worker.send("segment", job="s", options=options, **how)
    answer = a_worker.answer("s")
    assert [segment["model"] for segment in answer["segments"]] == [bundle.manifest.name] * 2 + ["other"] * 2
    assert set(np.unique(read_volume(output).array)) <= {0, 6, 10}
    assert answer["timings"]["load_model"] > 0
    a_worker.send("segment", job="w", options={**options, "quality": ["fast"] * 3}, **how)
    assert "3 values of quality for 2 model(s)" in a_worker.answer("w")["message"]
