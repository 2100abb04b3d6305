"""One DICOM series in a folder as a volume: slices sorted by position, nothing missing, nothing sheared.

The grid is computed here from Image Position and Image Orientation (Patient), DICOM PS3.3 C.7.6.2; ITK's own series
reader takes the distance of two slices for all of them and lets gaps and gantry tilt pass with a warning at most.
"""

import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import GeometryError, ImageError
from .itk_errors import itk_errors_as
from .memory import refuse_oversize
from .volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

# Series of these modalities hold no volume of voxels; they often lie beside the images.
NO_IMAGE_MODALITIES = {"SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "REG", "DOC", "AU"}
_SPACING_TOLERANCE = 0.02  # of the slice distance: scanners round positions, a missing slice is 1.0 or more
_SHIFT_TOLERANCE = 0.01  # shift within the plane per slice distance: 0.6 degrees of tilt; scanners round
_ANGLE_TOLERANCE = 1e-3  # between the orientations of two slices
_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # (7FE0,0010)
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax in which all that follows is compressed
_FILE_META_BYTES = 1024
_LISTED_MAX = 5  # series named in a message


@dataclass(frozen=True)
class _Slice:
    path: str
    position_mm: np.ndarray  # (3,) centre of the first voxel, LPS
    axes: np.ndarray  # (2, 3) unit vectors of a row (I) and of a column (J)
    spacing_mm: tuple[float, float]  # along I, along J
    size: tuple[int, ...]
    rescale: tuple[str, str]  # slope and intercept as written


def read_dicom_series(folder: Path, series: str | None = None) -> Volume:
    """Read one image series in a folder (its sub-folders are not searched).

    Args:
        series: its Series Instance UID; None takes the only one.
    Raises:
        ImageError: no image series, several and none chosen, damaged files, colour, or slices of unlike size.
        GeometryError: missing or doubled slices, unequal distances, tilted gantry, orientation or spacing missing.
    """
    import SimpleITK as sitk  # noqa: N813

    paths = _paths_of_series(folder, series)
    where = f"the DICOM series in {folder}"
    with itk_errors_as(ImageError, f"cannot read {where}"):
        slices = [_read_slice_header(path) for path in paths]
        alone = sitk.ReadImage(paths[0]) if len(paths) == 1 else None
    if alone is not None and alone.GetSize()[2:] != (1,):
        return Volume.from_sitk(alone)  # a multi-frame file, which holds its own grid
    _check_alike(where, slices)
    slices = _sorted_by_position(slices)
    step_mm = _step_mm(where, slices) if alone is None else alone.GetSpacing()[2]
    refuse_oversize(where, sum(2 * math.prod(each.size) for each in slices))
    image = _read_voxels(where, slices)
    first = slices[0]
    normal = np.cross(*first.axes)
    return Volume(
        sitk.GetArrayFromImage(image),
        spacing_mm=(*first.spacing_mm, step_mm),
        origin_mm=tuple(first.position_mm),
        direction=tuple(np.column_stack([*first.axes, normal]).ravel()),
    )


def slice_files(folder: Path, series: str | None = None) -> list[Path]:
    """The files of the slices in the order of the K axis of what `read_dicom_series` gives.

    Raises:
        ImageError, GeometryError: as for `read_dicom_series`.
    """
    paths = _paths_of_series(folder, series)
    with itk_errors_as(ImageError, f"cannot read the DICOM series in {folder}"):
        slices = [_read_slice_header(path) for path in paths] if len(paths) > 1 else []
    return [Path(each.path) for each in _sorted_by_position(slices)] if slices else [Path(paths[0])]


def _read_voxels(where: str, slices: Sequence[_Slice]) -> "sitk.Image":
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([each.path for each in slices])
    if len({each.rescale for each in slices}) > 1:
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's type would round the others (PET)
    with itk_errors_as(ImageError, f"cannot read {where}"):
        image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f"{where} is in colour; one number per voxel is needed")
    return image


