"""Reading the files of one case: channels as volumes, and labels 0, 1, 2 … on their grid, whatever the formats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.volume import Volume

from .label_files import read_labels
from .pictures import is_picture, read_picture


@dataclass(frozen=True)
class RawCase:
    """One labelled acquisition: a file per channel, in the data set's channel order, and its label file."""

    identifier: str
    patient: str
    images: tuple[Path, ...]
    labels: Path


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are to be understood; decided once for all of them, and kept in dataset.json.

    Attributes:
        picture_channels: of each picture, 1 or 3.
        segments: name of a segment, as it compares -> label, for files that name their segments.
        ignore_other_segments: leave out those that `segments` does not name.
        renumbering: value in a label file -> label, where they differ; other values stay.
    """

    picture_channels: int = 1
    segments: Mapping[str, int] = field(default_factory=dict)
    renumbering: Mapping[int, int] = field(default_factory=dict)
    ignore_other_segments: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "picture_channels": self.picture_channels,
            "segments": dict(self.segments),
            "renumbering": {str(value): label for value, label in self.renumbering.items()},
            "ignore_other_segments": self.ignore_other_segments,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Reading":
        renumbering = {int(value): label for value, label in content["renumbering"].items()}
        others = content.get("ignore_other_segments", False)
        return cls(content["picture_channels"], dict(content["segments"]), renumbering, others)


AS_STORED = Reading()


def read_case(case: RawCase, reading: Reading = AS_STORED) -> tuple[list[Volume], Volume]:
    """Read the channels and the labels of a case; their grids are the caller's to compare.

    Raises:
        ImageError, GeometryError, ShapeError: as `image_io.read_volume`, `read_picture` and `read_labels`.
    """
    images: list[Volume] = []
    for path in case.images:
        images += read_picture(path, reading.picture_channels) if is_picture(path) else [read_volume(path)]
    labels = read_labels(case.labels, images[0], reading.segments, ignore_others=reading.ignore_other_segments)
    if reading.renumbering:
        labels = labels.with_array(_renumbered(labels.array, reading.renumbering))
    return images, labels


def _renumbered(array: np.ndarray, renumbering: Mapping[int, int]) -> np.ndarray:
    result = array.copy()
    for value, label in renumbering.items():
        result[array == value] = label
    return result
