"""Images that are bad, or odd and yet to be segmented: see `bad_inputs.py`."""

import gzip
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError, ResourceError, ShapeError
from Testing import bad_files as files
from Testing.bad_cases import Case, Errors, Job, Make, Models, about, job_for, refused, works
from Testing.bad_files import values
from Testing.dicom_files import COLUMN, NORMAL, ORIGIN, STEP_MM, write_series, write_slice


def made_of(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def written(name: str, array: np.ndarray | None = None, **geometry: Any) -> Make:
    return lambda folder: files.write(folder / name, array, **geometry)


def nifti(name: str, array: np.ndarray | None = None, **fields: Any) -> Make:
    return lambda folder: files.nifti(folder / name, array, **fields)


def cut(name: str) -> Make:
    return lambda folder: files.cut(files.write(folder / name))


def nrrd(sizes: str, encoding: str, content: bytes) -> Make:
    return lambda folder: files.nrrd(folder / "x.nrrd", sizes, encoding, content)


def meta_image(sizes: str, content: bytes) -> Make:
    return lambda folder: files.meta_image(folder / "x.mha", sizes, content)


# --- files that are no images ---------------------------------------------------------------------------------------


def renamed(folder: Path) -> Path:
    return files.nifti(folder / "y.nii").rename(folder / "x.nii.gz")


_FILES = [
    refused("missing file", lambda f: f / "none.nii.gz", ImageError, "none.nii.gz does not exist", "check"),
    *(
        refused(f"empty {name}", made_of(name, b""), ImageError, name, "is empty", "again")
        for name in ("x.nii.gz", "x.nii", "x.nrrd", "x.mha", "x.dcm")
    ),
    *(
        refused(f"truncated {name}", cut(name), ImageError, name)
        for name in ("x.nii", "x.nii.gz", "x.nrrd", "x.mha")
    ),
    refused("text renamed .nii.gz", made_of("x.nii.gz", b"Dear reader,\n" * 99), ImageError, "x.nii.gz", "NIfTI"),
    refused("text renamed .nrrd", made_of("x.nrrd", b"Dear reader,\n" * 99), ImageError, "x.nrrd"),
    refused("a table", made_of("x.csv", b"a,b\n1,2\n"), ImageError, "x.csv", "NIfTI, NRRD, MetaImage and DICOM"),
    refused("unknown ending", made_of("x.xyz", bytes(range(256)) * 9), ImageError, "x.xyz", "unknown format"),
    refused("no ending", made_of("x", bytes(999)), ImageError, "NIfTI, NRRD, MetaImage and DICOM"),
    refused("an archive", made_of("x.nii.gz", gzip.compress(b"text " * 999)), ImageError, "x.nii.gz"),
    refused("NIfTI-2", made_of("x.nii", b"\x1c\x02\0\0n+2\0\r\n\x1a\n" + bytes(600)), ImageError, "NIfTI-2"),
    works("NIfTI that is not compressed renamed .nii.gz", renamed),
    refused("folder without DICOM", lambda f: files.write(f / "in" / "x.nrrd").parent, ImageError, "no DICOM image"),
]  # fmt: skip


# --- channels -------------------------------------------------------------------------------------------------------


def _both(folder: Path) -> tuple[Path, Path]:
    return files.write(folder / "a.nrrd"), files.write(folder / "b.nrrd")


def _two(name: str, error: Errors, *says: str, second: Mapping[str, Any] | None = None, **options: Any) -> Case:
    """Two channels; the second one has another grid."""

    def make(folder: Path, models: Models) -> Job:
        other = dict(second or {})
        images = files.write(folder / "a.nrrd"), files.write(folder / "b.nrrd", other.pop("array", None), **other)
        return job_for(folder, models, *images, model="two", **options)

    return Case(name, make, error, says)


_COARSE = {"array": values()[:2, :, ::2], "spacing": (2.0, 1.5, 4.0)}
_CHANNELS = [
    refused("one image for two channels", written("a.nrrd"), ConfigError,
           "takes 2 image(s) (c0, c1, in this order)", "1 given", model="two"),
    Case("two images for one channel",
         lambda f, m: job_for(f, m, *_both(f)), ConfigError, ("1 image(s)", "2 given")),
    _two("channels on one grid", None),
    _two("channels on different grids", None, "b.nrrd", "was resampled", "covers 62 %", second=_COARSE),
    _two("channels on different grids, strict", GeometryError, "b.nrrd", "3 × 5 × 2 voxels against 6 × 5 × 4",
         "--strict", second=_COARSE, strict=True),
    _two("channels that overlap in part", None, "b.nrrd", "covers 50 %", second={"origin": (13.0, -20.0, 30.0)}),
    _two("channels that do not overlap", GeometryError, "does not overlap", second={"origin": (500.0, 0.0, 0.0)}),
    _two("channels apart by rounding", None, second={"origin": (10.0, -20.005, 30.0)}),
    _two("channels apart by rounding, strict", GeometryError, "origin differs by up to 0.005 mm",
         second={"origin": (10.0, -20.005, 30.0)}, strict=True),
    _two("a constant channel", ImageError, "the value 7 in every voxel", second={"array": values() * 0 + 7}),
    _two("NaN in the second channel", ImageError, "b.nrrd holds NaN or infinity in 1 of 120",
         second={"array": np.where(values() == 5, np.nan, 1.0) * values()}),
]  # fmt: skip


# --- dimensions -----------------------------------------------------------------------------------------------------

_FLAT = values()[0].astype(np.uint8)
_SHAPES = [
    *(
        refused(f"2-D {name} for a 3-D model", written(name, _FLAT), ShapeError,
               name, "2-D image of size (6, 5)", "3-D volumes", "2-D model")
        for name in ("x.png", "x.nrrd", "x.nii.gz", "x.mha")
    ),
    works("2-D image for a 2-D model", written("x.png", _FLAT), model="flat"),
    works("volume for a 2-D model", written("x.nrrd"), model="flat"),
    refused("4-D image", nifti("x.nii.gz", dim=(4, 6, 5, 2, 2, 1, 1, 1)), ShapeError,
           "4-D image of size (6, 5, 2, 2)", "one 3-D volume is needed", "time point"),
    works("4-D image of one time point", nifti("x.nii.gz", dim=(4, 6, 5, 4, 1, 1, 1, 1))),
    refused("vector image", written("x.nrrd", np.ones((4, 5, 6, 3), np.float32)), ImageError,
           "3 numbers per voxel"),
    refused("colour picture", lambda f: _colour(f / "x.png"), ImageError, "3 numbers per voxel", "each channel",
           model="flat"),
    refused("complex image", nifti("x.nii", values(np.float64), type=(32, 64)), ImageError,
           "complex"),
]  # fmt: skip


def _colour(path: Path) -> Path:
    sitk.WriteImage(sitk.Image([6, 5], sitk.sitkVectorUInt8, 3), str(path))
    return path


# --- voxel values ---------------------------------------------------------------------------------------------------


def _with(bad: float, count: int, dtype: Any = np.float32) -> np.ndarray:
    array = values(dtype)
    array.reshape(-1)[7 : 7 + count] = bad
    return array


_VALUES = [
    *(
        refused(f"{bad} in {name}", written(name, _with(bad, 3, dtype)), ImageError,
               name, "NaN or infinity in 3 of 120 voxels", "--allow-nonfinite")
        for name, bad, dtype in (
            ("x.nii", np.nan, np.float32), ("x.nii.gz", np.nan, np.float64), ("x.nii.gz", np.inf, np.float32),
            ("x.nii", -np.inf, np.float64), ("x.nrrd", np.nan, np.float32), ("x.mha", np.inf, np.float64),
        )
    ),
    *(
        works(f"{name} with NaN that is allowed", written(name, _with(np.nan, 3)),
               "in 3 of 120 voxels, which were set to 1", allow_nonfinite=True)
        for name in ("x.nii.gz", "x.nrrd")
    ),
    refused("all NaN, allowed", written("x.nrrd", values(float) * np.nan), ImageError,
           "all of its 120 voxels", allow_nonfinite=True),
    refused("integers scaled to infinity", nifti("x.nii", scale=(3e38, 0)), ImageError,
           "in 119 of 120 voxels"),
    works("scale that is NaN, as if there were none", nifti("x.nii", scale=(np.nan, 0))),
    refused("constant", written("x.nrrd", values() * 0 + 7), ImageError,
           "the value 7 in every voxel", "nothing to segment"),
    *(
        works(f"voxels of type {np.dtype(dtype)} in {ending}",
               written(f"x.{ending}", values(dtype)))
        for dtype, ending in ((np.int64, "nrrd"), (np.int64, "nii.gz"), (np.uint64, "mha"), (np.float64, "nii.gz"),
                              (np.int8, "nrrd"), (np.uint32, "mha"))
    ),
    works("a mask of 0 and 1", written("x.nii.gz", (values() > 60).astype(np.uint8))),
    works("numbers of 64 bits near their ends",
           written("x.nrrd", values(np.int64) * (2**63 // 130))),
    works("numbers near the end of single precision",
           written("x.nrrd", values(np.float32) * 2e36)),
    refused("numbers near the end of double precision",
           written("x.nrrd", values(np.float64) * 1e306), ImageError, "too large", "rescale"),
    works("numbers next to zero", written("x.nrrd", values(np.float64) * 1e-320)),
]  # fmt: skip


# --- geometry -------------------------------------------------------------------------------------------------------

_SHEAR = (1.0, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_GEOMETRY = [
    *(
        refused(f"NIfTI spacing {bad}", nifti("x.nii.gz", pixdim=(1, 1, 2, bad)),
               GeometryError, "voxel spacing", "positive numbers are needed", "header")
        for bad in (0.0, -3.0, np.nan)
    ),
    *(
        refused(f"MetaImage spacing {bad}",
               lambda f, b=bad: files.text_header(f / "x.mha", ("ElementSpacing = .*", f"ElementSpacing = 1 2 {b}")),
               GeometryError, "voxel spacing", "positive numbers are needed")
        for bad in ("0", "-3", "nan")
    ),
    refused("NRRD spacing 0", lambda f: files.text_header(f / "x.nrrd", (r"\(0,0,2\)", "(0,0,0)")), GeometryError,
           "voxel spacing", "positive numbers are needed"),
    works("missing spacing", lambda f: files.text_header(f / "x.mha", ("ElementSpacing = .*\n", "")),
           "no voxel spacing; 1 mm is assumed"),
    works("NIfTI without orientation", nifti("x.nii", codes=(0, 0)),
           "says nothing about orientation"),
    *(
        refused(f"sheared {name}", written(name, direction=_SHEAR), GeometryError, name,
               "not perpendicular", "Resample it to a straight grid")
        for name in ("x.nrrd", "x.mha")
    ),
    refused("sheared NIfTI",
           nifti("x.nii", codes=(0, 1), pixdim=(1, 1, 1, 1), sform=(1, 0, 0.3, 0, 0, 1, 0, 0, 0, 0, 1, 0)),
           GeometryError, "not perpendicular", "straight grid"),
    refused("NIfTI that contradicts itself",
           nifti("x.nii", codes=(0, 1), sform=(3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0)), GeometryError,
           "contradicts itself", "pixdim"),
    refused("spacing of kilometres", written("x.nrrd", spacing=(1e6, 1e6, 1e6)), ResourceError,
           "voxels of 1e+06×1e+06×1e+06 mm", "GB"),
    works("spacing of nanometres", written("x.nrrd", spacing=(1e-6, 1e-6, 1e-6))),
]  # fmt: skip


# --- sizes ----------------------------------------------------------------------------------------------------------


def _shaped(*shape: int) -> Make:
    return lambda folder: files.write(folder / "x.nii.gz", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def _bomb(folder: Path) -> Path:
    good = files.nifti(folder / "y.nii").read_bytes()
    return made_of("x.nii.gz", gzip.compress(good) + files.zeros(1 << 25, 31))(folder)


_HUGE = "100000 100000 100000"
_SIZES = [
    works("smaller than a patch", _shaped(2, 3, 2)),
    works("one voxel thick", _shaped(1, 20, 20)),
    works("one voxel thick along I", _shaped(20, 20, 1)),
    works("a line of voxels", _shaped(1, 1, 30)),
    refused("a single voxel", _shaped(1, 1, 1), ImageError, "in every voxel"),
    refused("NRRD that claims petabytes", nrrd(_HUGE, "raw", b"abc"), ImageError,
           "3 of the 4000000000000000 bytes"),
    *(
        refused(f"NRRD ({encoding}) that claims petabytes",
               nrrd(_HUGE, encoding, content), (ImageError, ResourceError), "x.nrrd")
        for encoding, content in (
            ("gzip", gzip.compress(b"abc")), ("bzip2", b"BZh9"), ("text", b"1 2 3"), ("hex", b"ff"),
        )
    ),
    refused("NRRD that claims 8 GB, compressed",
           nrrd("1000 1000 2000", "gzip", gzip.compress(b"abc")), ImageError,
           "23 compressed bytes cannot hold the 8000000000"),
    refused("NRRD whose size has 5000 digits", nrrd("9" * 5000, "raw", b""), ImageError),
    refused("NIfTI that claims terabytes", nifti("x.nii", dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)),
           ImageError, "592 of the 70362301923678"),
    refused("NIfTI that claims terabytes, compressed",
           nifti("x.nii.gz", dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)), ImageError, "cannot hold"),
    refused("MetaImage that claims petabytes", meta_image(_HUGE, zlib.compress(b"abc")),
           ImageError, "cannot hold the 4000000000000000"),
    refused("NIfTI that unpacks to far more than it says",
           _bomb,
           ImageError, "goes on after the 240 bytes"),
    refused("MetaImage that unpacks to far more than it says",
           lambda f: meta_image("2 2 2", files.zeros(1 << 25, 15))(f), ImageError, "goes on after the 32 bytes"),
    refused("PNG that claims gigabytes", lambda f: files.png(f / "x.png", 60000, 60000), ImageError, "x.png",
           "export the image again", model="flat"),
]  # fmt: skip


# --- DICOM ----------------------------------------------------------------------------------------------------------


def _series(folder: Path, *positions: float, **tags: str) -> Path:
    (folder / "dicom").mkdir(exist_ok=True)
    write_series(folder / "dicom", positions or range(4), **tags)
    return folder / "dicom"


def _several(folder: Path) -> Path:
    _series(folder, series="1.2.3.1")
    return _series(folder, series="1.2.3.2", t0008_103e="T2")


def _lying(folder: Path) -> Path:
    """Rows and Columns of 65535."""
    for path in _series(folder).iterdir():
        content = bytearray(path.read_bytes())
        for element in (0x10, 0x11):
            struct.pack_into("<H", content, content.find(struct.pack("<HH", 0x28, element)) + 8, 65535)
        path.write_bytes(content)
    return folder / "dicom"


def _tilted(folder: Path) -> Path:
    (folder / "dicom").mkdir()
    for index in range(4):
        shifted = ORIGIN + index * (STEP_MM * NORMAL + 0.3 * COLUMN)
        position = "\\".join(f"{value:.10g}" for value in shifted)
        write_slice(folder / "dicom" / f"{index}.dcm", index, t0020_0032=position)
    return folder / "dicom"


_DICOM = [
    works("DICOM series", _series),
    refused("several series", _several, ImageError, "2 DICOM series", "1.2.3.1 (MR T1 sagittal, 4 files)",
           "1.2.3.2 (MR T2, 4 files)", "--series"),
    works("several series, one chosen", _several, series="1.2.3.2"),
    refused("several series, another chosen", _several, ImageError, "1.2.3.9 is none of them", "1.2.3.1 (MR T1",
           series="1.2.3.9"),
    refused("a series chosen from a file", written("x.nrrd"), ConfigError, "is a file", "folder",
           series="1.2.3.1"),
    Case("two series chosen for one image", lambda f, m: job_for(f, m, _several(f), series=("1.2.3.1", "1.2.3.2")),
         ConfigError, ("2 DICOM series were chosen for 1 image",)),
    Case("two channels from one folder",
         lambda f, m: job_for(f, m, *[_several(f)] * 2, model="two", series=("1.2.3.1", "1.2.3.2"))),
    refused("missing slice", lambda f: _series(f, 0, 1, 3, 4), GeometryError, "2.5 mm apart", "5 mm", "missing"),
    refused("steps that differ", lambda f: _series(f, 0, 1, 2, 3.3), GeometryError, "not evenly spaced", "resampled"),
    refused("slices at one place", lambda f: _series(f, 0, 1, 1.001, 2), GeometryError, "several slices at one place"),
    refused("DICOM that claims gigabytes", _lying, ImageError, "ask for 8589672450 bytes", "holds 24"),
    refused("one slice that claims gigabytes", lambda f: next(_lying(f).iterdir()), ImageError, "holds 24"),
    refused("gantry tilt", _tilted, GeometryError, "sheared", "gantry tilt of 6.8 degrees", "resample"),
    refused("damaged slice", lambda f: files.cut(_series(f) / "99.dcm", 400).parent, ImageError, "99.dcm is damaged"),
]  # fmt: skip

IMAGES = (
    *about("file", _FILES), *about("channels", _CHANNELS), *about("shape", _SHAPES), *about("values", _VALUES),
    *about("geometry", _GEOMETRY), *about("size", _SIZES), *about("dicom", _DICOM),
)  # fmt: skip
