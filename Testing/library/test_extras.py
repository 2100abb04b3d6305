"""Statistics as files and text, and the record of how labels came about."""

import csv
import json

import numpy as np
import pytest

import MambaSegmentLib
from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ImageError
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.review.statistics_files import statistics_text, write_statistics
from MambaSegmentLib.volume import Volume

ROWS = [
    {"value": 1, "name": "Löwe", "voxels": 8, "volume_ml": 0.008, "intensity_mean": None},
    {"value": 12, "name": "b", "voxels": 0, "volume_ml": 0.0, "intensity_mean": 2.5},
]


def test_a_table_and_a_document_of_the_same_figures(tmp_path):
    write_statistics(ROWS, tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"value": "1", "name": "Löwe", "voxels": "8", "volume_ml": "0.008", "intensity_mean": ""},
            {"value": "12", "name": "b", "voxels": "0", "volume_ml": "0.0", "intensity_mean": "2.5"},
        ]
    write_statistics(ROWS, tmp_path / "s.JSON")
    assert json.loads((tmp_path / "s.JSON").read_text(encoding="utf-8"))["segments"] == ROWS
    with pytest.raises(ImageError, match=r"none of \.csv, \.json"):
        write_statistics(ROWS, tmp_path / "s.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.JSON", "s.csv"]


def test_the_text_has_a_column_for_what_some_segment_has():
    assert statistics_text(ROWS) == [
        "      segment  voxels     mL  mean",
        "   1  Löwe          8  0.008     -",
        "  12  b             0  0.000   2.5",
    ]
    assert statistics_text([{"value": 1, "name": "a"}]) == []


@pytest.fixture
def arguments(tmp_path, a_tiny_bundle):
    bundle = a_tiny_bundle(citation="Nobody 2026")
    write_bundle(tmp_path / "tiny.safetensors", bundle.manifest, bundle.folds)
    folder = tmp_path / "Müller^Eva"
    folder.mkdir()
    array = np.array([0, 1, 1, 2, 2, np.nan], np.float32).reshape(1, 2, 3)
    write_volume(Volume(array, spacing_mm=(10.0, 10.0, 10.0)), folder / "t1.nrrd")
    model = str(tmp_path / "tiny.safetensors")
    return ["segment", str(folder / "t1.nrrd"), "-m", model, "--device", "cpu", "--quiet", "--allow-nonfinite"]


def test_the_record_says_what_was_done_and_names_no_folder(arguments, tmp_path, capsys):
    files = {"-o": "o.nii.gz", "--sidecar": "o.json", "--statistics": "o.csv", "--uncertainty": "u.nrrd"}
    placed = [str(tmp_path / part) if part[0] != "-" else part for pair in files.items() for part in pair]
    assert main([*arguments, *placed, "--quality", "fast", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == [str(tmp_path / name) for name in ("o.nii.gz", "u.nrrd", "o.csv", "o.json")]
    text = (tmp_path / "o.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert "Eva" not in text
    assert str(tmp_path) not in text
    assert record["model"] | {"name": "tiny", "citation": "Nobody 2026"} == record["model"]
    assert record["model"]["sha256"] == report["model"]["sha256"]
    assert record["inputs"] == [{"channel": "T1", "file": "t1.nrrd"}]
    assert record["options"] | {"device": "cpu", "quality": "fast", "allow_nonfinite": True} == record["options"]
    assert record["files"] == ["o.nii.gz", "u.nrrd", "o.csv"]
    assert record["grid"] | {"size_ijk": [3, 2, 1], "spacing_mm": [10.0, 10.0, 10.0]} == record["grid"]
    assert record["segments"] == report["segments"]
    assert "t1.nrrd holds NaN or infinity in 1 of 6 voxels" in record["warnings"][0]
    assert record["software"]["mambasegment"] == MambaSegmentLib.__version__
    assert set(record["software"]) >= {"python", "torch", "numpy"}
    assert record["timings_s"] == report["timings"]


def test_statistics_that_swallow_the_image_are_explained(arguments, tmp_path, capsys):
    command, image, *rest = arguments
    assert main([command, *rest, "-o", str(tmp_path / "o.nrrd"), "--statistics", image]) == 2
    assert "put images before options" in capsys.readouterr().err
    assert main([*arguments, "-o", str(tmp_path / "o.nrrd"), "--statistics", str(tmp_path / "no" / "s.csv")]) == 2
    assert "create it first" in capsys.readouterr().err
    assert not (tmp_path / "o.nrrd").exists()
