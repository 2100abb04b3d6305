"""One reviewed case: whether it may be learnt from, its image files, and its labels as a training takes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MambaSegmentLib.errors import GeometryError, ImageError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.review.document import AXES, ReviewDocument, ReviewedImage, geometry_sha256
from MambaSegmentLib.volume import Volume

from .collection import ignore_label_of
from .dataset import VOLUME_ENDINGS
from .fingerprint import GRID_TOLERANCE_MM

REJECTED = "reject"


def reason_against(document: ReviewDocument) -> str | None:
    """Why a case is not to be learnt from; None where it is."""
    if document.decision == REJECTED:
        return "rejected by the reviewer"
    if not document.signed_off:
        return "not signed off"
    if document.reviewed_slices is not None and not document.reviewed_slices.ranges:
        return "signed off without a slice that was looked at"
    return None


class ImageFolders:
    """The volumes below some folders, found by name."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._named: dict[str, list[Path]] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                stem = _stem(path.name)
                if stem is not None and path.is_file():
                    self._named.setdefault(stem, []).append(path)

    def of(self, document: ReviewDocument) -> tuple[Path, ...]:
        """The image file of each channel, whose voxels lie where the review says.

        Raises:
            ImageError: none of that name, or none that fits; or several that differ.
        """
        return tuple(self._of(document, index, image) for index, image in enumerate(document.images))

    def _of(self, document: ReviewDocument, index: int, image: ReviewedImage) -> Path:
        names = list(self._names(document, index, image))
        found = list(dict.fromkeys(path for name in names for path in self._named.get(name, ())))
        if not found:
            raise ImageError(
                f"no image named {' or '.join(names)} for the channel {image.channel!r}; say with --images where it is"
            )
        fitting = [path for path in found if geometry_sha256(read_volume(path)) == image.geometry_sha256]
        if not fitting:
            raise ImageError(
                f"{', '.join(map(str, found))} lies on another grid than the image that was reviewed as "
                f"{image.channel!r}; was it resampled or cropped since?"
            )
        contents = {path.read_bytes() for path in fitting}
        if len(contents) > 1:
            raise ImageError(
                f"{' and '.join(map(str, fitting))} both fit the channel {image.channel!r}, but differ; remove one"
            )
        return fitting[0]

    @staticmethod
    def _names(document: ReviewDocument, index: int, image: ReviewedImage) -> Iterator[str]:
        if image.file is not None:
            yield _stem(image.file) or image.file
            return
        yield f"{document.case}_{index:04d}"
        if len(document.images) == 1:
            yield document.case


@dataclass(frozen=True, eq=False)
class ReviewedLabels:
    """Attributes:
    labels: uint8 on the image's grid, the ignore label where nobody looked.
    corrections: uint8 (K, J, I), 1 where the reviewer changed the model's labels, nowhere if these were not kept.
    ignored_voxels: how many nobody looked at.
    corrected_voxels: how many were changed; None where the model's labels were not kept.
    """

    labels: Volume
    corrections: np.ndarray
    ignored_voxels: int
    corrected_voxels: int | None


def read_labels(document: ReviewDocument, folder: Path, image: Volume, value_of: Mapping[str, int]) -> ReviewedLabels:
    """The labels of a review by the data set's values.

    Args:
        folder: of the document.
        image: of the first channel.
        value_of: name of each label -> its value in the data set.
    Raises:
        ImageError, GeometryError: a file that is missing, damaged, on another grid, or holds other values than the
            document names.
    """
    values = {segment.value: value_of[segment.name] for segment in document.segments}
    labels = _renumbered(folder / document.segmentation_file, image, values)
    seen = _seen(document, labels.shape)
    changed, count = np.zeros(labels.shape, bool), None
    if document.prediction_file is not None:
        changed = (_renumbered(folder / document.prediction_file, image, values) != labels) & seen
        count = int(np.count_nonzero(changed))
    kept = np.where(seen, labels, ignore_label_of(value_of)).astype(np.uint8)
    ignored = int(np.count_nonzero(~seen))
    return ReviewedLabels(image.with_array(kept), changed.astype(np.uint8), ignored, count)


def _renumbered(path: Path, image: Volume, values: Mapping[int, int]) -> np.ndarray:
    if not path.is_file():
        raise ImageError(f"{path} is missing; the review names it")
    volume = read_volume(path)
    if not image.same_grid(volume, GRID_TOLERANCE_MM):
        raise GeometryError(f"{path} lies on another grid than its image")
    found = np.unique(volume.array)
    unknown = [value for value in found if value not in (0, *values)]
    if unknown:
        raise ImageError(f"{path} holds the value {unknown[0]:g}, which is no segment of the review")
    result = np.zeros(volume.array.shape, np.uint8)
    for stored, value in values.items():
        result[volume.array == stored] = value
    return result


def _seen(document: ReviewDocument, shape: tuple[int, ...]) -> np.ndarray:
    """bool (K, J, I): which voxels the reviewer looked at."""
    if document.reviewed_slices is None:
        return np.ones(shape, bool)
    axis = 2 - AXES.index(document.reviewed_slices.axis)  # arrays are (K, J, I)
    lines = [1, 1, 1]
    lines[axis] = shape[axis]
    return np.broadcast_to(document.reviewed_slices.mask(shape[axis]).reshape(lines), shape)


def _stem(name: str) -> str | None:
    """The name without the ending of a volume; None for other files."""
    ending = next((ending for ending in VOLUME_ENDINGS if name.lower().endswith(ending)), None)
    return None if ending is None or ending == ".seg.nrrd" else name[: -len(ending)]
