"""Label files that name their segments: Slicer's .seg.nrrd, DICOM SEG and DICOM RT structure sets.

Their numbers mean nothing from one file to the next, so the labels of a data set follow the names.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.volume import Volume

from .pictures import is_picture, read_mask

_SEG, _RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
_LATTICE_TOLERANCE = 0.02  # of a voxel; headers of the same grid, written by two programs, differ by rounding


@dataclass(frozen=True)
class NamedSegment:
    """One segment of a file: bool (K, J, I) on the file's own grid."""

    name: str
    mask: Volume


def names_segments(path: Path) -> bool:
    """Whether a label file has names that count, instead of numbers."""
    return path.name.lower().endswith((".seg.nrrd", ".dcm"))


def read_labels(path: Path, image: Volume, values: Mapping[str, int], *, ignore_others: bool = False) -> Volume:
    """The labels of a case; segments with names come onto the image's grid where theirs is a part of it.

    Args:
        values: name of a segment (as it compares, see `comparable`) -> label, for files that name their segments.
        ignore_others: leave out segments of other names, which are refused otherwise: a misspelt one would get lost.
    Raises:
        ImageError: a damaged file, a segment that no label has the name of, or segments that overlap.
        GeometryError: labelled voxels outside the image. ConfigError: a package is missing.
    """
    if is_picture(path):
        return read_mask(path)
    if not names_segments(path):
        return read_volume(path)  # another grid than the image's is a fault here: nobody stores a part on purpose
    labels = np.zeros(image.array.shape, np.uint8)
    taken: dict[int, str] = {}
    for segment in read_segments(path, image):
        value = values.get(comparable(segment.name))
        if value is None:
            if ignore_others:
                continue
            raise ImageError(
                f"{_short(path)} has the segment {segment.name!r}, which is not declared; declared: "
                f"{', '.join(values)}. Rename it, name it with --label, or say --ignore-other-segments"
            )
        mask = onto_grid(segment.mask, image, path)
        if not mask.same_grid(image):
            return mask  # the caller compares grids and says how they differ
        inside = mask.array > 0
        covered = np.unique(labels[inside & (labels > 0)])
        if covered.size and int(covered[0]) != value:
            other, count = taken[int(covered[0])], int(np.count_nonzero(inside & (labels > 0)))
            raise ImageError(
                f"{_short(path)}: the segments {segment.name!r} and {other!r} overlap in {count} voxels; make them "
                "disjoint in the segment editor, or leave one out with --ignore-other-segments"
            )
        labels[inside] = value
        taken[value] = segment.name
    return image.with_array(labels)


def segment_names(path: Path) -> list[str]:
    """Names of the segments in a file, in its order."""
    if path.name.lower().endswith(".seg.nrrd"):
        return [str(segment["name"]) for segment in _slicer_file(path, skip_voxels=True)["segments"]]
    found = _dicom_header(path)
    if found.SOPClassUID == _RTSTRUCT:
        return [str(roi.ROIName) for roi in found.StructureSetROISequence]
    return [str(segment.SegmentLabel) for segment in found.SegmentSequence]


def comparable(name: str) -> str:
    """Names are the same whatever their capitals and outer spaces."""
    return name.strip().casefold()


def read_segments(path: Path, image: Volume) -> Iterable[NamedSegment]:
    """All segments of a file; those of a structure set are drawn on the image's grid."""
    if path.name.lower().endswith(".seg.nrrd"):
        return _slicer_segments(path)
    if _dicom_header(path).SOPClassUID == _RTSTRUCT:
        return _structure_set(path, image)
    return _dicom_seg(path)


