"""Images on disk: kept exactly, or refused in words a user understands."""

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from MambaSegmentLib.errors import GeometryError, ImageError, ResourceError, ShapeError
from MambaSegmentLib.image_io import WRITABLE_ENDINGS, check_writable, read_volume, write_volume
from MambaSegmentLib.volume import Volume

SHEARED_SFORM = (1, 0, 0.3, 0, 0, 1, 0, 0, 0, 0, 1, 0)


def an_image() -> sitk.Image:
    """4 × 3 × 2 voxels of 1 × 2 × 3 mm, large enough in bytes to be cut."""
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetSpacing((1, 2, 3))
    return image


def a_file(path: Path, compressed: bool = False) -> Path:
    sitk.WriteImage(an_image(), str(path), compressed)
    return path


def a_nifti(path: Path, **fields) -> Path:
    """The image as NIfTI-1 with some header fields overwritten."""
    places = {"dim": ("<8h", 40), "pixdim": ("<4f", 76), "codes": ("<2h", 252), "sform": ("<12f", 280)}
    content = bytearray(a_file(path.with_name("plain.nii")).read_bytes())
    for name, values in fields.items():
        layout, offset = places[name]
        struct.pack_into(layout, content, offset, *values)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def a_text_header(path: Path, *changes: tuple[str, str], compressed: bool = False) -> Path:
    """The image as NRRD or MetaImage with lines of the header replaced."""
    content = a_file(path, compressed).read_bytes()
    for pattern, replacement in changes:
        content, count = re.subn(pattern.encode(), replacement.encode(), content, count=1)
        assert count == 1, f"{pattern} is not in the header"
    path.write_bytes(content)
    return path


# --- there and back -------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    permutation=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
)
@pytest.mark.parametrize("ending", WRITABLE_ENDINGS)
def test_written_volumes_come_back(tmp_path_factory, ending, angles, permutation, flips, spacing, origin, dtype):
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.eye(3)[permutation] * flips
    array = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 4).astype(dtype)
    volume = Volume(array, spacing, origin, tuple(axes.ravel()))
    path = tmp_path_factory.mktemp("volumes") / f"volume{ending}"
    write_volume(volume, path)
    back = read_volume(path)
    assert back.array.dtype == array.dtype
    np.testing.assert_array_equal(back.array, array)
    # NIfTI holds float32: 2000 mm are kept to 0.0001 mm; the others write 17 digits.
    assert back.same_grid(volume, tolerance_mm=5e-4 if ".nii" in ending else 1e-9)


@pytest.mark.parametrize("ending", WRITABLE_ENDINGS)
def test_folders_and_files_may_have_any_letters(tmp_path, ending):
    folder = tmp_path / "Müller, Zoë 海马"
    folder.mkdir()
    volume = Volume(np.ones((2, 2, 2), np.uint8))
    write_volume(volume, folder / f"Köpf chen{ending}")
    np.testing.assert_array_equal(read_volume(folder / f"Köpf chen{ending}").array, volume.array)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("written_last", [".nii", ".nii.gz"])
def test_a_compressed_file_beside_its_namesake_keeps_its_own_voxels(tmp_path, written_last):
    """ITK reads the header of x.nii.gz and the voxels of x.nii; seen with ITK 5.4."""
    first = ".nii.gz" if written_last == ".nii" else ".nii"
    for number, ending in enumerate((first, written_last)):
        write_volume(Volume(np.full((2, 2, 2), number, np.int16)), tmp_path / f"x{ending}")
    for number, ending in enumerate((first, written_last)):
        assert read_volume(tmp_path / f"x{ending}").array[0, 0, 0] == number


def test_bool_is_written_as_uint8(tmp_path):
    write_volume(Volume(np.ones((2, 2, 2), bool)), tmp_path / "mask.nii.gz")
    assert read_volume(tmp_path / "mask.nii.gz").array.dtype == np.uint8


def test_a_two_dimensional_file_is_one_slice(tmp_path):
    image = sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in ("flat.png", "flat.nrrd", "flat.mha", "flat.nii"):
        sitk.WriteImage(image, str(tmp_path / name))
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, [[[0, 1, 2], [3, 4, 5]]])


