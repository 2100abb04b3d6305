"""From files to a work folder; every bad case of a data set is named at once, and nothing half-made is left."""

import json

import numpy as np
import pytest
from mambasegment_training.prepare import open_work, prepare, sample_foreground

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume

from .conftest import SHAPE, labelled_case, write_case


def arrays_of(work, name):
    return [np.load(work / "cases" / f"{name}.{kind}.npy") for kind in ("image", "labels", "foreground")]


def test_a_work_folder(a_dataset, tmp_path):
    seen = []
    dataset = prepare(a_dataset(), tmp_path / "work", label_names={1: "grey", 2: "white"}, progress=seen.append)
    assert dataset.labels == {1: "grey", 2: "white"}
    assert dataset.class_count == 3
    assert dataset.patch_size == (16, 16, 16)
    assert (len(dataset.split.train), len(dataset.split.validation)) == (5, 1)
    for stage in ("checking", "preprocessing"):
        assert [(r.done, r.total) for r in seen if r.stage == stage] == [(n, 6) for n in range(1, 7)]

    image, labels, foreground = arrays_of(tmp_path / "work", "case_000")
    original = labelled_case(0)
    assert (image.dtype, image.shape, labels.dtype) == (np.float32, (1, *SHAPE), np.uint8)
    np.testing.assert_allclose(image[0], (original[0] - original[0].mean()) / original[0].std(), atol=1e-4)
    np.testing.assert_array_equal(labels, original[1])
    assert all(labels[k, j, i] == label for label, k, j, i in foreground)
    assert len(foreground) == np.count_nonzero(labels)


def test_the_same_seed_makes_the_same_folder(a_dataset, tmp_path):
    source = a_dataset()
    one, two = (prepare(source, tmp_path / name, seed=5) for name in ("one", "two"))
    assert one.split == two.split
    assert (tmp_path / "one" / "dataset.json").read_bytes() == (tmp_path / "two" / "dataset.json").read_bytes()
    again = prepare(source, tmp_path / "one", seed=5)  # over an old one
    assert again == one


def test_patients_stay_together(tmp_path):
    for patient in range(4):
        for visit in "ab":
            write_case(tmp_path / "set", f"p{patient}_{visit}", *labelled_case(patient))
    split = prepare(tmp_path / "set", tmp_path / "work", patient_pattern=r"^(p\d)", validation_fraction=0.3).split
    assert len(split.validation) == 2
    assert split.validation[0][:2] == split.validation[1][:2]


def test_validation_cases_by_name(a_dataset, tmp_path):
    dataset = prepare(a_dataset(3), tmp_path / "work", validation_cases=["case_001"])
    assert dataset.split.validation == ("case_001",)
    assert dataset.split_seed is None


def test_other_orientations_are_turned(tmp_path):
    image, labels = labelled_case(0)
    for number in range(3):
        write_case(tmp_path / "set", f"straight{number}", image, labels)
    turned = {"direction": (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)}
    write_case(tmp_path / "set", "turned", image[:, ::-1, ::-1].copy(), labels[:, ::-1, ::-1].copy(), **turned)
    prepare(tmp_path / "set", tmp_path / "work")
    for straight, flipped in zip(*(arrays_of(tmp_path / "work", n) for n in ("straight0", "turned")), strict=True):
        np.testing.assert_array_equal(straight, flipped)


def test_a_case_of_another_spacing_is_resampled(a_dataset, tmp_path):
    source = a_dataset(3)
    write_case(source, "fine", *labelled_case(3, (24, 14, 10)), spacing_mm=(1.0, 1.0, 0.5))
    prepare(source, tmp_path / "work")
    image, labels, _ = arrays_of(tmp_path / "work", "fine")
    assert image.shape[1:] == labels.shape == SHAPE
    assert set(np.unique(labels)) <= {0, 1, 2}


def test_slices_lie_across_the_thick_axis(a_dataset, tmp_path):
    dataset = prepare(a_dataset(3, spacing_mm=(4.0, 1.0, 1.0)), tmp_path / "work")  # thick along I, of 10 voxels
    assert (dataset.preprocessing.axis_order, dataset.preprocessing.spacing_mm) == ((2, 0, 1), (4.0, 1.0, 1.0))
    image, labels, _ = arrays_of(tmp_path / "work", "case_000")
    assert image.shape[1:] == labels.shape == (10, 12, 14)
    np.testing.assert_array_equal(labels, labelled_case(0)[1].transpose(2, 0, 1))
    assert dataset.plan.topologies[2].patch_size == (12, 14)


