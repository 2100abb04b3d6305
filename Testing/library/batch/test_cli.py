"""`mambasegment batch` as a user runs it, killed in the middle and run again."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from MambaSegmentLib.bundle import Channel, Manifest, read_bundle, write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.models import build_model
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume
from MambaSegmentLib.worker.client import worker_environment
from Testing.library.worker.conftest import is_gone, wait_until

REPORTS = ("report.csv", "report.json", "segments.csv")


@pytest.fixture
def a_model(tmp_path):
    """A real network with random weights: a fraction of a second for each case."""
    options = {"spatial_dims": 3, "in_channels": 1, "num_classes": 3, "init_filters": 8}
    manifest = Manifest(
        name="small",
        architecture_name="lightm_unet",
        architecture_options=options,
        channels=(Channel("T1"),),
        segments=(SegmentInfo(1, "One", (1.0, 0.0, 0.0)), SegmentInfo(2, "Two", (0.0, 1.0, 0.0))),
        preprocessing=PreprocessingSpec((Normalization("zscore"),)),
        patch_size=(16, 16, 16),
        step=1.0,
    )
    write_bundle(tmp_path / "small.safetensors", manifest, [build_model("lightm_unet", options).state_dict()])
    return str(tmp_path / "small.safetensors")


@pytest.fixture
def a_folder_of_cases(tmp_path):
    """a, b, c and d are images; bad comes between them and is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a", "b", "c", "d")):
        noise = np.random.default_rng(number).random((32, 32, 32), np.float32)
        write_volume(Volume(noise, origin_mm=(number, 0.0, 0.0)), folder / f"{name}.nii.gz")
    (folder / "bad.nii.gz").write_text("no image")
    return folder


def done_in(journal):
    if not journal.is_file():
        return []
    lines = journal.read_bytes().splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [entry["case"] for entry in entries if entry["status"] == "done"]


def test_killed_and_run_again_it_repeats_nothing_that_was_finished(a_model, a_folder_of_cases, tmp_path):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "MambaSegmentLib", "batch", str(a_folder_of_cases), "-m", a_model, "-o", str(out)]
    environment = worker_environment() | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    batch = subprocess.Popen([*command, "--device", "cpu", "--quiet"], env=environment, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: len(done_in(out / "batch.jsonl")) >= 2, 240)
        workers = [process.pid for process in psutil.Process(batch.pid).children(recursive=True)]
    finally:
        batch.kill()
        batch.wait()
    assert workers
    assert all(wait_until(lambda pid=pid: is_gone(pid), 30) for pid in workers)
    assert os.listdir(temporary) == []  # noqa: PTH208
    before = done_in(out / "batch.jsonl")
    assert set(before) < {"a", "b", "c", "d"}

    again = subprocess.run(
        [*command, "--device", "cpu", "--json"], env=environment, capture_output=True, encoding="utf-8"
    )
    assert again.returncode == 2  # one case is bad
    assert "mambasegment: bad failed: " in again.stderr
    assert sorted(done_in(out / "batch.jsonl")) == ["a", "b", "c", "d"]  # each of them once
    report = json.loads(again.stdout)
    assert report == json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [report[key] for key in ("total", "done", "resumed", "failed", "open")] == [5, 4, len(before), 1, 0]
    for name in ("a", "b", "c", "d"):
        labels = read_volume(out / f"{name}.seg.nrrd")
        assert labels.same_grid(read_volume(a_folder_of_cases / f"{name}.nii.gz"))
    voxels = {entry["case"]: sum(s["voxels"] for s in entry["segments"]) for entry in report["cases"]}
    assert voxels["d"] == np.count_nonzero(labels.array)
    names = set(os.listdir(out))  # noqa: PTH208
    assert names == {*(f"{name}.seg.nrrd" for name in "abcd"), "batch.jsonl", *REPORTS}
    assert os.listdir(temporary) == []  # noqa: PTH208


