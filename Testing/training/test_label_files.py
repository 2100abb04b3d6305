"""Labels by the names of segments, whatever numbers and grids the files have."""

import numpy as np
import pytest
from mambasegment_training.label_files import onto_grid, read_labels, segment_names

from MambaSegmentLib.dicom_series import read_dicom_series
from MambaSegmentLib.errors import GeometryError, ImageError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.volume import Volume

from .label_makers import write_rtstruct, write_seg_nrrd

IMAGE = Volume(np.zeros((6, 8, 10), np.float32))
LIVER, SPLEEN = (np.zeros((6, 8, 10), bool) for _ in range(2))
LIVER[1:3, 2:4, 2:5] = True
SPLEEN[4, 5, 6:9] = True
WANTED = {"liver": 1, "spleen": 2}


def test_a_slicer_segmentation_by_names(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    write_seg_nrrd(path, {"Spleen": SPLEEN, "LIVER": LIVER})
    assert segment_names(path) == ["Spleen", "LIVER"]
    labels = read_labels(path, IMAGE, WANTED)
    np.testing.assert_array_equal(labels.array, LIVER * 1 + SPLEEN * 2)
    assert labels.same_grid(IMAGE)


def test_a_segmentation_of_a_part_of_the_grid(tmp_path):
    """Slicer can crop to what is segmented; here voxels from (K, J, I) = (1, 2, 2) on."""
    corner = np.eye(4)
    corner[:3, 3] = (2, 2, 1)
    write_seg_nrrd(tmp_path / "a.seg.nrrd", {"liver": LIVER[1:3, 2:4, 2:5]}, corner)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.seg.nrrd", IMAGE, WANTED).array, LIVER)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            {"liver": LIVER, "kidney": SPLEEN},
            "has the segment 'kidney', which is not declared; declared: liver, spleen",
        ),
        ({"liver": LIVER, "spleen": LIVER | SPLEEN}, "'spleen' and 'liver' overlap in 12 voxels"),
    ],
)
def test_segments_that_cannot_be_labels(tmp_path, masks, message):
    write_seg_nrrd(tmp_path / "a.seg.nrrd", masks)
    with pytest.raises(ImageError, match=message):
        read_labels(tmp_path / "a.seg.nrrd", IMAGE, WANTED)


def test_other_segments_can_be_left_out(tmp_path):
    write_seg_nrrd(tmp_path / "a.seg.nrrd", {"liver": LIVER, "body": LIVER | SPLEEN})
    labels = read_labels(tmp_path / "a.seg.nrrd", IMAGE, WANTED, ignore_others=True)
    np.testing.assert_array_equal(labels.array, LIVER)


def test_a_segmentation_on_another_grid_of_the_same_size(tmp_path):
    """Half a voxel beside: it keeps its grid, for the caller to refuse."""
    beside = np.eye(4)
    beside[0, 3] = 0.5
    write_seg_nrrd(tmp_path / "a.seg.nrrd", {"liver": LIVER}, beside)
    assert not read_labels(tmp_path / "a.seg.nrrd", IMAGE, WANTED).same_grid(IMAGE, 0.1)


def test_a_damaged_segmentation(tmp_path):
    (tmp_path / "a.seg.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(ImageError, match="cannot read"):
        read_labels(tmp_path / "a.seg.nrrd", IMAGE, WANTED)


def test_grids_that_share_voxels(tmp_path):
    """Turned about the K axis, and with slices in the other order, the voxels are the same ones."""
    turned = Volume(
        np.ascontiguousarray(LIVER[::-1, ::-1, ::-1].astype(np.uint8)),
        origin_mm=(9.0, 7.0, 5.0),
        direction=(-1, 0, 0, 0, -1, 0, 0, 0, -1),
    )
    np.testing.assert_array_equal(onto_grid(turned, IMAGE, tmp_path).array, LIVER)
    between = Volume(LIVER.astype(np.uint8), origin_mm=(0.5, 0.0, 0.0))
    assert onto_grid(between, IMAGE, tmp_path) is between
    coarse = Volume(LIVER.astype(np.uint8), spacing_mm=(2.0, 1.0, 1.0))
    assert onto_grid(coarse, IMAGE, tmp_path) is coarse
    outside = Volume(LIVER.astype(np.uint8), origin_mm=(0.0, 0.0, -2.0))
    with pytest.raises(GeometryError, match="6 labelled voxels outside its image"):
        onto_grid(outside, IMAGE, tmp_path)


def test_a_dicom_segmentation(shared):
    """The same liver was also stored as a label map, by the tool that wrote the DICOM file."""
    folder = shared / "data" / "dicom_ct_with_seg"
    image = read_dicom_series(folder / "ct")
    assert [name.casefold() for name in segment_names(folder / "liver_seg.dcm")] == ["liver"]
    labels = read_labels(folder / "liver_seg.dcm", image, {"liver": 1})
    expected = onto_grid(read_volume(folder / "liver_seg.nrrd"), image, folder)
    np.testing.assert_array_equal(labels.array, expected.array)
    assert labels.array.any()


def square(i0: float, i1: float, k: float):
    return [(i0, 1.5, k), (i1, 1.5, k), (i1, 4.5, k), (i0, 4.5, k)]


def test_a_structure_set(tmp_path):
    """Squares through 1.5 and 4.5 mm hold the voxel centres 2, 3 and 4 of each axis; odd names make no files."""
    pytest.importorskip("plastimatch")
    structures = {"../../GTV/left": [square(1.5, 4.5, k) for k in (2, 3)], "Lunge": [square(6.5, 8.5, 3)], "empty": []}
    write_rtstruct(tmp_path / "a.dcm", structures)
    assert segment_names(tmp_path / "a.dcm") == ["../../GTV/left", "Lunge", "empty"]
    labels = read_labels(tmp_path / "a.dcm", IMAGE, {"../../gtv/left": 1, "lunge": 2})
    expected = np.zeros(IMAGE.array.shape)
    expected[2:4, 2:5, 2:5] = 1
    expected[3, 2:5, 7:9] = 2
    np.testing.assert_array_equal(labels.array, expected)
    oblique = Volume(IMAGE.array, direction=(0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    with pytest.raises(GeometryError, match="not axial"):
        read_labels(tmp_path / "a.dcm", oblique, {"../../gtv/left": 1, "lunge": 2})


def test_dicom_that_is_no_segmentation(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no dicom")
    with pytest.raises(ImageError, match="cannot read"):
        segment_names(tmp_path / "a.dcm")
