import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import MambaSegmentLib.api
from MambaSegmentLib.bundle import Channel, Manifest, write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import BundleError, ResourceError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.models import build_model
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

POSIX = os.name != "nt"


@pytest.fixture
def model(tmp_path, a_tiny_bundle):
    bundle = a_tiny_bundle()
    path = tmp_path / "tiny.safetensors"
    write_bundle(path, bundle.manifest, bundle.folds)
    return str(path)


@pytest.fixture
def image(tmp_path):
    array = np.array([0, 1, 1, 2], np.float32).reshape(1, 2, 2)  # background, twice class 1, once class 2
    path = tmp_path / "t1.nii.gz"
    write_volume(Volume(array, spacing_mm=(10.0, 10.0, 10.0)), path)
    return str(path)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.seg.nrrd"


def test_segment_writes_and_says_so(model, image, output, capsys):
    assert main(["segment", image, "-m", model, "-o", str(output), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{output}\n"
    assert captured.err.splitlines() == ["load_model", "read", "preprocess", "network", "restore", "write"]
    assert output.is_file()


def test_statistics_and_json(model, image, output, capsys):
    arguments = ["segment", "-m", model, "-o", str(output), "--channel", f"T1={image}", "--quiet", "--statistics"]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert report["files"] == [str(output)]
    assert report["model"]["name"] == "tiny"
    assert report["segments"] == [
        {
            "value": 1, "name": "Anterior", "voxels": 2, "volume_ml": 2.0, "intensity_mean": 1.0, "intensity_sd": 0.0,
            "diameter_mm": pytest.approx(200**0.5), "in_plane_diameter_mm": pytest.approx(200**0.5),
            "pieces": 1, "largest_piece_ml": 2.0,
        },
        {
            "value": 5, "name": "Posterior", "voxels": 1, "volume_ml": 1.0, "intensity_mean": 2.0, "intensity_sd": 0.0,
            "diameter_mm": 0.0, "in_plane_diameter_mm": 0.0, "pieces": 1, "largest_piece_ml": 1.0,
        },
    ]  # fmt: skip
    assert set(report["timings"]) == {"load_model", "read", "preprocess", "network", "restore", "measure", "write"}
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "     segment    voxels     mL  mean  SD  longest mm  in slice mm  pieces  largest mL",
        "  1  Anterior        2  2.000     1   0        14.1         14.1       1       2.000",
        "  5  Posterior       1  1.000     2   0         0.0          0.0       1       1.000",
    ]


def test_a_region_and_only_some_labels(model, image, output, capsys):
    arguments = ["segment", image, "-m", model, "-o", str(output), "--device", "cpu", "--quiet", "--json"]
    region = ["--roi", "voxels:0:1,0:2,0:1", "--labels", "anterior, Posterior", "--quality", "balanced"]
    assert main([*arguments, *region, "--memory-limit", "64GB"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tiles"] == {"total": 1, "reused": 0}
    assert read_volume(output).array.ravel().tolist() == [0, 0, 1, 0]  # the second voxel of each row lies outside
    assert main([*arguments, "--labels", "Posterior"]) == 0
    assert [s["name"] for s in json.loads(capsys.readouterr().out)["segments"]] == ["Posterior"]
    assert read_volume(output).array.ravel().tolist() == [0, 0, 0, 5]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--roi", "voxels:9:12,0:1,0:1"], 2, "the region lies outside the image: voxels I 9:12"),
        (["--roi", "voxels:1:1,0:1,0:1"], 2, "from 1 to 1 along I, which holds nothing"),
        (["--roi", "here"], 2, "'here' cannot be understood; expected voxels:I0:I1"),
        (["--roi", "label:1:5:none.nrrd"], 2, "none.nrrd does not exist"),
        (["--labels", "Posteriro"], 2, "no label 'Posteriro'; did you mean 'Posterior'?"),
        (["--labels", ","], 2, "--labels ',' names no label"),
        (["--memory-limit", "much"], 2, "expected a size such as 3GB"),
        (["--memory-limit", "1MB"], 4, "the memory limit of 0.001 GB leaves 0 GB"),
    ],
)
def test_regions_labels_and_limits_that_cannot_be(arguments, code, message, model, image, output, capsys):
    assert main(["segment", image, "-m", model, "-o", str(output), "--device", "cpu", "--quiet", *arguments]) == code
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"image": "none.nii.gz"}, 2, "none.nii.gz does not exist"),
        ({"output": "labels.jpg"}, 2, "ending"),
        ({"output": "none/labels.nrrd"}, 2, "create it first"),
        ({"model": "none.safetensors"}, 3, "no model file or stored model"),
        ({"model": "none/m.safetensors"}, 3, "there is no model file"),
        ({"model": "t1.nii.gz"}, 3, "safetensors"),
        ({"extra": ["--overlap", "0.95"]}, 2, "--overlap 0.95"),
        ({"extra": ["--device", "gpu"]}, 2, "device 'gpu' is not known"),
        ({"extra": ["t1.nii.gz"]}, 2, r"takes 1 image(s) (T1, in this order); 2 given"),
        ({"extra": ["--channel", "T1=t1.nii.gz"]}, 2, "not both ways"),
        ({"image": None}, 2, "no image given"),
        ({"image": None, "extra": ["--channel", "T2=t1.nii.gz"]}, 2, "takes the channel(s) T1; given: T2"),
        ({"image": None, "extra": ["--channel", "T1"]}, 2, "expected NAME=FILE"),
        ({"image": None, "extra": ["--channel", "T1=t1.nii.gz", "--channel", "T1=x"]}, 2, "given twice"),
        ({"output": "t1.nii.gz"}, 2, "is an input image"),
        ({"image": "constant.nii.gz"}, 2, "every voxel"),
    ],
)
def test_mistakes_give_one_line_and_their_code(
    model, image, output, tmp_path, monkeypatch, capsys, change, code, message
):
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(np.ones((2, 2, 2), np.float32)), tmp_path / "constant.nii.gz")
    files = sorted(tmp_path.iterdir())
    chosen = {"image": "t1.nii.gz", "output": "labels.nrrd", "model": "tiny.safetensors", "extra": []} | change
    images = [] if chosen["image"] is None else [chosen["image"]]
    arguments = ["segment", *images, *chosen["extra"], "-m", chosen["model"], "-o", chosen["output"], "--quiet"]
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("mambasegment: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(tmp_path.iterdir()) == files


def test_the_output_is_checked_before_the_model_is_loaded(image, tmp_path, monkeypatch):
    monkeypatch.setattr(MambaSegmentLib.api, "load_model", lambda *_, **__: pytest.fail("loaded"))
    assert main(["segment", image, "-m", "none", "-o", str(tmp_path / "none" / "x.nrrd")]) == 2


@pytest.mark.parametrize(
    ("problem", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "cancelled"),
        (MemoryError(), 4, "not enough memory"),
        (ResourceError("the disk is full"), 4, "the disk is full"),
        (BundleError("damaged"), 3, "damaged"),
    ],
)
def test_exit_codes(model, image, output, monkeypatch, capsys, problem, code, text):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(MambaSegmentLib.api, "load_model", fail)
    assert main(["segment", image, "-m", model, "-o", str(output)]) == code
    assert text in capsys.readouterr().err