def onto_grid(labels: Volume, image: Volume, path: Path) -> Volume:
    """The same labels with the image's voxels, if both have them in common; else the labels as they came.

    Slicer and DICOM store the part of the grid that holds a segment, and DICOM its slices in an order of its own.

    Raises:
        GeometryError: labelled voxels outside the image.
    """
    if labels.same_grid(image) or not _same_lattice(labels, image):
        return labels
    import SimpleITK as sitk  # noqa: N813

    stored = labels.with_array(labels.array.astype(np.float64 if labels.array.dtype.kind == "f" else np.int32))
    placed = sitk.Resample(stored.to_sitk(), image.to_sitk(), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    array = sitk.GetArrayFromImage(placed)
    lost = int(np.count_nonzero(labels.array)) - int(np.count_nonzero(array))
    if lost:
        raise GeometryError(
            f"{_short(path)} has {lost} labelled voxels outside its image; check that they belong together"
        )
    return image.with_array(array.astype(labels.array.dtype))


def _same_lattice(labels: Volume, image: Volume) -> bool:
    """Whether the voxels of one lie on voxels of the other, axes turned or not."""
    between = np.linalg.inv(image.ijk_to_lps) @ labels.ijk_to_lps
    axes, shift = between[:3, :3], between[:3, 3]
    whole = np.round(axes)
    turned = np.abs(whole).sum(axis=0).tolist() == [1, 1, 1] and np.abs(whole).sum(axis=1).tolist() == [1, 1, 1]
    furthest = np.abs(axes - whole) @ (np.array(labels.array.shape[::-1]) - 1)
    return turned and bool(np.all(furthest < 1)) and bool(np.all(np.abs(shift - np.round(shift)) < _LATTICE_TOLERANCE))


def _volume(array: np.ndarray, ijk_to_lps: np.ndarray) -> Volume:
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    direction = (ijk_to_lps[:3, :3] / spacing).ravel()
    return Volume(array, tuple(spacing), tuple(ijk_to_lps[:3, 3]), tuple(direction))


def _slicer_file(path: Path, *, skip_voxels: bool = False) -> dict[str, Any]:
    import nrrd
    import slicerio

    try:
        content = slicerio.read_segmentation(str(path), skip_voxels=skip_voxels)
    except (OSError, ValueError, KeyError, nrrd.NRRDError) as problem:
        raise ImageError(f"cannot read {path}: {problem}; save the segmentation in Slicer again") from problem
    if not content.get("segments"):
        raise ImageError(f"{path} names no segments; save it from Slicer's segmentation node, or call it .nrrd")
    return content


def _slicer_segments(path: Path) -> Iterable[NamedSegment]:
    content = _slicer_file(path)
    voxels = content["voxels"]
    layers = voxels[None] if voxels.ndim == 3 else voxels  # (layers, I, J, K)
    for segment in content["segments"]:
        layer = layers[int(segment.get("layer", 0))]
        mask = np.ascontiguousarray((layer == segment["labelValue"]).transpose(2, 1, 0))
        yield NamedSegment(str(segment["name"]), _volume(mask.astype(np.uint8), np.asarray(content["ijkToLPS"])))


def _dicom_header(path: Path) -> Any:
    pydicom = _package("pydicom")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, pydicom.errors.InvalidDicomError) as problem:
        raise ImageError(f"cannot read {path}: {problem}; export it again") from problem
    if header.get("SOPClassUID") not in (_SEG, _RTSTRUCT):
        raise ImageError(f"{path} is neither a DICOM SEG nor an RT structure set; labels must be one of them")
    return header


def _dicom_seg(path: Path) -> Iterable[NamedSegment]:
    highdicom = _package("highdicom")
    try:
        segmentation = highdicom.seg.segread(path)
        volume = segmentation.get_volume(combine_segments=False)
    except (OSError, ValueError, AttributeError, RuntimeError) as problem:
        raise ImageError(f"cannot read {path}: {problem}; export it again") from problem
    affine = np.array(volume.affine)
    affine[:3, :3] = affine[:3, 2::-1]  # highdicom's axes are those of the array: K, J, I
    array = np.asarray(volume.array)
    for index, number in enumerate(segmentation.segment_numbers):
        name = str(segmentation.get_segment_description(number).segment_label)
        yield NamedSegment(name, _volume((array[..., index] > 0).astype(np.uint8), affine))


def _structure_set(path: Path, image: Volume) -> Iterable[NamedSegment]:
    """Contours are filled by Plastimatch, which is made for radiotherapy, on the grid of the image.

    It names files after the structures; they get names of ours, since "../x" or "left/right" would be paths.
    """
    program = _plastimatch()
    if not np.allclose(np.abs(image.direction), np.eye(3).ravel(), atol=1e-3):
        raise GeometryError(f"{_short(path)} is a structure set of an image whose slices are not axial; use DICOM SEG")
    structures = _package("pydicom").dcmread(path)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in structures.StructureSetROISequence}
    for roi in structures.StructureSetROISequence:
        roi.ROIName = f"roi{roi.ROINumber}"
    with tempfile.TemporaryDirectory(prefix="mambatrain-") as folder:
        contours, grid, masks = (Path(folder) / name for name in ("rt.dcm", "grid.nrrd", "masks"))
        structures.save_as(contours)
        write_volume(image.with_array(np.zeros(image.array.shape, np.uint8)), grid)
        call = [program, "convert", "--input", str(contours), "--fixed", str(grid), "--output-prefix", str(masks)]
        done = subprocess.run([*call, "--prefix-format", "nrrd"], capture_output=True, text=True, errors="replace")
        drawn = {number: masks / f"roi{number}.nrrd" for number in names}
        if done.returncode or not any(mask.is_file() for mask in drawn.values()):
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ImageError(f"Plastimatch could not draw {path}: {' '.join(last) or 'no structure has contours'}")
        for number, mask in drawn.items():
            if mask.is_file():  # a structure without contours has none
                yield NamedSegment(names[number], read_volume(mask))


def _plastimatch() -> str:
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    found = shutil.which("plastimatch", path=os.pathsep.join(places))
    if found is None:
        raise ConfigError("drawing an RT structure set needs Plastimatch; pip install plastimatch")
    return found


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise ConfigError(f"labels in DICOM need {name} ({problem}); pip install pydicom highdicom") from problem


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
