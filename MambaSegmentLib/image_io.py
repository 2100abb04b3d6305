"""Reading and writing volumes: NIfTI, NRRD, MetaImage and DICOM series, through SimpleITK.

SimpleITK is imported when a file is first touched. Its C++ warnings are silenced meanwhile: what matters in them is
checked here and said in our own words.
"""

import errno
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .dicom_series import NO_IMAGE_MODALITIES, check_pixel_data, read_dicom_series
from .errors import ConfigError, GeometryError, ImageError, ResourceError, ShapeError
from .files import atomic_path
from .image_headers import check_header
from .itk_errors import itk_errors_as
from .memory import refuse_oversize
from .volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

_log = logging.getLogger(__name__)
_SHORTEST_HEADER_BYTES = 200  # of all formats that are written
_AGAIN = "copy or export the image again"
WRITABLE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


def read_volume(path: str | Path, *, series: str | None = None, flat: bool = True) -> Volume:
    """Read one scalar volume from a file, or from a folder that holds one DICOM series.

    A 2-D image becomes a volume of one slice, shape (1, J, I).

    Args:
        series: the Series Instance UID to take from a folder; needed where it holds several.
        flat: whether a 2-D image will do; a volume of one slice always does.
    Raises:
        ImageError: missing, empty, damaged or unknown file; a colour, vector or complex image; a folder without a
            DICOM series, with several, or without the one that was asked for.
        ShapeError: a 4-D image, or a 2-D one where that will not do. ResourceError: larger than the memory.
        GeometryError: spacing that is zero or no number, shear, missing slices.
        ConfigError: a series was asked for, but the path is a file.
    """
    path = Path(path)
    if not exists(path):
        raise ImageError(f"{path} does not exist; check the path")
    if path.is_dir():
        return read_dicom_series(path, series)
    if series:
        raise ConfigError(f"{path} is a file, so no series can be chosen from it; give the folder of the DICOM files")
    non_finite = check_header(path)
    try:
        volume = Volume.from_sitk(_read_file(path, flat))
    except (GeometryError, ShapeError, ImageError) as problem:
        if str(path) in str(problem):
            raise
        raise type(problem)(f"{path}: {problem}") from problem
    if non_finite is not None:  # ITK made them 0
        volume.array.reshape(-1)[non_finite.places] = non_finite.values
    return volume


def exists(path: Path) -> bool:
    """Whether there is something of this name; no operating system has one that is too long for it."""
    try:
        return path.exists()
    except OSError as problem:
        if problem.errno != errno.ENAMETOOLONG:
            raise ImageError(f"cannot read {path}: {problem.strerror or problem}") from problem
        return False


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a volume as NIfTI, NRRD or MetaImage, chosen by the ending, compressed except for `.nii`.

    NRRD and MetaImage keep the geometry to the last digit; NIfTI stores it as float32 (about 1e-7 of each number).
    bool voxels are written as uint8; all other types stay as they are.

    Raises:
        ImageError: unknown ending, a dtype the format cannot hold, or a place that cannot be written.
        ResourceError: the disk is full.
    """
    path = Path(path)
    ending = check_ending(path, WRITABLE_ENDINGS)
    image = volume.to_sitk()
    full = ResourceError(f"cannot write {path}: the disk is full; free some space and try again")
    with atomic_path(path) as temporary:
        least_bytes = volume.array.nbytes if ending == ".nii" else _SHORTEST_HEADER_BYTES
        if shutil.disk_usage(path.parent).free < least_bytes:
            raise full  # the C libraries would print lines of their own
        try:
            _write_file(image, temporary, path, compressed=ending in (".nrrd", ".mha"))
        except ImageError as problem:
            if shutil.disk_usage(path.parent).free > volume.array.nbytes:
                raise
            raise full from problem


def check_ending(path: Path, endings: tuple[str, ...]) -> str:
    """The one of `endings` that the file name has, whatever its case.

    Raises:
        ImageError: none of them; the message names them all.
    """
    name = path.name.lower()
    if name.endswith(".seg.nrrd") and ".seg.nrrd" not in endings:
        raise ImageError(f"cannot write {path}: .seg.nrrd is for segmentations; name an image {', '.join(endings)}")
    for ending in sorted(endings, key=len, reverse=True):
        if name.endswith(ending) and name != ending:
            return ending
    raise ImageError(f"cannot write {path}: its ending is none of the supported ones, {', '.join(endings)}")


def check_writable(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse an output that could not be written at the end of a long task.

    Raises:
        ImageError: unknown ending, missing folder, a folder in its place, or no right to write there.
    """
    check_ending(path, endings)
    try:
        if path.is_dir():
            raise ImageError(f"cannot write {path}: it is a folder; give a file name")
        if not path.parent.is_dir():
            raise ImageError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    except OSError as problem:
        raise ImageError(f"cannot write {path}: {problem.strerror or problem}; choose another name") from problem
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ImageError(f"cannot write {path}: no right to write in {path.parent}; choose another folder")


