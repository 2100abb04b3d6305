"""Writing label volumes: as Slicer segmentations (`.seg.nrrd`) or as plain label images.

A `.seg.nrrd` holds, besides the voxels, what Slicer needs to show named and coloured segments: per segment an id, name,
colour, label value, layer, extent and terminology, and once the geometry of the image that was segmented.
Source: Slicer developer guide, "Segmentations: file format", and vtkMRMLSegmentationStorageNode. Slicer's own writer
stores geometry in LPS in the NRRD fields, but in RAS in the conversion parameters.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConfigError, ShapeError
from .files import atomic_path
from .image_io import check_ending, check_writable, write_volume
from .segments import LARGEST_LABEL, SegmentInfo, check_unique_values
from .volume import Volume

SUPPORTED_ENDINGS = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha")
_COMPRESSION_LEVEL = 6  # label maps are long runs: 9 takes several times as long for a few per cent
_LISTED_MAX = 10  # label values named in a message
_RESERVED_IN_TAGS = re.compile(r"[|\x00-\x1f\x7f]")  # what separates tags and lines of the header
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def check_output_path(path: str | Path) -> None:
    """Refuse an output before work starts that could not be written after it.

    Raises:
        ImageError: unknown ending (the message names the known ones), missing folder, no right to write there.
    """
    check_writable(Path(path), SUPPORTED_ENDINGS)


def write_segmentation(
    labels: Volume,
    segments: Sequence[SegmentInfo],
    path: str | Path,
    *,
    tags: Mapping[int, Mapping[str, str]] | None = None,
) -> None:
    """Write labels with the meaning of their values; the format is chosen by the ending.

    `.seg.nrrd` keeps names, colours and terminology; `.nrrd`, `.nii.gz`, `.nii` and `.mha` hold the values only.
    Voxels are stored as uint8, or as uint16 where a value exceeds 255.

    Args:
        labels: integer or bool array; 0 is background, every other value must be that of a segment.
        segments: in the order in which Slicer lists them; one without voxels is written as an empty segment.
        tags: by label value, further tags of a segment, such as Slicer's `Segmentation.Status`; only a `.seg.nrrd`
            has a place for them. A `TerminologyEntry` among them is taken instead of the segment's own.
    Raises:
        ConfigError: doubled label values, or labels that no segment names. ShapeError: labels that are no integers.
        ImageError: unknown ending, or a place that cannot be written. ResourceError: the disk is full.
    """
    path = Path(path)
    ending = check_ending(path, SUPPORTED_ENDINGS)
    check_unique_values(segments)
    stored = labels.with_array(_stored_labels(labels.array, segments))
    if ending != ".seg.nrrd":
        write_volume(stored, path)
        return
    content = _seg_nrrd(stored, segments, tags or {})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _stored_labels(array: np.ndarray, segments: Sequence[SegmentInfo]) -> np.ndarray:
    """The same labels in the smallest type that Slicer reads."""
    if array.dtype.kind not in "bui":
        raise ShapeError(f"labels of type {array.dtype} came; integers are needed, so round them first")
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0 or highest > LARGEST_LABEL:
        raise ConfigError(f"the labels reach from {lowest} to {highest}; 0..{LARGEST_LABEL} can be stored")
    highest_value = max([highest, *(segment.value for segment in segments)])
    stored = array.astype(np.uint8 if highest_value <= 255 else np.uint16, copy=False)
    unnamed = sorted(_values_in(stored, highest) - {0, *(segment.value for segment in segments)})
    if unnamed:
        more = " and more" if len(unnamed) > _LISTED_MAX else ""
        raise ConfigError(
            f"the labels hold the values {', '.join(map(str, unnamed[:_LISTED_MAX]))}{more}, which no segment names; "
            f"known are {', '.join(str(segment.value) for segment in segments) or 'none'}"
        )
    return stored


def _values_in(labels: np.ndarray, highest: int) -> set[int]:
    """Distinct values, slice by slice: np.unique would sort the whole volume."""
    seen = np.zeros(highest + 1, dtype=bool)
    for plane in labels:
        seen[plane] = True
    return {int(value) for value in np.flatnonzero(seen)}


def _seg_nrrd(labels: Volume, segments: Sequence[SegmentInfo], tags: Mapping[int, Mapping[str, str]]) -> bytes:
    """A whole `.seg.nrrd` file."""
    import slicerio

    size_ijk = labels.array.shape[::-1]
    content = {
        "voxels": labels.array.transpose(2, 1, 0),  # (I, J, K), as slicerio counts
        "ijkToLPS": labels.ijk_to_lps,
        "containedRepresentationNames": ["Binary labelmap"],
        "masterRepresentation": "Binary labelmap",
        "referenceImageExtentOffset": [0, 0, 0],
        # slicerio's own key of this leaves out the last "&", without which Slicer does not read the parameter.
        "Segmentation_ConversionParameters": _reference_geometry(labels.ijk_to_lps, size_ijk),
        "segments": [_segment_fields(segment, size_ijk, tags.get(segment.value, {})) for segment in segments],
    }
    stream = io.BytesIO()
    slicerio.write_segmentation(stream, content, compression_level=_COMPRESSION_LEVEL)
    header, blank_line, voxels = stream.getvalue().partition(b"\n\n")
    return _with_utf8(header) + blank_line + voxels


def _segment_fields(segment: SegmentInfo, size_ijk: tuple[int, ...], tags: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": f"Segment_{segment.value}",
        "name": _ascii(segment.name),
        "nameAutoGenerated": False,
        "color": [float(f"{part:.6g}") for part in segment.color],
        "colorAutoGenerated": False,
        "labelValue": segment.value,
        "layer": 0,
        # The whole volume: older versions of Slicer crop all segments of a layer to the extent of the first one.
        "extent": [end for size in size_ijk for end in (0, size - 1)],
    }
    codes = {} if segment.terminology is None else {"TerminologyEntry": segment.terminology.to_slicer_tag()}
    if codes or tags:
        fields["tags"] = {name: _ascii(_RESERVED_IN_TAGS.sub(" ", text)) for name, text in {**codes, **tags}.items()}
    return fields


def _reference_geometry(ijk_to_lps: np.ndarray, size_ijk: tuple[int, ...]) -> str:
    """Conversion parameter `Reference image geometry`: 4×4 index-to-RAS matrix by rows, then the extent."""
    matrix = (_LPS_TO_RAS @ ijk_to_lps).ravel() + 0.0  # + 0.0 turns -0.0 into 0.0
    extent = [end for size in size_ijk for end in (0, size - 1)]
    geometry = "".join(f"{number};" for number in [*(f"{value:.17g}" for value in matrix), *extent])
    return f"Reference image geometry|{geometry}|Geometry of the image that was segmented.&"


def _ascii(text: str) -> str:
    """A stand-in for text outside ASCII, which pynrrd cannot write and `_with_utf8` puts back."""
    return text if text.isascii() else f"<utf8:{text.encode().hex()}>"


def _with_utf8(header: bytes) -> bytes:
    """Slicer writes and reads UTF-8 in NRRD headers; the voxels follow the header, so its length is free."""
    return re.sub(rb"<utf8:([0-9a-f]+)>", lambda found: bytes.fromhex(found[1].decode()), header)