def test_one_time_point_is_a_volume(tmp_path):
    volume = read_volume(a_nifti(tmp_path / "x.nii", dim=(4, 4, 3, 2, 1, 1, 1, 1)))
    assert volume.array.shape == (2, 3, 4)


def test_nifti_of_the_other_byte_order_is_read_and_checked(tmp_path):
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 4, 16)  # int16
    struct.pack_into(">4f", header, 76, 1, 1, 2, 3)
    struct.pack_into(">f", header, 108, 352)
    struct.pack_into(">2h", header, 252, 1, 0)
    header[344:348] = b"n+1\0"
    voxels = np.arange(24, dtype=">i2")
    (tmp_path / "big.nii").write_bytes(header + voxels.tobytes())
    volume = read_volume(tmp_path / "big.nii")
    assert volume.spacing_mm == (1, 2, 3)
    np.testing.assert_array_equal(volume.array.ravel(), voxels)
    (tmp_path / "cut.nii").write_bytes(header + voxels.tobytes()[:-1])
    with pytest.raises(ImageError, match="399 of the 400 bytes"):
        read_volume(tmp_path / "cut.nii")


def test_nifti_2_is_refused_by_its_name(tmp_path):
    (tmp_path / "x.nii").write_bytes(struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(600))
    with pytest.raises(ImageError, match="NIfTI-2"):
        read_volume(tmp_path / "x.nii")


# --- refused: geometry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_impossible_nifti_spacing_is_refused(tmp_path, bad, ending):
    with pytest.raises(GeometryError, match="pixdim"):
        read_volume(a_nifti(tmp_path / f"x{ending}", pixdim=(1, 1, 2, bad)))


@pytest.mark.parametrize("bad", ["0", "-3", "nan", "what"])
def test_impossible_nrrd_spacing_is_refused(tmp_path, bad):
    if bad in ("0", "nan"):  # a vector has a direction of its own, and so may be negative
        with pytest.raises(GeometryError, match="space directions"):
            read_volume(a_text_header(tmp_path / "a.nrrd", (r"\(0,0,3\)", f"(0,0,{bad})")))
    old_style = (("space: .*\n", ""), ("space directions: .*", f"spacings: 1 2 {bad}"), ("space origin: .*\n", ""))
    with pytest.raises(GeometryError, match="spacings"):
        read_volume(a_text_header(tmp_path / "b.nrrd", *old_style))


@pytest.mark.parametrize("bad", ["0", "-3", "nan", "what"])
@pytest.mark.parametrize("key", ["ElementSpacing", "ElementSize"])
def test_impossible_metaimage_spacing_is_refused(tmp_path, bad, key):
    with pytest.raises(GeometryError, match="elements"):
        read_volume(a_text_header(tmp_path / "x.mha", ("ElementSpacing = 1 2 3", f"{key} = 1 2 {bad}")))