def _paths_of_series(folder: Path, wanted: str | None) -> Sequence[str]:
    """Paths of the files of the series that is wanted, or of the only one."""
    import SimpleITK as sitk  # noqa: N813

    with itk_errors_as(ImageError, f"cannot read {folder}"):
        series = {
            uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        }
        titles = {uid: _title(paths[0]) for uid, paths in series.items()}
    _refuse_unread(folder, {Path(path).name for paths in series.values() for path in paths})
    images = [uid for uid in series if titles[uid][0] not in NO_IMAGE_MODALITIES]
    if not images:
        raise ImageError(
            f"no DICOM image series in the folder {folder}; give an image file, or the folder that holds the slices"
        )
    named = [f"{uid} ({' '.join(titles[uid])}, {len(series[uid])} files)" for uid in images[:_LISTED_MAX]]
    more = f" and {len(images) - _LISTED_MAX} more" if len(images) > _LISTED_MAX else ""
    listed = f"{folder} holds {len(images)} DICOM series: {'; '.join(named)}{more}"
    if wanted:
        if wanted not in images:
            raise ImageError(f"{listed}. {wanted} is none of them; choose one of these")
        return series[wanted]
    if len(images) > 1:
        raise ImageError(f"{listed}. Choose one with --series UID (in Python series=UID)")
    return series[images[0]]


def _refuse_unread(folder: Path, read: set[str]) -> None:
    """A file that says it is DICOM and that GDCM left out is damaged; without it a slice would be missing."""
    for path in sorted(folder.iterdir()):
        if path.name in read or path.name.upper() == "DICOMDIR" or not path.is_file():
            continue
        with path.open("rb") as stream:
            if stream.read(132)[128:] == b"DICM":
                raise ImageError(f"the DICOM file {path} is damaged; copy it again, or take it out of the folder")


def _title(path: str) -> tuple[str, str]:
    """Modality and description of the series of a file."""
    reader = _header_reader(path)
    return _tag(reader, "0008|0060") or "unknown modality", _tag(reader, "0008|103e") or "without description"


def _read_slice_header(path: str) -> _Slice:
    reader = _header_reader(path)
    check_pixel_data(Path(path), reader)
    position = _numbers(path, reader, "0020|0032", "Image Position (Patient)", 3)
    orientation = _numbers(path, reader, "0020|0037", "Image Orientation (Patient)", 6)
    # Pixel Spacing gives the distance of rows (J) first, then of columns (I).
    between_rows, between_columns = _numbers(path, reader, "0028|0030", "Pixel Spacing", 2)
    return _Slice(
        path,
        position,
        _perpendicular(path, orientation.reshape(2, 3)),
        (float(between_columns), float(between_rows)),
        tuple(reader.GetSize()[:2]),
        (_tag(reader, "0028|1053"), _tag(reader, "0028|1052")),
    )


def _header_reader(path: str) -> "sitk.ImageFileReader":
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    return reader


def _tag(reader: "sitk.ImageFileReader", key: str) -> str:
    return reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""


def _numbers(path: str, reader: "sitk.ImageFileReader", key: str, name: str, count: int) -> np.ndarray:
    text = _tag(reader, key)
    try:
        numbers = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise GeometryError(
            f"{path}: the DICOM attribute {name} is {text or 'missing'!r}; {count} numbers are needed to place the "
            "slice. Give the original series, not a screenshot or a secondary capture"
        )
    return numbers


