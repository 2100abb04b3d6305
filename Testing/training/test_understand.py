"""Pictures, black-and-white masks, gaps between numbers, and segments by names, from files to a work folder."""

import json
import shutil

import numpy as np
import pytest
from mambasegment_training.dataset import find_dataset
from mambasegment_training.fingerprint import Wishes
from mambasegment_training.prepare import prepare
from mambasegment_training.understand import understand
from PIL import Image

from MambaSegmentLib.errors import ConfigError, ImageError

from .conftest import labelled_case, write_case
from .label_makers import write_seg_nrrd


def write_pictures(folder, count=4, colours="grey", white=255, ending="png"):
    """Pictures with a bright box; masks have `white` for it."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = np.zeros((24, 30), np.uint8)
        mask[5:15, 6 + number : 20] = 1
        grey = (rng.integers(0, 60, mask.shape) + 150 * mask).astype(np.uint8)
        layers = {"grey": grey, "rgba": np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)}
        layers["colour"] = np.stack([grey, grey // 2, 255 - grey], -1)
        Image.fromarray(layers[colours]).save(folder / "images" / f"p{number}.{ending}")
        Image.fromarray(mask * white).save(folder / "labels" / f"p{number}.png")
    return folder


@pytest.mark.parametrize(("colours", "channels"), [("grey", 1), ("rgba", 1), ("colour", 3)])
def test_pictures(tmp_path, colours, channels):
    dataset = prepare(write_pictures(tmp_path / "set", colours=colours), tmp_path / "work", label_names={1: "box"})
    assert dataset.labels == {1: "box"}
    assert len(dataset.channels) == channels
    assert dataset.plan.flat
    image = np.load(tmp_path / "work" / "cases" / "p0.image.npy")
    labels = np.load(tmp_path / "work" / "cases" / "p0.labels.npy")
    assert image.shape == (channels, 1, 24, 30)
    assert labels.shape == (1, 24, 30)
    assert labels.sum() == 10 * 14
    images, stored = dataset.read_source("p0")
    assert len(images) == channels
    np.testing.assert_array_equal(stored.array, labels)


def test_grey_and_coloured_pictures_together_have_three_channels(tmp_path):
    write_pictures(tmp_path / "set", 2, "colour")
    Image.open(tmp_path / "set" / "images" / "p0.png").convert("L").save(tmp_path / "set" / "images" / "p0.png")
    dataset = understand(find_dataset(tmp_path / "set"))
    assert (dataset.channels, dataset.reading.picture_channels) == (("red", "green", "blue"), 3)


def test_nnunet_writes_three_channels_into_one_picture(tmp_path):
    source = write_pictures(tmp_path / "set", 2, "rgba", white=1)
    (source / "images").rename(source / "imagesTr")
    (source / "labels").rename(source / "labelsTr")
    for path in (source / "imagesTr").iterdir():
        path.rename(path.with_name(f"{path.stem}_0000.png"))
    content = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "box": 1}}
    (source / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = understand(find_dataset(source))
    assert (dataset.channels, dataset.reading.picture_channels) == (("R", "G", "B"), 3)


def test_a_mask_in_colours_is_refused(tmp_path):
    source = write_pictures(tmp_path / "set", 2)
    Image.new("RGB", (30, 24), (255, 0, 0)).save(source / "labels" / "p1.png")
    with pytest.raises(ImageError, match=r"labels/p1\.png is a mask in colours; save the label values"):
        prepare(source, tmp_path / "work")


def test_masks_of_other_values_keep_them(tmp_path):
    """128 among 0 and 255 is no black-and-white mask: nobody said what it is."""
    source = write_pictures(tmp_path / "set", 3)
    mask = np.asarray(Image.open(source / "labels" / "p1.png")).copy()
    mask[0, 0] = 128
    Image.fromarray(mask).save(source / "labels" / "p1.png")
    with pytest.raises((ConfigError, ImageError), match=r"255"):
        prepare(source, tmp_path / "work")


def test_several_pages_are_no_picture(tmp_path):
    source = write_pictures(tmp_path / "set", 2)
    pages = [Image.new("L", (30, 24), n) for n in range(3)]
    pages[0].save(source / "images" / "p2.tif", save_all=True, append_images=pages[1:])
    Image.new("L", (30, 24)).save(source / "labels" / "p2.png")
    with pytest.raises(ImageError, match="has 3 pages"):
        prepare(source, tmp_path / "work")


def test_gaps_are_closed_on_request_alone(tmp_path):
    for number in range(3):
        image, labels = labelled_case(number)
        write_case(tmp_path / "set", f"c{number}", image, np.where(labels == 2, 5, labels).astype(np.uint8))
    with pytest.raises(ConfigError, match=r"the labels are \[1, 5\].*--renumber"):
        prepare(tmp_path / "set", tmp_path / "work")
    dataset = prepare(tmp_path / "set", tmp_path / "work", label_names={1: "grey", 5: "white"}, renumber=True)
    assert dataset.labels == {1: "grey", 2: "white"}
    assert dataset.reading.renumbering == {5: 2}
    stored = np.load(tmp_path / "work" / "cases" / "c0.labels.npy")
    np.testing.assert_array_equal(stored, labelled_case(0)[1])
    with pytest.raises(ConfigError, match="label 7 is named, but no file has it; found: 1, 5"):
        prepare(tmp_path / "set", tmp_path / "work", label_names={1: "grey", 7: "white"}, renumber=True)


def test_segments_of_slicer_are_labels_by_name(tmp_path):
    source = tmp_path / "set"
    for number in range(3):
        image, labels = labelled_case(number)
        write_case(source, f"c{number}", image, labels)
        (source / "labels" / f"c{number}.nii.gz").unlink()
        masks = {"grey": labels == 1, "white": labels == 2}
        order = list(masks) if number else list(reversed(masks))
        write_seg_nrrd(source / "labels" / f"c{number}.seg.nrrd", {name: masks[name] for name in order})
    found = understand(find_dataset(source))
    assert found.label_names == {1: "white", 2: "grey"}  # as first met
    dataset = prepare(source, tmp_path / "work", label_names={1: "Grey", 2: "White"})
    assert dataset.labels == {1: "Grey", 2: "White"}
    for number in range(3):
        stored = np.load(tmp_path / "work" / "cases" / f"c{number}.labels.npy")
        np.testing.assert_array_equal(stored, labelled_case(number)[1])


def test_names_and_numbers_do_not_mix(tmp_path):
    source = tmp_path / "set"
    for number in range(2):
        write_case(source, f"c{number}", *labelled_case(number))
    (source / "labels" / "c1.nii.gz").unlink()
    write_seg_nrrd(source / "labels" / "c1.seg.nrrd", {"grey": labelled_case(1)[1] == 1})
    with pytest.raises(ConfigError, match=r"c0\.nii\.gz has numbers, and other label files have names"):
        understand(find_dataset(source))


def test_dicom_series_with_dicom_segmentations(shared, tmp_path):
    """A folder of slices for the image; the segmentation alone, or in a folder of its own."""
    source = shared / "data" / "dicom_ct_with_seg"
    for case in ("one", "two"):
        shutil.copytree(source / "ct", tmp_path / "set" / "images" / case)
    (tmp_path / "set" / "labels" / "two").mkdir(parents=True)
    shutil.copy(source / "liver_seg.dcm", tmp_path / "set" / "labels" / "one.dcm")
    shutil.copy(source / "liver_seg.dcm", tmp_path / "set" / "labels" / "two" / "1-1.dcm")
    dataset = prepare(tmp_path / "set", tmp_path / "work", wishes=Wishes(resize=(64, 64)))
    assert [name.casefold() for name in dataset.labels.values()] == ["liver"]
    one, two = (np.load(tmp_path / "work" / "cases" / f"{case}.labels.npy") for case in ("one", "two"))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (3, 64, 64)
    assert one.any()
