"""What a report says of each segment: size, intensity, diameters and pieces."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError
from ..segments import SegmentInfo
from ..volume import Volume
from .measure import voxel_volume_ml
from .shape import components, largest_diameter_mm, largest_in_plane_diameter_mm


@dataclass(frozen=True)
class SegmentStatistics:
    """Of one segment; what an empty segment has not is None.

    Attributes:
        value, name: as in the label map.
        voxels, volume_ml: of all its pieces.
        intensity_mean, intensity_sd: of the image under it, in the image's unit; the standard deviation of the voxels
            themselves (divided by n). None without an image.
        diameter_mm: the largest distance between two of its voxels.
        in_plane_diameter_mm: the largest distance between two of its voxels in one acquired slice.
        pieces: separate parts, voxels that share a corner being one part.
        largest_piece_ml: volume of the largest part.
    """

    value: int
    name: str
    voxels: int
    volume_ml: float
    intensity_mean: float | None = None
    intensity_sd: float | None = None
    diameter_mm: float | None = None
    in_plane_diameter_mm: float | None = None
    pieces: int = 0
    largest_piece_ml: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def segment_statistics(
    labels: Volume, segments: Iterable[SegmentInfo], image: Volume | None = None
) -> tuple[SegmentStatistics, ...]:
    """Measure each segment.

    Args:
        labels: the label map. segments: those to measure, in the order of the answer.
        image: on the same grid, for intensities.
    Raises:
        GeometryError: the image lies on another grid.
    """
    if image is not None and not labels.same_grid(image):
        raise GeometryError("the image does not lie on the grid of the labels; resample it to them first")
    boxes = _boxes(labels.array)
    return tuple(_measured(labels, segment, boxes.get(segment.value), image) for segment in segments)


def table(statistics: Sequence[SegmentStatistics]) -> list[dict[str, Any]]:
    """Rows for a CSV file; an empty cell for what does not exist."""
    return [{key: "" if cell is None else cell for key, cell in row.to_json().items()} for row in statistics]


def _measured(
    labels: Volume, segment: SegmentInfo, box: tuple[slice, ...] | None, image: Volume | None
) -> SegmentStatistics:
    if box is None:
        return SegmentStatistics(segment.value, segment.name, 0, 0.0)
    mask = labels.array[box] == segment.value
    voxel_ml = voxel_volume_ml(labels.spacing_mm)
    voxels = int(np.count_nonzero(mask))
    mean, sd = (None, None) if image is None else _mean_and_sd(image.array[box][mask])
    parts = components(mask)
    return SegmentStatistics(
        segment.value,
        segment.name,
        voxels,
        voxels * voxel_ml,
        mean,
        sd,
        largest_diameter_mm(mask, labels.spacing_mm),
        largest_in_plane_diameter_mm(mask, labels.spacing_mm),
        parts.count,
        parts.largest_voxels * voxel_ml,
    )


def _boxes(array: NDArray[np.integer]) -> Mapping[int, tuple[slice, ...]]:
    """The bounding box of each label that occurs, so that each is looked at only where it is."""
    from scipy import ndimage  # slow to import

    found = ndimage.find_objects(array)
    return {value: box for value, box in enumerate(found, start=1) if box is not None}


def _mean_and_sd(values: NDArray[np.generic]) -> tuple[float, float]:
    numbers = values.astype(np.float64)
    return float(numbers.mean()), float(numbers.std())