def _perpendicular(path: str, axes: np.ndarray) -> np.ndarray:
    """Row and column direction, (2, 3), freed of the rounding of decimal strings."""
    lengths = np.linalg.norm(axes, axis=1)
    if not np.allclose(lengths, 1, atol=_ANGLE_TOLERANCE) or abs(axes[0] @ axes[1]) > _ANGLE_TOLERANCE:
        raise GeometryError(
            f"{path}: Image Orientation (Patient) is {axes.ravel().tolist()}; two perpendicular unit vectors are needed"
        )
    row = axes[0] / lengths[0]
    column = axes[1] - (axes[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def _check_alike(where: str, slices: Sequence[_Slice]) -> None:
    first = slices[0]
    for each in slices[1:]:
        if each.size != first.size:
            raise ImageError(f"{where} has slices of {first.size} and of {each.size} pixels; a volume needs one size")
        if not np.allclose(each.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise GeometryError(f"{where} has pixels of {first.spacing_mm} mm and of {each.spacing_mm} mm")
        if np.abs(each.axes - first.axes).max() > _ANGLE_TOLERANCE:
            raise GeometryError(
                f"{where} has slices of several orientations (a localizer, or radial slices); a volume needs parallel "
                "ones. Put these into a folder of their own"
            )


def check_pixel_data(path: Path, reader: "sitk.ImageFileReader") -> None:
    """Refuse a file whose Rows and Columns claim more than its Pixel Data holds: GDCM would allocate and fill it.

    Raises:
        ImageError.
    """
    bits = _tag(reader, "0028|0100")
    if reader.GetNumberOfComponents() != 1 or not bits.isdecimal():
        return  # colour is refused elsewhere
    needed = math.prod(reader.GetSize()) * int(bits) // 8
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_DEFLATED, 0, _FILE_META_BYTES) >= 0:
            return
        held = max(_pixel_data_lengths(content), default=len(content))
    if held < needed:
        raise ImageError(
            f"{path} is damaged: its Rows and Columns ask for {needed} bytes, and its Pixel Data holds {held}; copy or "
            "export the series again"
        )


def _pixel_data_lengths(content: mmap.mmap) -> Iterator[int]:
    """What may be the length of the attribute Pixel Data, little-endian; the largest number where it is compressed."""
    at = content.find(_PIXEL_DATA)
    while at >= 0:
        length_at = at + 8 if content[at + 4 : at + 6] in (b"OW", b"OB") else at + 4
        yield int.from_bytes(content[length_at : length_at + 4], "little")
        at = content.find(_PIXEL_DATA, at + 4)


def _sorted_by_position(slices: Sequence[_Slice]) -> list[_Slice]:
    normal = np.cross(*slices[0].axes)
    return sorted(slices, key=lambda each: float(each.position_mm @ normal))


def _step_mm(where: str, slices: Sequence[_Slice]) -> float:
    """Distance of neighbouring slices; refuses gaps, doubles and tilt."""
    normal = np.cross(*slices[0].axes)
    positions_mm = np.array([each.position_mm for each in slices])
    steps_mm = np.diff(positions_mm @ normal)
    typical_mm = float(np.median(steps_mm))
    if steps_mm.min() <= _SPACING_TOLERANCE * typical_mm:
        at = int(np.argmin(steps_mm))
        raise GeometryError(
            f"{where} has several slices at one place ({slices[at].path} and {slices[at + 1].path}), as when it holds "
            "several time points or echoes; put the slices of one volume into a folder of their own"
        )
    worst = int(np.argmax(np.abs(steps_mm - typical_mm)))
    if abs(steps_mm[worst] - typical_mm) > _SPACING_TOLERANCE * typical_mm:
        raise GeometryError(
            f"{where} is not evenly spaced: most slices are {typical_mm:.4g} mm apart, but {slices[worst].path} and "
            f"{slices[worst + 1].path} {steps_mm[worst]:.4g} mm. A slice is missing, or the series must be resampled"
        )
    travel_mm = positions_mm[-1] - positions_mm[0]
    shift_mm = np.linalg.norm(travel_mm - (travel_mm @ normal) * normal)
    if shift_mm > _SHIFT_TOLERANCE * float(travel_mm @ normal):
        angle = np.degrees(np.arctan2(shift_mm, travel_mm @ normal))
        raise GeometryError(
            f"{where} is sheared: the slices are shifted sideways by {shift_mm:.4g} mm in all (gantry tilt of "
            f"{angle:.1f} degrees); resample it to a straight grid first (3D Slicer does so when it loads the series)"
        )
    return float(steps_mm.mean())
