"""DICOM folders: one even, straight series becomes a volume; everything else is refused by name."""

import numpy as np
import pytest

from MambaSegmentLib.errors import GeometryError, ImageError
from MambaSegmentLib.image_io import read_volume
from Testing.dicom_files import COLUMN, NORMAL, ORIGIN, ROW, STEP_MM, pixels, write_series, write_slice


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "series").mkdir()
    return tmp_path / "series"


def test_slices_are_sorted_by_position_and_placed_by_their_headers(folder):
    write_series(folder)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, np.stack([pixels(index) for index in range(4)]))
    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 2.5))
    assert volume.origin_mm == pytest.approx(tuple(ORIGIN))
    np.testing.assert_allclose(np.reshape(volume.direction, (3, 3)), np.column_stack([ROW, COLUMN, NORMAL]))
    far = volume.ijk_to_lps @ (3, 2, 3, 1)
    np.testing.assert_allclose(far[:3], ORIGIN + 3 * 0.75 * ROW + 2 * 0.5 * COLUMN + 3 * 2.5 * NORMAL)


def test_a_folder_may_have_any_letters_and_other_files(tmp_path):
    folder = tmp_path / "Größe 海马"
    folder.mkdir()
    write_series(folder)
    (folder / "notes.txt").write_text("no DICOM")
    assert read_volume(folder).array.shape == (4, 3, 4)


def test_one_slice_is_a_volume_with_its_thickness(folder):
    write_series(folder, [0])
    volume = read_volume(folder)
    assert volume.array.shape == (1, 3, 4)
    assert volume.spacing_mm == pytest.approx((0.75, 0.5, 2.5))


def test_several_series_are_refused_by_name(folder):
    write_series(folder, series="1.2.3.1")
    write_series(folder, series="1.2.3.2", t0008_103e="T2")
    with pytest.raises(ImageError, match=r"2 DICOM series.*1\.2\.3\.1 \(MR T1 sagittal, 4 files\).*1\.2\.3\.2 \(MR T2"):
        read_volume(folder)


def test_objects_without_an_image_are_no_second_series(folder):
    write_series(folder)
    write_slice(folder / "seg.dcm", 0, series="1.2.3.9", t0008_0060="SEG")
    assert read_volume(folder).array.shape == (4, 3, 4)
    with pytest.raises(ImageError, match="DICOM SEG object"):
        read_volume(folder / "seg.dcm")


def test_a_single_slice_file_is_read_with_a_warning(folder, caplog):
    write_series(folder)
    assert read_volume(folder / "99.dcm").array.shape == (1, 3, 4)
    assert "give its folder" in caplog.text


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([0, 1, 3, 4], r"2\.5 mm apart.*79\.dcm|89\.dcm.*69\.dcm 5 mm"),
        ([0, 1, 2, 3.3], r"not evenly spaced"),
        ([0, 1, 1.001, 2], "several slices at one place"),
    ],
)
def test_missing_uneven_and_doubled_slices_are_refused(folder, indices, said):
    write_series(folder, indices)
    with pytest.raises(GeometryError, match=said):
        read_volume(folder)


def test_rounded_positions_are_no_gap(folder):
    write_series(folder, [0, 1.003, 1.998, 3.002])
    assert read_volume(folder).spacing_mm[2] == pytest.approx(2.5, rel=2e-3)


def test_gantry_tilt_is_refused(folder):
    for index in range(4):
        shifted = ORIGIN + index * (STEP_MM * NORMAL + 0.3 * COLUMN)
        write_slice(folder / f"{index}.dcm", index, t0020_0032="\\".join(f"{value:.10g}" for value in shifted))
    with pytest.raises(GeometryError, match=r"gantry tilt of 6\.8 degrees"):  # atan(0.3 / 2.5)
        read_volume(folder)


def test_unlike_slices_are_refused(folder):
    write_series(folder, range(3))
    write_slice(folder / "wide.dcm", 3, array=np.zeros((5, 6), np.int16))
    with pytest.raises(ImageError, match=r"\(4, 3\) and of \(6, 5\) pixels"):
        read_volume(folder)
    write_slice(folder / "wide.dcm", 3, t0028_0030="1\\1")
    with pytest.raises(GeometryError, match="pixels of"):
        read_volume(folder)
    write_slice(folder / "wide.dcm", 3, t0020_0037="1\\0\\0\\0\\1\\0")
    with pytest.raises(GeometryError, match="several orientations"):
        read_volume(folder)


def test_a_damaged_slice_is_named_not_left_out(folder):
    write_series(folder)
    last = folder / "99.dcm"
    last.write_bytes(last.read_bytes()[:400])
    with pytest.raises(ImageError, match=r"99\.dcm is damaged"):
        read_volume(folder)


def test_folders_without_a_series_are_refused(tmp_path):
    with pytest.raises(ImageError, match="no DICOM image series"):
        read_volume(tmp_path)


def test_real_series(shared):
    head = read_volume(shared / "data" / "dicom_ct_head")
    assert head.array.shape == (93, 64, 64)
    assert head.spacing_mm == pytest.approx((3.2, 3.2, 1.5))
    abdomen = read_volume(shared / "data" / "dicom_ct_with_seg" / "ct")
    liver = read_volume(shared / "data" / "dicom_ct_with_seg" / "liver_seg.nrrd")
    assert abdomen.same_grid(liver, tolerance_mm=1e-4)
    # in Hounsfield units, so the rescale intercept of -1024 was applied
    assert abdomen.array[liver.array == 1].mean() == pytest.approx(40, abs=40)  # soft tissue
