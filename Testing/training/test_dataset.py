"""Which files make a case, in both layouts, and what is said when they do not."""

import json
from pathlib import Path

import pytest
from mambasegment_training.dataset import find_dataset

from MambaSegmentLib.errors import ConfigError, ImageError


def touch(folder: Path, *names: str) -> Path:
    """Empty files: only names are looked at here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def nnunet(folder: Path, content: dict, images: list[str], labels: list[str]) -> Path:
    touch(folder / "imagesTr", *images)
    touch(folder / "labelsTr", *labels)
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_images_and_labels(tmp_path):
    touch(tmp_path / "set" / "images", "b.nii.gz", "a.nrrd", "notes.txt", ".hidden.nii.gz")
    touch(tmp_path / "set" / "labels", "b.mha", "a.nii")  # the endings may differ
    dataset = find_dataset(tmp_path / "set")
    assert (dataset.name, dataset.channels, dataset.label_names) == ("set", ("image",), None)
    assert [case.identifier for case in dataset.cases] == ["a", "b"]
    assert [case.patient for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[1].images == (tmp_path / "set" / "images" / "b.nii.gz",)
    assert dataset.cases[1].labels == tmp_path / "set" / "labels" / "b.mha"


def test_channels_of_one_case_belong_together(tmp_path):
    touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "b_0000.nii.gz")
    touch(tmp_path / "labels", "a.nii.gz", "b.nii.gz")
    dataset = find_dataset(tmp_path)
    assert dataset.channels == ("channel 0", "channel 1")
    assert [path.name for path in dataset.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_nnunet_raw(tmp_path):
    content = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "lesion": 1, "ignore": 2},
        "file_ending": ".nii.gz",
    }
    folder = nnunet(tmp_path / "Dataset042_Lesions", content, ["p_0000.nii.gz", "p_0001.nii.gz"], ["p.nii.gz"])
    dataset = find_dataset(folder)
    assert (dataset.name, dataset.channels) == ("Lesions", ("T1", "FLAIR"))
    assert (dataset.label_names, dataset.ignore_label) == ({1: "lesion"}, 2)


def test_the_decathlon_writes_labels_the_other_way_round(tmp_path):
    content = {"name": "Hippocampus", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior"}}
    dataset = find_dataset(nnunet(tmp_path, content, ["p.nii.gz"], ["p.nii.gz"]))
    assert (dataset.name, dataset.channels, dataset.label_names) == ("Hippocampus", ("MRI",), {1: "Anterior"})


def test_regions(tmp_path):
    labels = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    content = {"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [1, 2, 3]}
    dataset = find_dataset(nnunet(tmp_path, content, ["p_0000.nii.gz"], ["p.nii.gz"]))
    assert [(r.name, r.labels, r.value) for r in dataset.regions] == [
        ("whole tumour", (1, 2, 3), 1),
        ("core", (2, 3), 2),
        ("enhancing", (3,), 3),
    ]
    assert dataset.label_names == {1: "whole tumour", 2: "core", 3: "enhancing"}


def test_patients_from_names(tmp_path):
    touch(tmp_path / "images", "s01_a.nii.gz", "s01_b.nii.gz", "s02_a.nii.gz")
    touch(tmp_path / "labels", "s01_a.nii.gz", "s01_b.nii.gz", "s02_a.nii.gz")
    assert [case.patient for case in find_dataset(tmp_path, r"^(s\d+)").cases] == ["s01", "s01", "s02"]
    for pattern, message in (("(", "no regular expression"), ("s", "finds no first group"), ("(x)", "finds no first")):
        with pytest.raises(ConfigError, match=message):
            find_dataset(tmp_path, pattern)


def test_no_data_set(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match=r"is no data set: expected images/ and labels/"):
            find_dataset(folder)


def test_empty_folders(tmp_path):
    touch(tmp_path / "images", "readme.txt")
    touch(tmp_path / "labels")
    with pytest.raises(ImageError, match=r"images holds no image; expected files ending in \.nii\.gz"):
        find_dataset(tmp_path)


def test_labels_folder_of_nnunet_missing(tmp_path):
    folder = nnunet(tmp_path, {"labels": {"a": 1}}, ["p_0000.nii.gz"], [])
    (folder / "labelsTr").rmdir()
    with pytest.raises(ConfigError, match="labelsTr does not exist"):
        find_dataset(folder)


def test_files_without_a_counterpart(tmp_path):
    touch(tmp_path / "images", "a.nii.gz", "b.nii.gz")
    touch(tmp_path / "labels", "b.nii.gz", "c.nii.gz")
    with pytest.raises(ImageError, match="a without labels, c without image"):
        find_dataset(tmp_path)


def test_a_missing_channel(tmp_path):
    touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    touch(tmp_path / "labels", "a.nii.gz", "b.nii.gz")
    with pytest.raises(ImageError, match=r"case b has the channels \[0\]; expected 0 to 1"):
        find_dataset(tmp_path)


def test_the_same_case_twice(tmp_path):
    touch(tmp_path / "images", "a.nii.gz", "a.nrrd")
    touch(tmp_path / "labels", "a.nii.gz")
    with pytest.raises(ImageError, match="are the same case twice"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"channel_names": {"0": "T1"}}, "has no 'labels'"),
        ({"labels": {"whole": [1, 2], "core": 2}}, r"regions_class_order is None; expected .* each of 2 regions"),
        ({"labels": {"background": 0, "tumour": "x"}}, "has no number"),
        ({"labels": {"a": 1}, "channel_names": {"0": "T1", "1": "T2"}}, "names 2 channels, but cases have 1 image"),
    ],
)
def test_a_description_that_makes_no_sense(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message):
        find_dataset(nnunet(tmp_path, content, ["p_0000.nii.gz"], ["p.nii.gz"]))


@pytest.mark.parametrize("content", [{"labels": ["background", "a"]}, {"labels": {"a": 1}, "channel_names": ["T1"]},
                                     {"labels": {"a": 1}, "channel_names": {"first": "T1"}}])  # fmt: skip
def test_a_description_of_other_types(tmp_path, content):
    with pytest.raises(ConfigError, match="expected"):
        find_dataset(nnunet(tmp_path, content, ["p_0000.nii.gz"], ["p.nii.gz"]))


def test_a_description_that_is_no_json(tmp_path):
    folder = nnunet(tmp_path, {}, ["p_0000.nii.gz"], ["p.nii.gz"])
    (folder / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="see nnU-Net's page on the dataset format"):
        find_dataset(folder)