def test_sheared_volumes_are_refused(tmp_path):
    image = an_image()
    image.SetDirection((1, 0, 0, 0, 1, 0.2, 0, 0, 1))
    for name in ("tilted.nrrd", "tilted.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
        with pytest.raises(GeometryError, match=f"{name}.*perpendicular"):
            read_volume(tmp_path / name)
    with pytest.raises(GeometryError, match="not perpendicular"):
        read_volume(a_nifti(tmp_path / "x.nii", codes=(0, 1), pixdim=(1, 1, 1, 1), sform=SHEARED_SFORM))


def test_a_sheared_sform_does_no_harm_beside_a_qform(tmp_path):
    """As after an affine registration to an atlas; ITK and Slicer place the image by its qform."""
    volume = read_volume(a_nifti(tmp_path / "x.nii", codes=(1, 4), sform=SHEARED_SFORM))
    assert volume.spacing_mm == (1, 2, 3)


def test_nifti_headers_that_contradict_themselves_are_refused(tmp_path):
    doubled = (2, 0, 0, 0, 0, 4, 0, 0, 0, 0, 6, 0)
    with pytest.raises(GeometryError, match=r"\(1, 2, 3\), the sform \(2, 4, 6\)"):
        read_volume(a_nifti(tmp_path / "x.nii", codes=(0, 1), sform=doubled))
    with pytest.raises(GeometryError, match="no orientation"):
        read_volume(a_nifti(tmp_path / "y.nii", codes=(0, 1), sform=[0] * 12))


def test_missing_geometry_is_assumed_and_said(tmp_path, caplog):
    volume = read_volume(a_text_header(tmp_path / "x.mha", ("ElementSpacing = 1 2 3\n", "")))
    assert volume.spacing_mm == (1, 1, 1)
    assert "no voxel spacing; 1 mm is assumed" in caplog.text
    read_volume(a_nifti(tmp_path / "x.nii", codes=(0, 0)))
    assert "nothing about orientation" in caplog.text


# --- refused: content -----------------------------------------------------------------------------------------------


def test_more_than_three_dimensions_are_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"4-D image of size \(4, 3, 1, 2\)"):
        read_volume(a_nifti(tmp_path / "x.nii", dim=(4, 4, 3, 1, 2, 1, 1, 1)))
    sitk.WriteImage(sitk.Image([2, 2, 2, 2], sitk.sitkUInt8), str(tmp_path / "x.nrrd"))
    with pytest.raises(ShapeError, match="4-D"):
        read_volume(tmp_path / "x.nrrd")


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "x.nii.gz", "x.png"])
def test_colour_images_are_refused(tmp_path, name):
    size = [4, 3] if name.endswith("png") else [4, 3, 2]
    sitk.WriteImage(sitk.Image(size, sitk.sitkVectorUInt8, 3), str(tmp_path / name))
    with pytest.raises(ImageError, match="3 numbers per voxel"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha"])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files_are_refused(tmp_path, name, compressed):
    whole = a_file(tmp_path / name, compressed).read_bytes()
    for length in (len(whole) - 1, len(whole) - 12, len(whole) // 2, 20, 3):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd", "x.mha"])
def test_flipped_bits_in_compressed_files_are_refused(tmp_path, name):
    content = bytearray(a_file(tmp_path / name, compressed=True).read_bytes())
    content[-5] ^= 0xFF  # within the checksum of zlib, within that of gzip too
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha", "x.dcm", "x.png", "x.xyz", "x"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 1000, b"NRRD", b"\x1f\x8b", b"NDims = 3\n"])
def test_files_that_are_no_images_are_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ImageError, GeometryError), match=re.escape(str(tmp_path / name))) as caught:
        read_volume(tmp_path / name)
    assert "itk" not in str(caught.value).lower().replace(str(tmp_path).lower(), "")
    assert "\n" not in str(caught.value)


