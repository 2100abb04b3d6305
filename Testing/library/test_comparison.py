"""Files and folders of label maps, and the command that compares them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import slicerio

from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.review.comparison import compare_pair, compare_pairs, find_pairs, summarise_cases
from MambaSegmentLib.review.label_files import read_label_map
from MambaSegmentLib.segmentation_io import write_segmentation
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

REFERENCE = [[[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 0]]]
PREDICTED = [[[0, 1, 1, 2], [0, 1, 1, 2], [0, 0, 0, 0]]]  # label 1 a column further


def write(path: Path, labels, dtype=np.uint8, **geometry) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_volume(Volume(np.array(labels, dtype), **geometry), path)
    return path


@pytest.fixture
def two_folders(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "reference" / f"{name}.nii.gz", REFERENCE)
        write(tmp_path / "predicted" / f"{name}.nrrd", PREDICTED if name == "a" else REFERENCE)
    return tmp_path / "reference", tmp_path / "predicted"


def test_files_of_equal_names_belong_together(two_folders):
    reference, predicted = two_folders
    write(predicted / "extra.mha", PREDICTED)
    found = find_pairs(reference, predicted)
    assert [(pair.case, pair.predicted.name) for pair in found.pairs] == [("a", "a.nrrd"), ("b", "b.nrrd")]
    assert [path.name for path in found.unused] == ["extra.mha"]


def test_what_does_not_belong_together_is_refused(two_folders, tmp_path):
    reference, predicted = two_folders
    with pytest.raises(ConfigError, match="a file and a folder"):
        find_pairs(reference, predicted / "a.nrrd")
    with pytest.raises(ConfigError, match="does not exist"):
        find_pairs(reference, tmp_path / "nowhere")
    write(reference / "c.nii.gz", REFERENCE)
    with pytest.raises(ConfigError, match="no file for c;"):
        find_pairs(reference, predicted)
    write(reference / "c.mha", REFERENCE)
    with pytest.raises(ConfigError, match="same case twice"):
        find_pairs(reference, predicted)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no label map"):
        find_pairs(tmp_path / "empty", predicted)


def test_one_bad_case_does_not_stop_the_others(two_folders):
    reference, predicted = two_folders
    write(predicted / "a.nrrd", PREDICTED, spacing_mm=(1.0, 1.2, 1.0))
    comparison = compare_pairs(find_pairs(reference, predicted).pairs)
    assert list(comparison.cases) == ["b"]
    assert "a.nrrd" in str(comparison.problems["a"])
    assert "grid" in str(comparison.problems["a"])


def test_progress_and_cancelling(two_folders):
    pairs = find_pairs(*two_folders).pairs
    seen = []
    compare_pairs(pairs, progress=lambda progress: seen.append(progress.done))
    assert seen == [0, 1, 2]
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Exception, match="cancelled"):
        compare_pairs(pairs, cancel=cancel)


def test_equal_names_of_slicer_segmentations_mean_the_same(tmp_path):
    swapped = np.array([0, 2, 1])[np.array(REFERENCE)].astype(np.uint8)
    red = (1.0, 0.0, 0.0)
    for name, labels, names in (("r", REFERENCE, "Körper Ende"), ("p", swapped, "Ende Körper")):
        segments = [SegmentInfo(value, text, red) for value, text in enumerate(names.split(), start=1)]
        write_segmentation(Volume(np.array(labels, np.uint8)), segments, tmp_path / f"{name}.seg.nrrd")
    (pair,) = find_pairs(tmp_path / "r.seg.nrrd", tmp_path / "p.seg.nrrd").pairs
    agreement = compare_pair(pair)
    assert pair.case == "r"
    assert [(one.name, one.dice) for one in agreement.structures] == [("Körper", 1), ("Ende", 1)]


def test_layers_become_one_map_unless_they_overlap(tmp_path):
    voxels = np.zeros((2, 4, 3, 2), np.uint8)  # layer, I, J, K
    voxels[0, 0], voxels[1, 3] = 1, 1
    content = {
        "voxels": voxels,
        "ijkToLPS": np.diag([2.0, 3.0, 4.0, 1.0]),
        "containedRepresentationNames": ["Binary labelmap"],
        "segments": [
            {"id": f"s{layer}", "name": f"part {layer}", "labelValue": 1, "layer": layer, "color": [1.0, 0.0, 0.0]}
            for layer in (0, 1)
        ],
    }
    slicerio.write_segmentation(str(tmp_path / "a.seg.nrrd"), content)
    labels = read_label_map(tmp_path / "a.seg.nrrd")
    assert labels.names == {1: "part 0", 2: "part 1"}
    assert labels.volume.spacing_mm == (2.0, 3.0, 4.0)
    assert labels.volume.array.shape == (2, 3, 4)
    assert labels.volume.array[0, 0].tolist() == [1, 0, 0, 2]
    voxels[1] = 1
    slicerio.write_segmentation(str(tmp_path / "a.seg.nrrd"), content)
    with pytest.raises(ImageError, match="'part 1' shares voxels"):
        read_label_map(tmp_path / "a.seg.nrrd")


def test_labels_stored_as_floats_are_labels_if_they_are_whole(tmp_path):
    whole = write(tmp_path / "a.nii.gz", REFERENCE, np.float32)
    assert read_label_map(whole).volume.array.dtype.kind == "i"
    with pytest.raises(ImageError, match="whole numbers"):
        read_label_map(write(tmp_path / "b.nii.gz", np.array(REFERENCE) * 0.3, np.float32))


def test_summary_counts_cases_where_a_label_lacks(two_folders):
    reference, predicted = two_folders
    write(reference / "b.nii.gz", np.zeros((1, 3, 4)))
    write(predicted / "b.nrrd", np.zeros((1, 3, 4)))
    summaries = summarise_cases(compare_pairs(find_pairs(reference, predicted).pairs).cases)
    assert (summaries["label 1"]["dice"].count, summaries["label 1"]["dice"].absent) == (1, 1)


# --- the command


def test_two_files(tmp_path, capsys):
    r, p = write(tmp_path / "r.nii.gz", REFERENCE), write(tmp_path / "p.nii.gz", PREDICTED)
    assert main(["compare", str(r), str(p), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["Dice", "IoU"]
    assert lines[1].split()[:4] == ["label", "1", "0.5000", "0.3333"]
    assert lines[-1].startswith("mean Dice 0.7500, mIoU 0.6667")


def test_folders_to_csv_and_json(two_folders, tmp_path, capsys):
    command = ["compare", *map(str, two_folders), "--region", "whole=1,2", "--instances", "--quiet"]
    assert main([*command, "-o", str(tmp_path / "out.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8-sig")))
    assert [(row["case"], row["name"], row["values"]) for row in rows[:3]] == [
        ("a", "label 1", "1"),
        ("a", "label 2", "2"),
        ("a", "whole", "1+2"),
    ]
    assert float(rows[0]["dice"]) == 0.5
    assert "instance_f1" in rows[0]
    capsys.readouterr()
    assert main([*command, "--json", "-o", str(tmp_path / "out.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert printed["summary"]["structures"]["label 1"]["dice"]["mean"] == 0.75
    assert printed["rules"]["tolerance_mm"] == 1.0


def test_a_region_that_a_case_lacks_is_an_empty_structure(tmp_path, capsys):
    r = write(tmp_path / "r.nii.gz", REFERENCE)
    assert main(["compare", str(r), str(r), "--region", "rare=7,8", "--json", "--quiet"]) == 0
    (rare,) = [s for s in json.loads(capsys.readouterr().out)["cases"][0]["structures"] if s["name"] == "rare"]
    assert (rare["empty"], rare["dice"]) == ("both", None)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--label", "liver"], "VALUE=NAME"),
        (["--region", "whole=a"], "NAME=VALUE"),
        (["--region", "w=1,2", "--region", "w=1"], "twice"),
        (["-o", "out.txt"], "ending"),
        (["--tolerance-mm", "-2"], "tolerance"),
    ],
)
def test_wrong_usage_is_two(tmp_path, capsys, extra, message):
    r = write(tmp_path / "r.nii.gz", REFERENCE)
    assert main(["compare", str(r), str(r), *extra]) == 2
    assert message in capsys.readouterr().err


def test_bad_files_are_two_and_the_rest_is_written(two_folders, tmp_path, capsys):
    reference, predicted = two_folders
    (predicted / "a.nrrd").write_bytes(b"nonsense")
    output = tmp_path / "out.json"
    assert main(["compare", str(reference), str(predicted), "--quiet", "-o", str(output)]) == 2
    document = json.loads(output.read_text(encoding="utf-8"))
    assert [case["case"] for case in document["cases"]] == ["b"]
    assert [problem["case"] for problem in document["problems"]] == ["a"]
    assert "a.nrrd" in capsys.readouterr().err