def test_nnunet_with_ignored_voxels(tmp_path):
    source = tmp_path / "Dataset001_Boxes"
    for kind in ("imagesTr", "labelsTr"):
        (source / kind).mkdir(parents=True)
    for number in range(3):
        image, labels = labelled_case(number)
        labels[0, 0, :3] = 3
        grid = {"spacing_mm": (1.0,) * 3, "origin_mm": (0.0,) * 3, "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
        for channel in range(2):
            write_volume(Volume(image + channel, **grid), source / "imagesTr" / f"c{number}_000{channel}.nii.gz")
        write_volume(Volume(labels, **grid), source / "labelsTr" / f"c{number}.nii.gz")
    names = {"background": 0, "grey": 1, "white": 2, "ignore": 3}
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": names, "file_ending": ".nii.gz"}
    (source / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = prepare(source, tmp_path / "work")
    assert (dataset.channels, dataset.labels, dataset.ignore_label) == (("T1", "T2"), {1: "grey", 2: "white"}, 3)
    image, labels, foreground = arrays_of(tmp_path / "work", "c0")
    assert image.shape == (2, *SHAPE)
    assert np.count_nonzero(labels == 3) == 3
    assert set(foreground[:, 0]) == {1, 2}  # nobody looks for ignored voxels


def test_all_bad_cases_are_named_at_once(a_dataset, tmp_path):
    source = a_dataset(8)
    image, labels = labelled_case(0)
    write_case(source, "case_000", image, labels[:-1])
    write_case(source, "case_001", image, np.full(SHAPE, 300, np.int16))
    write_case(source, "case_002", image, labels * 0.5)
    write_case(source, "case_003", np.full(SHAPE, 7.0, np.float32), labels)
    grid = {"spacing_mm": (1.0,) * 3, "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
    (source / "images" / "case_004.nii.gz").unlink()  # ITK reads a NaN of NIfTI as 0
    holes = np.where(labels == 1, np.nan, image).astype(np.float32)
    write_volume(Volume(holes, origin_mm=(0.0,) * 3, **grid), source / "images" / "case_004.nrrd")
    (source / "labels" / "case_005.nii.gz").write_bytes(b"no image")
    write_volume(Volume(labels, origin_mm=(0.0, 5.0, 0.0), **grid), source / "labels" / "case_006.nii.gz")
    with pytest.raises(ImageError) as caught:
        prepare(source, tmp_path / "work")
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 of 8 cases cannot be used:"
    assert lines[-1].endswith("report.html shows them all")
    for line, expected in zip(
        lines[1:-1],
        (
            "case_000: images/case_000.nii.gz and labels/case_000.nii.gz lie on different grids: (12, 14, 10) voxels",
            "case_001: labels/case_001.nii.gz holds the values 300; labels are whole numbers from 0 to 254",
            "case_002: labels/case_002.nii.gz holds the values 0, 0.5, 1; labels are whole numbers",
            "case_003: images/case_003.nii.gz has the same value everywhere",
            "case_004: images/case_004.nrrd holds voxels that are NaN or infinite",
            "case_005: ",
            "case_006: images/case_006.nii.gz and labels/case_006.nii.gz lie on different grids",
        ),
        strict=True,
    ):
        assert line.strip().startswith(expected)
    assert not (tmp_path / "work" / "dataset.json").exists()
    report = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))
    assert (report["cases"], report["errors"], len(report["facts"])) == (8, 7, 1)


def test_undeclared_labels(a_dataset, tmp_path):
    with pytest.raises(ImageError, match=r"holds label 2 \(\d+ voxels\), which is not declared; declared: 0, 1"):
        prepare(a_dataset(2), tmp_path / "work", label_names={1: "grey"})


def test_labels_with_gaps(tmp_path):
    for number in range(2):
        image, labels = labelled_case(number)
        write_case(tmp_path / "set", f"c{number}", image, np.where(labels == 2, 5, labels).astype(np.uint8))
    with pytest.raises(ConfigError, match=r"the labels are \[1, 5\]; expected 1 to 2 without gaps"):
        prepare(tmp_path / "set", tmp_path / "work")


def test_nothing_labelled(tmp_path):
    for number in range(2):
        write_case(tmp_path / "set", f"c{number}", labelled_case(number)[0], np.zeros(SHAPE, np.uint8))
    with pytest.raises(ConfigError, match="no case has a labelled voxel"):
        prepare(tmp_path / "set", tmp_path / "work")


def test_one_case_cannot_be_split(a_dataset, tmp_path):
    with pytest.raises(ConfigError, match="2 are needed"):
        prepare(a_dataset(1), tmp_path / "work")


def test_folders_that_were_never_prepared(tmp_path):
    with pytest.raises(ConfigError, match="run `mambatrain prepare` first"):
        open_work(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": 0}', encoding="utf-8")
    with pytest.raises(ConfigError, match="is not of format 1"):
        open_work(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(ConfigError, match="run `mambatrain prepare` again"):
        open_work(tmp_path)


def test_a_work_folder_that_cannot_be_made(a_dataset, tmp_path):
    (tmp_path / "work").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot make"):
        prepare(a_dataset(2), tmp_path / "work")


def test_foreground_is_a_sample_where_there_is_much_of_it():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:, :, :15] = 1
    labels[3, 4, 19] = 2
    rows = sample_foreground(labels, seed=1)
    assert np.count_nonzero(rows[:, 0] == 1) == 2000
    assert len(np.unique(rows, axis=0)) == len(rows)
    np.testing.assert_array_equal(rows[rows[:, 0] == 2], [[2, 3, 4, 19]])
    np.testing.assert_array_equal(rows, sample_foreground(labels, seed=1))
    assert sample_foreground(np.zeros((2, 2, 2), np.uint8), seed=1).shape == (0, 4)


def test_work_folders_of_before_are_read(a_dataset, tmp_path):
    """They have one split, a patch alone, and neither regions nor a way to read their files."""
    new = prepare(a_dataset(), tmp_path / "work")
    content = json.loads((tmp_path / "work" / "dataset.json").read_text(encoding="utf-8"))
    for key in ("folds", "regions", "reading"):
        del content[key]
    content["plan"] = {"patch_size": [16, 16, 16], "size_multiple": 8}
    (tmp_path / "work" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    old = open_work(tmp_path / "work")
    assert old.folds == (old.split,) == (new.folds[0],)
    assert (old.patch_size, old.plan.topologies, old.regions) == ((16, 16, 16), {}, ())
    assert old.read_source("case_000")[1].array.shape == SHAPE
