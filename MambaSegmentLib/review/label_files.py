"""Label maps on disk: their voxels, and the names that a `.seg.nrrd` gives them.

Slicer stores segments that overlap in several layers; as long as no two share a voxel they become one label map here.
Source: Slicer developer guide, "Segmentations: file format".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..image_io import read_volume
from ..volume import Volume

ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".tiff")
_HEADER_MAX_BYTES = 16_000_000
_FIELD = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer):=(.*)")


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Attributes:
    volume: integer labels, 0 is the background.
    names: label value -> name; empty where the file names none.
    """

    volume: Volume
    names: Mapping[int, str]


def read_label_map(path: Path) -> LabelMap:
    """Read labels.

    Raises:
        ImageError: a file that cannot be read, voxels that are no whole numbers, or segments that share voxels.
        GeometryError, ShapeError: as `read_volume`.
    """
    if not path.name.lower().endswith(".seg.nrrd"):
        return LabelMap(_whole_numbers(read_volume(path), path), {})
    if not path.is_file():
        raise ImageError(f"{path} does not exist; check the path")
    segments = _segments(path)
    if len({layer for _, _, layer in segments}) > 1:
        return _from_layers(path, segments)
    return LabelMap(_whole_numbers(read_volume(path), path), {value: name for name, value, _ in segments})


def renumbered(labels: LabelMap, names: Mapping[int, str]) -> LabelMap:
    """The same labels with the values that `names` gives to equal names; those of no equal name follow after them.

    Two files that a person named alike mean the same, whatever numbers their programs chose.
    """
    of_name = {name: value for value, name in names.items()}
    if not of_name or not set(of_name) & set(labels.names.values()):
        return labels
    array = labels.volume.array
    target = {value: of_name[name] for value, name in labels.names.items() if name in of_name}
    free = max([*names, *labels.names, int(array.max())], default=0) + 1
    for value in sorted(int(value) for value in np.unique(array) if value):
        if value not in target:
            target[value], free = free, free + 1
    new = np.zeros(array.shape, np.uint16)
    for value, other in target.items():
        new[array == value] = other
    return LabelMap(labels.volume.with_array(new), {target.get(v, v): name for v, name in labels.names.items()})


def stem(path: Path) -> str:
    """The file's name without its ending: "a.seg.nrrd" -> "a"."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def _whole_numbers(volume: Volume, path: Path) -> Volume:
    array = volume.array
    if array.dtype.kind in "ui":
        return volume
    rounded = np.rint(array)
    if not np.array_equal(rounded, array):
        raise ImageError(f"{path} holds voxels that are no whole numbers; a label map is needed")
    return volume.with_array(rounded.astype(np.int32))


def _segments(path: Path) -> list[tuple[str, int, int]]:
    """(name, label value, layer) of each segment; the header is UTF-8, which pynrrd would drop."""
    with path.open("rb") as stream:
        header, end, _ = stream.read(_HEADER_MAX_BYTES).partition(b"\n\n")
    if not end:
        raise ImageError(f"{path} is no NRRD file: its header has no end; copy or export it again")
    fields: dict[int, dict[str, str]] = {}
    for line in header.decode("utf-8", errors="replace").splitlines():
        if match := _FIELD.fullmatch(line.rstrip("\r")):
            fields.setdefault(int(match[1]), {})[match[2]] = match[3]
    segments = []
    for number, one in sorted(fields.items()):
        value, layer = one.get("LabelValue", "1"), one.get("Layer", "0")
        if not value.isdigit() or not layer.isdigit():
            raise ImageError(f"{path}: segment {number} has the label value {value!r} in layer {layer!r}")
        segments.append((one.get("Name", f"Segment {number + 1}"), int(value), int(layer)))
    return segments


def _from_layers(path: Path, segments: list[tuple[str, int, int]]) -> LabelMap:
    import slicerio

    try:
        content = slicerio.read_segmentation(path)
    except Exception as problem:  # slicerio and pynrrd raise whatever comes
        raise ImageError(f"{path} cannot be read as a segmentation: {problem}") from problem
    voxels, matrix = content["voxels"], np.asarray(content["ijkToLPS"], float)  # (layer, I, J, K)
    labels = np.zeros(voxels.shape[:0:-1], np.uint16)
    for number, (name, value, layer) in enumerate(segments, start=1):
        mask = np.equal(voxels[layer].T, value)
        if (labels[mask] != 0).any():
            raise ImageError(f"{path}: segment {name!r} shares voxels with another; save each in a file of its own")
        labels[mask] = number
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    volume = Volume(
        labels,
        spacing_mm=tuple(spacing),
        origin_mm=tuple(matrix[:3, 3]),
        direction=tuple((matrix[:3, :3] / spacing).ravel()),
    )
    return LabelMap(volume, {number: name for number, (name, _, _) in enumerate(segments, start=1)})