def test_impossible_sizes_are_refused(tmp_path):
    with pytest.raises(ImageError, match="damaged"):
        read_volume(a_nifti(tmp_path / "x.nii", dim=(3, 4, 0, 2, 1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        ("DimSize = 4 3 2", "DimSize = 4 x 2"),
        ("DimSize = 4 3 2", "DimSize = 4 3"),
        ("NDims = 3", "NDims = nan"),
        ("ElementType", "ElementTipe"),
        ("BinaryData = True", "BinaryData = Tr(e"),
        ("BinaryData = True", "BinaryDatum = True"),
        (r"CompressedDataSize = \d+", "CompressedDataSize = 30"),
        ("CompressedDataSize", "CompressedDataSice"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2"),
    ],
)
def test_damaged_metaimage_headers_are_refused(tmp_path, line, damaged):
    """ITK reads some of these without complaint and hands out whatever its memory held."""
    with pytest.raises(ImageError, match="damaged"):
        read_volume(a_text_header(tmp_path / "x.mha", (line, damaged), compressed=True))


@pytest.mark.parametrize("compressed", [False, True])
def test_voxels_in_a_file_of_their_own_are_read_and_checked(tmp_path, compressed):
    header = a_file(tmp_path / "x.mhd", compressed)
    np.testing.assert_array_equal(read_volume(header).array, sitk.GetArrayFromImage(an_image()))
    (voxels,) = (path for path in tmp_path.iterdir() if path != header)
    voxels.write_bytes(voxels.read_bytes()[:-2])
    with pytest.raises(ImageError, match="damaged"):
        read_volume(header)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        read_volume(tmp_path / "x.nii")
    header = a_file(tmp_path / "x.mhd")
    (tmp_path / "x.raw").unlink()
    with pytest.raises(ImageError, match=r"x\.raw, which is missing"):
        read_volume(header)


def test_itk_stays_silent(tmp_path):
    """ITK's C++ code writes to descriptor 2, past Python; so a process of its own looks at it."""
    a_nifti(tmp_path / "x.nii", codes=(1, 4), sform=SHEARED_SFORM)
    (tmp_path / "y.mha").write_bytes(a_file(tmp_path / "y.mha").read_bytes()[:-5])
    (tmp_path / "z.mha").write_bytes(b"what")
    code = (
        "import sys\nfrom MambaSegmentLib.image_io import read_volume\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_volume(path)\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    paths = [str(tmp_path / name) for name in ("x.nii", "y.mha", "z.mha", "")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["ImageError"] * 3  # the last: a folder without DICOM
    assert done.stderr == ""


# --- refused: writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [("x.dcm", r"\.nii\.gz, \.nii, \.nrrd, \.mha"), ("x.seg.nrrd", "for segmentations"), ("no/x.nrrd", "no does not")],
)
def test_places_that_cannot_be_written_are_refused(tmp_path, name, said):
    for refuse in (
        lambda path: check_writable(path, WRITABLE_ENDINGS),
        lambda path: write_volume(Volume(np.zeros((1, 1, 1))), path),
    ):
        with pytest.raises(ImageError, match=said):
            refuse(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="file size limits are a POSIX matter")
@pytest.mark.parametrize("ending", WRITABLE_ENDINGS)
def test_a_file_cut_short_by_the_system_never_appears(tmp_path, ending):
    """A limit of the file size stops the writer as a full disk would; ITK says nothing for .nii and .nii.gz."""
    code = (
        "import resource, sys, numpy as np\n"
        "from MambaSegmentLib.image_io import write_volume\nfrom MambaSegmentLib.volume import Volume\n"
        "noise = np.random.default_rng(0).integers(0, 255, (40, 40, 40)).astype(np.uint8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: write_volume(Volume(noise), sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"x{ending}")], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "ImageError"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", WRITABLE_ENDINGS)
def test_a_full_disk_is_told_from_other_failures(tmp_path, monkeypatch, ending):
    def only_half(image, path, *_arguments, **_options):
        write(image, path)
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
        if path.endswith("nrrd"):  # teem does notice
            raise RuntimeError("failed to write to file")

    write = sitk.WriteImage
    monkeypatch.setattr(sitk, "WriteImage", only_half)
    free_bytes = iter([1_000_000, 0])  # before and after
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=next(free_bytes)))
    with pytest.raises(ResourceError, match="the disk is full"):
        write_volume(Volume(np.zeros((4, 4, 4))), tmp_path / f"x{ending}")
    assert list(tmp_path.iterdir()) == []


# --- real images ----------------------------------------------------------------------------------------------------

REAL = {
    "ct_lung_coarse/ct.mha": (64, 78, 57),
    "mr_brain_tumor/image.nrrd": (25, 256, 256),
    "mr_flair_oblique/flair_oblique_anisotropic.nii.gz": (36, 320, 320),
    "spinalcord_mr/t2_sagittal_permuted_axes.nii.gz": (52, 55, 60),
    "spinalcord_mr/t2star_oblique_anisotropic.nii.gz": (11, 320, 320),
    "mr_brain_oblique_multichannel/T1.nii.gz": (140, 160, 124),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("ending", WRITABLE_ENDINGS)
def test_real_images_survive_every_format(shared, tmp_path, name, ending):
    volume = read_volume(shared / "data" / name)
    assert volume.array.shape == REAL[name]
    write_volume(volume, tmp_path / f"copy{ending}")
    back = read_volume(tmp_path / f"copy{ending}")
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == volume.array.dtype
    assert back.same_grid(volume)


def test_a_real_time_series_is_refused(shared):
    with pytest.raises(ShapeError, match="4-D"):
        read_volume(shared / "data" / "spinalcord_mr" / "fmri_4d_oblique.nii.gz")
