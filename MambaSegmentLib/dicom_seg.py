"""DICOM Segmentation objects (PS3.3 A.51): labels as frames that refer to the slices of the series they belong to.

Written with highdicom as BINARY, one segment a label, each frame with the position and orientation of its slice. The
packages come with the extra `dicom`; nothing here is needed for other formats.
"""

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .dicom_series import slice_files
from .errors import ConfigError, GeometryError, ImageError
from .files import atomic_path
from .manifest import Manifest
from .segments import Code, SegmentInfo, Terminology, check_unique_values
from .volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_log = logging.getLogger(__name__)
_ENDING = ".dcm"
_ADVICE = "; name the output .seg.nrrd or .nii.gz instead, or export the series again"
# For a segment without codes: what Slicer gives those, too.
_TISSUE = Code("SCT", "85756007", "Tissue")
_UNKNOWN = Terminology(_TISSUE, _TISSUE)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
# Type 2: may be empty, but must be there, and small archives leave them out.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_LONGEST_TEXT = 64  # of a DICOM LO
_LARGEST_SHIFT_MM = 1e-2  # of slices and labels: positions are decimal strings


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The slices that labels refer to.

    Attributes:
        headers: pydicom datasets without pixels, in the order of the K axis.
    """

    folder: Path
    headers: Sequence["Dataset"] = field(repr=False)


def is_dicom_seg(path: str | Path) -> bool:
    """Whether an output of this name is to be a DICOM segmentation."""
    return Path(path).name.lower().endswith(_ENDING)


def check_available() -> None:
    """Raises: ConfigError, when the packages for DICOM segmentations are not installed."""
    missing = [name for name in ("pydicom", "highdicom") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"DICOM segmentations need {' and '.join(missing)}, not installed here; "
            "run pip install mambasegment[dicom], or name the output .seg.nrrd or .nii.gz"
        )


def read_source(folder: Path, series: str | None = None) -> SourceSeries:
    """Headers of the series that a segmentation shall refer to.

    Args:
        series: as for `dicom_series.read_dicom_series`.
    Raises:
        ConfigError: the packages are not installed. ImageError: no series, a multi-frame one, or one that lacks the
            identifiers to refer to. GeometryError: slices without a place.
    """
    check_available()
    import pydicom

    headers = []
    for path in slice_files(folder, series):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except (OSError, pydicom.errors.InvalidDicomError) as problem:
            raise ImageError(f"cannot read {path}: {problem}{_ADVICE}") from problem
        lacking = [name for name in _NEEDED if not header.get(name)]
        if lacking:
            raise ImageError(f"{path} lacks {', '.join(lacking)}, which a DICOM segmentation must refer to{_ADVICE}")
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise ImageError(
                f"{path} is a multi-frame DICOM object; segmentations can be written for series of single slices only"
                "; name the output .seg.nrrd or .nii.gz"
            )
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
        headers.append(header)
    return SourceSeries(folder, headers)


def write_dicom_seg(
    labels: Volume,
    segments: Sequence[SegmentInfo],
    path: str | Path,
    source: SourceSeries,
    manifest: Manifest,
    others: Mapping[int, Manifest] | None = None,
) -> None:
    """Write labels as a DICOM segmentation in a series of its own, in the study of its source.

    Segment numbers are 1, 2, ... in the order of `segments`, as DICOM demands; the label value that a segment had is
    in its tracking identifier.

    Args:
        labels: on the grid of the source.
        manifest: of the model, whose name, version and checksum are stored.
        others: by label value, the models of the segments that are not of that one.
    Raises:
        ConfigError: the packages are not installed, doubled or unnamed label values. GeometryError: labels on another
            grid. ImageError: a source that highdicom refuses, or a place that cannot be written.
        ResourceError: the disk is full.
    """
    check_available()
    check_unique_values(segments)
    _check_grid(labels, source)
    numbers = _numbered(labels.array, segments)
    uncoded = [segment.name for segment in segments if segment.terminology is None]
    if uncoded:
        _log.warning("without terminology codes in the model, stored as %s: %s", _TISSUE.meaning, ", ".join(uncoded))
    with _refusals(source):
        content = _segmentation(numbers, segments, source, manifest, others or {})
    with atomic_path(Path(path)) as temporary:
        content.save_as(temporary)


def _segmentation(
    numbers: np.ndarray,
    segments: Sequence[SegmentInfo],
    source: SourceSeries,
    manifest: Manifest,
    others: Mapping[int, Manifest],
) -> Any:
    import highdicom

    models = {model.name: model for model in (manifest, *others.values())}
    names, versions = " + ".join(models), " + ".join(f"{model.name} {model.version}" for model in models.values())

    return highdicom.seg.Segmentation(
        source_images=list(source.headers),
        pixel_array=numbers,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(n, segment, others.get(segment.value, manifest)) for n, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=_series_number(source),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="MambaSegment",
        manufacturer_model_name=_short(names),
        software_versions=__version__,
        device_serial_number=_short(manifest.sha256 or "unknown"),
        content_label="SEGMENTATION",
        content_description=_short(f"{versions}, research use only"),
        series_description=_short(f"MambaSegment {names}, research use only"),
        omit_empty_frames=bool(numbers.any()),  # a segmentation without any frame is none
        specific_character_set="ISO_IR 192",
    )


def _description(number: int, segment: SegmentInfo, manifest: Manifest) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    terminology = segment.terminology or _UNKNOWN
    red, green, blue = (round(255 * part) for part in segment.color)
    made = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=_short(segment.name),
        segmented_property_category=_coded(terminology.category),
        segmented_property_type=_coded(terminology.type),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_short(manifest.name), family=codes.DCM.ArtificialIntelligence, version=_short(manifest.version)
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=f"label {segment.value}",
        display_color=highdicom.color.CIELabColor.from_rgb(red, green, blue),
    )
    if terminology.modifier is not None:
        type_code = made.SegmentedPropertyTypeCodeSequence[0]
        type_code.SegmentedPropertyTypeModifierCodeSequence = [_coded(terminology.modifier)]
    return made


def _coded(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=_short(code.meaning))


def _numbered(array: np.ndarray, segments: Sequence[SegmentInfo]) -> np.ndarray:
    """Label values as segment numbers 1, 2, ..., uint8 or uint16."""
    highest = max(int(array.max()), *(segment.value for segment in segments))
    table = np.full(highest + 1, -1, np.int32)
    table[0] = 0
    for number, segment in enumerate(segments, start=1):
        table[segment.value] = number
    unnamed = [value for value in np.flatnonzero(table < 0) if (array == value).any()] if (table < 0).any() else []
    if unnamed:
        raise ConfigError(f"the labels hold the value {unnamed[0]}, which no segment names; name it or leave it out")
    return table.astype(np.uint8 if len(segments) < 256 else np.uint16)[array]


def _check_grid(labels: Volume, source: SourceSeries) -> None:
    """Each slice of the labels must lie where the header of its source says, or a viewer would show it elsewhere."""
    if len(source.headers) != labels.array.shape[0]:
        raise GeometryError(
            f"the labels have {labels.array.shape[0]} slices, and the series in {source.folder} has "
            f"{len(source.headers)} files; segment that very series"
        )
    corners = np.array([(i, j, 0, 1) for i in (0, labels.array.shape[2] - 1) for j in (0, labels.array.shape[1] - 1)])
    along_k = labels.ijk_to_lps[:3, 2]
    of_first = (labels.ijk_to_lps @ corners.T)[:3].T
    for k, header in enumerate(source.headers):
        place = np.reshape([float(part) for part in header.ImagePositionPatient], 3)
        row, column = np.reshape([float(part) for part in header.ImageOrientationPatient], (2, 3))
        between_rows, between_columns = (float(part) for part in header.PixelSpacing)
        across_mm, down_mm = corners[:, 0] * between_columns, corners[:, 1] * between_rows
        expected = place + np.outer(across_mm, row) + np.outer(down_mm, column)
        apart_mm = float(np.linalg.norm(expected - (of_first + k * along_k), axis=1).max())
        if apart_mm > _tolerance_mm(labels):
            raise GeometryError(
                f"slice {k} of the labels lies {apart_mm:.3g} mm from {header.filename}; segment that very series"
            )


def _tolerance_mm(labels: Volume) -> float:
    """What the series reader lets pass: slices that are a little uneven or shifted become an even grid."""
    step_mm = labels.spacing_mm[2]
    return _LARGEST_SHIFT_MM + 0.5 * step_mm + 0.01 * step_mm * (labels.array.shape[0] - 1)


@contextmanager
def _refusals(source: SourceSeries) -> Iterator[None]:
    """What highdicom finds wrong with a series, as our error; its warnings about harmless things are dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise ImageError(
                f"the series in {source.folder} cannot be referred to by a DICOM segmentation: {problem}{_ADVICE}"
            ) from problem


def _series_number(source: SourceSeries) -> int:
    """Beside the source in a viewer's list; DICOM wants it unique in no way."""
    return int(source.headers[0].get("SeriesNumber") or 0) * 100 + 1


def _short(text: str) -> str:
    return " ".join(text.replace("\\", "/").split())[:_LONGEST_TEXT] or "unnamed"