def _write_file(image: "sitk.Image", temporary: Path, target: Path, *, compressed: bool) -> None:
    """Write, then make sure that all voxels arrived: ITK does not always notice when the disk runs full."""
    import SimpleITK as sitk  # noqa: N813

    with itk_errors_as(ImageError, f"cannot write {target}"):
        sitk.WriteImage(image, str(temporary), useCompression=compressed)
    try:
        check_header(temporary)
    except (GeometryError, ImageError) as problem:
        raise ImageError(f"cannot write {target}: only a part of it could be stored ({problem})") from problem


def _read_file(path: Path, flat: bool) -> "sitk.Image":
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    with _unmistakable(path) as alone, itk_errors_as(ImageError, f"cannot read {path}", _AGAIN):
        reader.SetFileName(str(alone))
        reader.ReadImageInformation()
        _check_dimensions(path, reader, flat)
        return reader.Execute()


@contextmanager
def _unmistakable(path: Path) -> Iterator[Path]:
    """The same file, elsewhere if need be: asked for x.nii.gz, ITK takes the voxels of an x.nii that lies beside it."""
    base, ending = path.name[:-7], path.name[-7:].lower()
    if ending != ".nii.gz" or not any(path.with_name(base + other).exists() for other in (".nii", ".NII")):
        yield path
        return
    try:
        with tempfile.TemporaryDirectory(prefix="mambasegment-") as folder:
            yield Path(shutil.copy(path, Path(folder) / "image.nii.gz"))
    except OSError as problem:
        raise ImageError(f"cannot read {path}: {problem.strerror or problem}") from problem


def _check_dimensions(path: Path, reader: "sitk.ImageFileReader", flat: bool) -> None:
    """Refuse before gigabytes are read; files that DICOM calls no image too."""
    size = reader.GetSize()
    if sum(length > 1 for length in size[3:]):
        raise ShapeError(
            f"{path} is a {len(size)}-D image of size {size}; one 3-D volume is needed. Save the time point or channel "
            "that you want as a file of its own"
        )
    if len(size) < 3 and not flat:
        raise ShapeError(
            f"{path} is a {len(size)}-D image of size {size}, without slices or their thickness; the model takes 3-D "
            "volumes. Give the whole volume, or use a 2-D model"
        )
    if reader.GetNumberOfComponents() != 1:
        raise ImageError(
            f"{path} has {reader.GetNumberOfComponents()} numbers per voxel (a colour, vector or complex image); "
            "one is needed. Save each channel as a file of its own"
        )
    refuse_oversize(str(path), math.prod(size) * _voxel_bytes(reader))
    if _is_dicom(path):
        modality = reader.GetMetaData("0008|0060").strip() if reader.HasMetaDataKey("0008|0060") else ""
        if modality in NO_IMAGE_MODALITIES:
            raise ImageError(f"{path} is a DICOM {modality} object, not an image; give the image series")
        check_pixel_data(path, reader)
        if size[2:] == (1,):
            _log.warning("%s is a single DICOM slice; give its folder to read the whole series", path)


def _voxel_bytes(reader: "sitk.ImageFileReader") -> int:
    import SimpleITK as sitk  # noqa: N813

    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    return int(bits[1]) // 8 if bits else 1


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