def test_a_bug_goes_to_the_log(model, image, output, monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(MambaSegmentLib.api, "load_model", fail)
    monkeypatch.setattr("platformdirs.user_log_path", lambda *_, **__: tmp_path / "logs")
    assert main(["segment", image, "-m", model, "-o", str(output)]) == 1
    message = capsys.readouterr().err
    assert "internal error" in message
    assert "Traceback" not in message
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in message
    assert "ZeroDivisionError: a bug" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [[], ["segment"], ["segmnt"], ["models"], ["segment", "a", "-m", "b", "--bogus"]])
def test_wrong_usage_is_two(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_models_list_info_verify(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAMBASEGMENT_MODELS", str(tmp_path))
    (tmp_path / "broken.safetensors").write_bytes(b"")
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "empty" in out
    assert main(["models", "list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["tiny"]["path"] == model
    assert entries["broken"]["version"] is None

    assert main(["models", "info", "tiny", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["labels"][1]["name"] == "Posterior"
    assert main(["models", "info", "tiny"]) == 0
    assert info["sha256"] in capsys.readouterr().out

    assert main(["models", "verify", "tiny"]) == 0
    assert info["sha256"] in capsys.readouterr().out
    assert main(["models", "verify", "broken", model]) == 3
    captured = capsys.readouterr()
    assert "empty" in captured.err
    assert model in captured.out  # the others are looked at all the same


def test_demo_on_ones_own_image(model, tmp_path, capsys):
    source = tmp_path / "own.nrrd"
    write_volume(Volume(np.random.default_rng(0).random((12, 14, 16), dtype=np.float32) * 2), source)
    arguments = ["demo", "--image", str(source), "-m", model, "-o", str(tmp_path / "demo"), "--device", "cpu"]
    assert main([*arguments, "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    report = json.loads(captured.out)
    assert all(Path(file).is_file() for file in report["files"])
    assert main(arguments) == 0
    assert str(tmp_path / "demo") in capsys.readouterr().out


def test_doctor(capsys):
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packages"]["numpy"] == np.__version__
    assert main(["doctor"]) == 0
    assert "scan kernels" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["segment", "--help"], ["models", "verify", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(arguments, repository):
    script = (
        "import sys\nfrom MambaSegmentLib.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'scipy', 'SimpleITK', 'numba', 'safetensors', 'psutil'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=repository, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr


def test_a_bad_image_is_refused_without_torch(model, repository, tmp_path):
    script = (
        "import sys\nfrom MambaSegmentLib.cli import main\n"
        "assert main(sys.argv[1:]) == 2\nassert 'torch' not in sys.modules"
    )
    arguments = ["segment", str(tmp_path / "none.nii"), "-m", model, "-o", str(tmp_path / "o.nrrd")]
    subprocess.run([sys.executable, "-c", script, *arguments], cwd=repository, check=True)


def test_python_dash_m(repository):
    run = subprocess.run(
        [sys.executable, "-m", "MambaSegmentLib", "--version"], cwd=repository, capture_output=True, encoding="utf-8"
    )
    assert run.stdout.startswith("mambasegment ")


def test_a_reader_that_goes_away_is_no_bug(model, repository):
    """`mambasegment models info … | head -c1`: no traceback, no crash log."""
    command = [sys.executable, "-m", "MambaSegmentLib", "models", "info", model]
    child = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait(timeout=60) == 141


@pytest.fixture
def a_slow_case(tmp_path):
    """A real network on a volume of many tiles: minutes of work, to be stopped."""
    options = {"spatial_dims": 3, "in_channels": 1, "num_classes": 3, "init_filters": 8}
    manifest = Manifest(
        name="slow",
        architecture_name="lightm_unet",
        architecture_options=options,
        channels=(Channel("T1"),),
        segments=(SegmentInfo(1, "One", (1.0, 0.0, 0.0)), SegmentInfo(2, "Two", (0.0, 1.0, 0.0))),
        preprocessing=PreprocessingSpec((Normalization("zscore"),)),
        patch_size=(32, 32, 32),
    )
    write_bundle(tmp_path / "slow.safetensors", manifest, [build_model("lightm_unet", options).state_dict()])
    write_volume(Volume(np.random.default_rng(0).random((96, 96, 96), np.float32)), tmp_path / "big.nii.gz")
    return ["segment", "big.nii.gz", "-m", "slow.safetensors", "-o", "labels.seg.nrrd", "--device", "cpu"]


@pytest.mark.parametrize("polite", [True, False], ids=["Ctrl-C", "SIGTERM or Ctrl-Break"])
def test_stopping_leaves_no_file_and_no_traceback(a_slow_case, tmp_path, repository, polite):
    files = sorted(tmp_path.iterdir())
    number = signal.SIGINT if polite else signal.SIGTERM
    before = signal.signal(number, signal.default_int_handler)  # a child inherits what a background shell ignores
    child = subprocess.Popen(
        [sys.executable, "-m", "MambaSegmentLib", *a_slow_case],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        creationflags=0 if POSIX else subprocess.CREATE_NEW_PROCESS_GROUP,
    )
    signal.signal(number, before)
    try:
        for line in child.stderr:
            if line.startswith("network"):
                break
        # Windows delivers Ctrl-C to whole consoles only; Ctrl-Break reaches a process group.
        child.send_signal(number if POSIX else signal.CTRL_BREAK_EVENT)
        out, err = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130
    assert err.splitlines()[-1] == "mambasegment: cancelled"
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.iterdir()) == files


def test_a_killed_writer_never_leaves_half_a_file(tmp_path, repository):
    """Killed at any moment, the target holds the old file or the new one, whole."""
    target = tmp_path / "labels.nrrd"
    script = """
import sys, itertools, numpy as np
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume
noise = np.random.default_rng(0).integers(0, 9, (64, 64, 64)).astype(np.uint8)
for n in itertools.count():
    write_volume(Volume(noise + np.uint8(n % 2)), sys.argv[1])
    print(n, flush=True)
"""
    for moment in range(4):
        child = subprocess.Popen([sys.executable, "-c", script, str(target)], cwd=repository, stdout=subprocess.PIPE)
        try:
            child.stdout.readline()  # from now on it writes all the time
            time.sleep(0.017 * moment)
        finally:
            child.kill()
            child.communicate()
        values = np.unique(read_volume(target).array)
        assert values.tolist() in ([*range(9)], [*range(1, 10)])


def test_segmenting_a_real_volume_from_the_shell(shared, tmp_path, repository, a_slow_case):
    """One process, cold: the way a user runs it; the labels lie on the grid of the image."""
    source = sorted((shared / "data" / "hippocampus_mr" / "images").iterdir())[0]
    command = [
        sys.executable,
        "-m",
        "MambaSegmentLib",
        "segment",
        str(source),
        "-m",
        str(tmp_path / "slow.safetensors"),
    ]
    run = subprocess.run(
        [*command, "-o", str(tmp_path / "labels.seg.nrrd"), "--json"],
        cwd=repository,
        capture_output=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["files"] == [str(tmp_path / "labels.seg.nrrd")]
    assert read_volume(tmp_path / "labels.seg.nrrd").same_grid(read_volume(source))
