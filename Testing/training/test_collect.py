"""Reviewed Slicer cases become a data set, and more of them join it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mambasegment_training.cli import main
from mambasegment_training.collect import collect
from mambasegment_training.collection import Collection
from mambasegment_training.config import config_from_json
from mambasegment_training.corrections import CORRECTED
from mambasegment_training.export import export
from mambasegment_training.loop import fit
from mambasegment_training.prepare import prepare

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.review.document import geometry_sha256
from MambaSegmentLib.segmentation_io import write_segmentation
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

from .conftest import SHAPE, TINY, labelled_case

GEOMETRY: dict[str, Any] = {"spacing_mm": (1.0, 1.0, 2.0), "origin_mm": (3.0, -4.0, 5.0)}
SEGMENTS = [SegmentInfo(4, "Grey box", (1, 0, 0)), SegmentInfo(7, "White box", (0, 1, 0))]  # values of the model's own
WRONG = (slice(0, 2), slice(0, 3), slice(0, 4))  # the model took it for a grey box, of which a corner may reach in

Review = Callable[..., Path]


def write_review(folder: Path, case: str, seed: int = 0, **changes: Any) -> Path:
    """CASE.nii.gz and the files that the Slicer module saves beside it, written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    image, labels = labelled_case(seed)
    volume = Volume(image, **GEOMETRY)
    truth = np.choose(labels, [0, 4, 7]).astype(np.uint8)
    predicted = truth.copy()
    predicted[WRONG] = 4
    write_volume(volume, folder / f"{case}.nii.gz")
    write_segmentation(volume.with_array(truth), SEGMENTS, folder / f"{case}.seg.nrrd")
    write_segmentation(volume.with_array(predicted), SEGMENTS, folder / f"{case}.ai.seg.nrrd")
    moment = "2026-01-31T12:00:00Z"
    content = {
        "format": "mambasegment-review",
        "schema_version": 1,
        "case": case,
        "images": [{"channel": "T1", "file": f"{case}.nii.gz", "geometry_sha256": geometry_sha256(volume)}],
        "grid": {
            "size": list(SHAPE[::-1]),
            "spacing_mm": list(volume.spacing_mm),
            "origin_mm": list(volume.origin_mm),
            "direction": list(volume.direction),
        },
        "model": {"name": "boxes", "version": "1", "sha256": "ab" * 32},
        "options": {},
        "reviewer": "A. Reader",
        "decision": "accept with corrections",
        "comment": "",
        "signed_off": True,
        "times": {"segmented_utc": moment, "opened_utc": moment, "saved_utc": moment, "review_s": 61.5},
        "segments": [
            {"name": one.name, "value": one.value, "status": "completed", "dice": 0.9}
            | {"volume_ml_before": 0.1, "volume_ml_after": 0.1}
            for one in SEGMENTS
        ],
        "reviewed_slices": None,
        "segmentation_file": f"{case}.seg.nrrd",
        "prediction_file": f"{case}.ai.seg.nrrd",
    }
    (folder / f"{case}.review.json").write_text(json.dumps(content | changes), encoding="utf-8")
    return folder