def test_images_with_nan_are_done_where_that_is_allowed(a_model, tmp_path, capsys):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    noise = np.random.default_rng(0).random((16, 16, 16), np.float32)
    noise[0, 0, :5] = np.nan
    write_volume(Volume(noise), images / "a.nrrd")
    command = ["batch", str(images), "-m", a_model, "-o", str(out), "--device", "cpu", "--quiet"]
    assert main(command) == 2
    assert "NaN or infinity in 5 of 4096 voxels" in capsys.readouterr().err
    assert main([*command, "--allow-nonfinite", "--json"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert "in 5 of 4096 voxels, which were set to" in case["warnings"][0]


def test_a_batch_that_was_finished_needs_no_worker(a_model, a_folder_of_cases, tmp_path, monkeypatch, capsys):
    """Nothing to do: told within a moment, without torch."""
    monkeypatch.setattr("MambaSegmentLib.worker.client.worker_command", lambda: ["/no/such/python"])
    table = tmp_path / "cases.csv"
    table.write_text("case,T1\nalone,\n")
    arguments = ["batch", str(table), "-m", a_model, "-o", str(tmp_path / "out")]
    started = time.monotonic()
    assert main(arguments) == 2
    assert time.monotonic() - started < 20
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out' / 'report.csv'}\n1 cases: 0 done, 1 failed\n"
    assert "alone failed: row 2 of the table lacks an image" in captured.err


def test_where_no_case_can_be_done_the_batch_ends_at_once(a_model, a_folder_of_cases, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("MambaSegmentLib.worker.client.worker_command", lambda: ["/no/such/python"])
    assert main(["batch", str(a_folder_of_cases), "-m", a_model, "-o", str(tmp_path / "out"), "--quiet"]) == 4
    assert "the worker cannot be started" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["open"] == 5


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"source": "none"}, 2, "none does not exist"),
        ({"source": "."}, 2, "there is no case in ."),
        ({"model": "no such model"}, 3, "no such model"),
        ({"model": "images/bad.nii.gz"}, 3, "safetensors"),
        ({"output": "images/bad.nii.gz"}, 2, "cannot make the folder"),
        ({"output": "images", "extra": ["--ending", ".nii.gz"]}, 2, "is an input image"),
        ({"extra": ["--overlap", "1"]}, 2, "overlap 1.0 must be"),
    ],
)
def test_mistakes_give_one_line_and_their_code(
    a_model, a_folder_of_cases, tmp_path, monkeypatch, capsys, change, code, message
):
    monkeypatch.chdir(tmp_path)
    chosen = {"source": "images", "model": "small.safetensors", "output": "out", "extra": []} | change
    assert main(["batch", chosen["source"], "-m", chosen["model"], "-o", chosen["output"], *chosen["extra"]]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_a_region_labels_and_quality_count_as_other_options(a_model, tmp_path, capsys):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    noise = np.random.default_rng(0).random((20, 20, 20), np.float32)
    write_volume(Volume(noise), folder / "a.nii.gz")
    command = ["batch", str(folder), "-m", a_model, "-o", str(out), "--device", "cpu", "--quiet", "--json"]
    assert main([*command, "--roi", "voxels:0:4,0:4,0:4", "--labels", "Two", "--quality", "fast"]) == 0
    first = json.loads(capsys.readouterr().out)
    labels = read_volume(out / "a.seg.nrrd").array
    assert not labels[4:].any()
    assert set(np.unique(labels)) <= {0, 2}
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == first["resumed"] == 0
    assert main([*command, "--labels", "Tow"]) == 2
    assert "did you mean 'Two'?" in capsys.readouterr().err


def test_several_models_give_one_result_for_each_case(a_model, tmp_path, capsys):
    """The second model is the first one with another name: whatever it finds lies over the first one's labels."""
    bundle = read_bundle(a_model)
    other = tmp_path / "over.safetensors"
    write_bundle(other, replace(bundle.manifest, name="over"), bundle.folds)
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    write_volume(Volume(np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)), images / "a.nrrd")
    command = ["batch", str(images), "-m", str(a_model), "-m", str(other), "-o", str(out), "--device", "cpu", "--quiet"]
    assert main([*command, "--quality", "fast", "--quality", "best", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    first = bundle.manifest.name
    assert report["model"]["name"] == f"{first} + over"
    (case,) = report["cases"]
    assert [segment["model"] for segment in case["segments"]] == [first, first, "over", "over"]
    assert not {1, 2} & set(np.unique(read_volume(out / "a.seg.nrrd").array))
    assert main([*command, "--folds", "7"]) == 2
    assert "the model has fold 0 alone" in capsys.readouterr().err