def written(dataset: Path) -> dict[str, int]:
    """Every file with the moment of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in dataset.rglob("*") if path.is_file()}


def test_from_reviews_to_a_training(tmp_path, capsys):
    reviews, dataset = tmp_path / "reviews", tmp_path / "Reviewed"
    write_review(reviews, "p1-a", 1)
    write_review(reviews / "deeper", "p1-b", 2, decision="accept", prediction_file=None)
    write_review(reviews, "p2-a", 3, reviewed_slices={"axis": "K", "ranges": [[2, 5], [8, 8]]})
    write_review(reviews, "p3-a", 4, signed_off=False)
    write_review(reviews, "p4-a", 5, decision="reject")
    assert main(["collect", str(reviews), "-o", str(dataset), "--patient-pattern", "^(p[0-9]+)"]) == 0
    told = capsys.readouterr()
    assert "3 added, 0 replaced, 0 unchanged, 0 withdrawn, 2 left out" in told.out
    assert "p3-a is left out: not signed off" in told.err
    assert "p4-a is left out: rejected by the reviewer" in told.err

    content = json.loads((dataset / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "Grey box": 1, "White box": 2, "ignore": 3}
    assert (content["channel_names"], content["numTraining"]) == ({"0": "T1"}, 3)
    for case, seed in (("p1-a", 1), ("p1-b", 2)):
        image, labels = labelled_case(seed)
        np.testing.assert_array_equal(read_volume(dataset / "labelsTr" / f"{case}.nii.gz").array, labels)
        np.testing.assert_allclose(read_volume(dataset / "imagesTr" / f"{case}_0000.nii.gz").array, image)
    masked = read_volume(dataset / "labelsTr" / "p2-a.nii.gz").array
    looked_at = [2, 3, 4, 5, 8]
    np.testing.assert_array_equal(masked[looked_at], labelled_case(3)[1][looked_at])
    assert (np.delete(masked, looked_at, axis=0) == 3).all()

    corrected = read_volume(dataset / "correctionsTr" / "p1-a.nii.gz").array
    truly_wrong = labelled_case(1)[1][WRONG] != 1
    count = int(truly_wrong.sum())
    np.testing.assert_array_equal(corrected[WRONG], truly_wrong)
    assert corrected.sum() == count > 0
    assert not (dataset / "correctionsTr" / "p1-b.nii.gz").exists()  # the model's labels were not kept
    assert not (dataset / "correctionsTr" / "p2-a.nii.gz").exists()  # nobody looked where the model was wrong
    record = json.loads((dataset / "collected.json").read_text())
    entry = record["cases"]["p1-a"]
    assert (entry["patient"], entry["reviewer"], entry["corrected_voxels"]) == ("p1", "A. Reader", count)
    assert entry["model"] == {"name": "boxes", "version": "1", "sha256": "ab" * 32}
    assert record["cases"]["p1-b"]["corrected_voxels"] is None
    assert record["cases"]["p2-a"]["ignored_voxels"] == 7 * SHAPE[1] * SHAPE[2]

    work = prepare(dataset, tmp_path / "work")
    assert (work.ignore_label, work.labels) == (3, {1: "Grey box", 2: "White box"})
    assert [set(fold.validation) for fold in work.folds] in ([{"p1-a", "p1-b"}, {"p2-a"}], [{"p2-a"}, {"p1-a", "p1-b"}])
    rows = np.load(tmp_path / "work" / "cases" / "p1-a.foreground.npy")
    assert set(rows[:, 0]) == {CORRECTED, 1, 2}
    assert (rows[:, 0] == CORRECTED).sum() == count  # the prepared grid is the stored one
    recipe = TINY | {"epochs": 1, "steps_per_epoch": 2, "validation": {"every_epochs": 1}}
    assert fit(tmp_path / "work", tmp_path / "run", config_from_json(recipe), device="cpu").best_dice is not None
    model = tmp_path / "model.safetensors"
    manifest = export(tmp_path / "run", model, device="cpu", with_cost=False)
    assert ([one.name for one in manifest.segments], manifest.ignore_label) == (["Grey box", "White box"], 3)
    again = config_from_json(recipe | {"pretrained": {"bundle": str(model)}})
    assert fit(tmp_path / "work", tmp_path / "next", again, device="cpu").best_dice is not None
    assert json.loads((tmp_path / "next" / "pretrained.json").read_text())["sha256"] == manifest.sha256


def test_a_second_time_only_what_is_new_is_done(tmp_path):
    reviews, dataset = tmp_path / "reviews", tmp_path / "dataset"
    for number in range(4):
        write_review(reviews, f"case{number}", number)
    assert collect(reviews, dataset).added == [f"case{number}" for number in range(4)]
    before, splits = written(dataset), json.loads((dataset / "splits_final.json").read_text())
    assert collect(reviews, dataset).unchanged == [f"case{number}" for number in range(4)]
    assert written(dataset) == before

    write_review(reviews, "another", 9)
    write_review(reviews, "case1", 1, comment="looked at again")
    write_review(reviews, "case2", 2, decision="reject")
    report = collect(reviews, dataset)
    assert (report.added, report.replaced, report.withdrawn) == (["another"], ["case1"], ["case2"])
    assert report.unchanged == ["case0", "case3"]
    assert not list(dataset.glob("*/case2*"))
    validates_in = {case: fold for fold, split in enumerate(splits) for case in split["val"]}
    after = json.loads((dataset / "splits_final.json").read_text())
    for case, fold in validates_in.items():
        assert (case in after[fold]["val"]) == (case != "case2")
        assert all("case2" not in split["train"] for split in after)

    write_review(reviews, "case2", 2)  # accepted after all: where it was
    collect(reviews, dataset)
    assert json.loads((dataset / "collected.json").read_text())["fold_of_patient"]["case2"] == validates_in["case2"]


def test_a_patient_keeps_its_fold_and_folds_stay_of_one_size():
    collection = Collection(folds=3)
    collection.place([f"p{number}" for number in range(4)])
    before = dict(collection.fold_of)
    collection.place([f"p{number}" for number in range(9)])
    assert {patient: collection.fold_of[patient] for patient in before} == before
    assert sorted(collection.fold_of.values()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    collection.cases = {f"c{n}": {"patient": f"p{n}"} for n in range(9)}
    assert len(collection.splits()) == 3
    assert sorted(case for split in collection.splits() for case in split["val"]) == sorted(collection.cases)
    first, second, third = ([f"c{n}" for n in range(9) if collection.fold_of[f"p{n}"] == fold] for fold in range(3))
    for case in second:  # withdrawn: the numbers of the others stay
        del collection.cases[case]
    assert [split["val"] for split in collection.splits()] == [first, third, third]
    collection.cases = {"c": {"patient": "p0"}}
    assert collection.splits() == []  # of one patient nothing is left to train on


def test_images_elsewhere_of_two_channels_in_another_format(tmp_path):
    image, _ = labelled_case(0)
    volume = Volume(image, **GEOMETRY)
    write_review(tmp_path / "reviews", "case0", 0)
    (tmp_path / "reviews" / "case0.nii.gz").unlink()
    content = json.loads((tmp_path / "reviews" / "case0.review.json").read_text())
    sha = geometry_sha256(volume)
    channels = [{"channel": "T1", "file": "first.nrrd"}, {"channel": "T2", "file": None}]
    content["images"] = [channel | {"geometry_sha256": sha} for channel in channels]
    (tmp_path / "reviews" / "case0.review.json").write_text(json.dumps(content))
    (tmp_path / "archive" / "below").mkdir(parents=True)
    write_volume(volume, tmp_path / "archive" / "below" / "first.nrrd")
    write_volume(volume.with_array(image + 1), tmp_path / "archive" / "case0_0001.mha")
    write_volume(Volume(image), tmp_path / "archive" / "first.nrrd")  # the same name on another grid
    assert collect(tmp_path / "reviews", tmp_path / "dataset", images=tmp_path / "archive").added == ["case0"]
    for index in (0, 1):
        copied = read_volume(tmp_path / "dataset" / "imagesTr" / f"case0_000{index}.nii.gz")
        np.testing.assert_allclose(copied.array, image + index)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "bad.nii.gz").unlink(), "no image named bad"),
        (lambda folder: write_volume(Volume(np.ones(SHAPE)), folder / "bad.nii.gz"), "lies on another grid than the"),
        (lambda folder: (folder / "bad.seg.nrrd").unlink(), "is missing; the review names it"),
        (
            lambda folder: write_labels(folder / "bad.seg.nrrd", 3, **GEOMETRY),
            "holds the value 3, which is no segment",
        ),
        (
            lambda folder: write_labels(folder / "bad.ai.seg.nrrd", 4),
            "lies on another grid than its image",
        ),
        (lambda folder: (folder / "bad.review.json").write_text("{"), "is no JSON"),
        (lambda folder: write_review(folder, "bad", reviewed_slices={"axis": "K", "ranges": []}), "without a slice"),
        (lambda folder: rewrite(folder, "segments", lambda s: s[:1]), "its segments are Grey box, those of the data"),
        (lambda folder: rewrite(folder, "images", lambda s: [s[0] | {"channel": "T2"}]), "its images are T2, those of"),
    ],
)  # fmt: skip
def test_a_case_that_cannot_be_used_is_left_out_with_its_reason(tmp_path, break_it, message):
    reviews = tmp_path / "reviews"
    write_review(reviews, "a good one", 1)
    write_review(reviews, "bad", 2)
    break_it(reviews)
    report = collect(reviews, tmp_path / "dataset")
    assert report.added == ["a good one"]
    (reason,) = report.passed_over.values()
    assert message in reason


def write_labels(path: Path, value: int, **geometry: Any) -> None:
    segment = SegmentInfo(value, "One", (1, 0, 0))
    write_segmentation(Volume(np.full(SHAPE, value, np.uint8), **geometry), [segment], path)


def rewrite(folder: Path, key: str, change: Callable[[Any], Any]) -> None:
    path = folder / "bad.review.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {key: change(content[key])}))


def test_folders_and_choices_that_cannot_be(tmp_path):
    write_review(tmp_path / "reviews", "case0")
    write_review(tmp_path / "twice" / "one", "case0")
    write_review(tmp_path / "twice" / "two", "case0")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    dataset = tmp_path / "dataset"
    for source, target, options, message in (
        (tmp_path / "absent", dataset, {}, "holds no file named CASE.review.json"),
        (tmp_path / "twice", dataset, {}, "are both of the case 'case0'"),
        (tmp_path / "reviews", tmp_path / "full", {}, "holds something else"),
        (tmp_path / "reviews", dataset, {"folds": 1}, "expected 2 or more"),
        (tmp_path / "reviews", dataset, {"images": tmp_path / "absent"}, "is no folder"),
        (tmp_path / "reviews", dataset, {"patient_pattern": "x(y)"}, "finds no first group"),
    ):
        with pytest.raises(ConfigError, match=message):
            collect(source, target, **options)
    assert not dataset.exists()
    collect(tmp_path / "reviews", dataset, folds=3)
    with pytest.raises(ConfigError, match="was begun with 3 folds"):
        collect(tmp_path / "reviews", dataset, folds=4)
    assert collect(tmp_path / "reviews", dataset).unchanged == ["case0"]
    (dataset / "collected.json").write_text('{"format": 1, "cases": []}')
    with pytest.raises(ConfigError, match="is damaged"):
        collect(tmp_path / "reviews", dataset)
