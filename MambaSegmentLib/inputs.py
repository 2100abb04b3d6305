"""What is done to the images of a case before a model sees them, and only where a person allowed it or is told.

Channels on another grid than the first one are resampled onto it; voxels that are NaN or infinite are set to the
smallest finite value of their image.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from .errors import GeometryError, ImageError
from .volume import Volume, grid_difference

_log = logging.getLogger(__name__)
_NEGLIGIBLE_VOXELS = 0.01  # a shift that interpolation would only turn into blur: headers are rounded


def ready_for_model(
    volumes: Sequence[Volume], names: Sequence[str], *, strict: bool = False, allow_nonfinite: bool = False
) -> list[Volume]:
    """The channels of a case on one grid, all numbers finite; what had to be changed is logged as a warning.

    Args:
        volumes: never changed; those that are as they should be are returned themselves.
        names: how messages call them.
        strict: refuse channels on different grids.
        allow_nonfinite: set voxels that are NaN or infinite to the smallest finite value of their image.
    Raises:
        ImageError: a voxel that is NaN or infinite, unless allowed; an image without a finite voxel.
        GeometryError: grids that differ, if `strict`, or that do not overlap.
    """
    finite = [_finite(volume, name, allowed=allow_nonfinite) for volume, name in zip(volumes, names, strict=True)]
    return [
        volume if number == 0 else _on_grid(volume, finite[0], name, strict=strict)
        for number, (volume, name) in enumerate(zip(finite, names, strict=True))
    ]


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The warnings that the library logs in this thread meanwhile; other handlers of the program get them as well."""
    collector = _Collector()
    logger = logging.getLogger(__package__)
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


def _finite(volume: Volume, name: str, *, allowed: bool) -> Volume:
    if volume.array.dtype.kind != "f":
        return volume
    good = np.isfinite(volume.array)
    bad = good.size - int(np.count_nonzero(good))
    if bad == 0:
        return volume
    if not allowed:
        raise ImageError(
            f"{name} holds NaN or infinity in {bad} of {good.size} voxels; every voxel needs a number. Repair the "
            "image, or go on with --allow-nonfinite (in Python allow_nonfinite=True), which sets them to the smallest "
            "other value"
        )
    if bad == good.size:
        raise ImageError(f"{name} holds NaN or infinity in all of its {bad} voxels, so there is nothing to segment")
    lowest = volume.array[good].min()
    _log.warning("%s holds NaN or infinity in %d of %d voxels, which were set to %g", name, bad, good.size, lowest)
    return replace(volume, array=np.where(good, volume.array, lowest))


def _on_grid(volume: Volume, first: Volume, name: str, *, strict: bool) -> Volume:
    problem = grid_difference(first, volume)
    if problem is None:
        return volume
    if strict:
        raise GeometryError(
            f"{name} does not lie on the grid of the first image: {problem}. Resample it to the first image, or let "
            "that be done by leaving out --strict (in Python strict=False)"
        )
    if first.same_grid(volume, tolerance_mm=_NEGLIGIBLE_VOXELS * min(first.spacing_mm)):
        return first.with_array(volume.array)
    resampled, covered = _resampled(volume, first)
    if covered == 0:
        raise GeometryError(
            f"{name} does not overlap with the first image: {problem}. Give images of the same patient and place"
        )
    _log.warning(
        "%s does not lie on the grid of the first image (%s); it was resampled onto it and covers %.0f %% of it",
        name, problem, 100 * covered,
    )  # fmt: skip
    return resampled


def _resampled(volume: Volume, like: Volume) -> tuple[Volume, float]:
    """Linear interpolation; beyond its edge the smallest value. And the fraction of `like` that it covers."""
    import SimpleITK as sitk  # noqa: N813

    image, reference = volume.to_sitk(), like.to_sitk()
    wide = volume.array.dtype.itemsize > 2 and volume.array.dtype != np.float32
    outside = float(volume.array.min())
    pixel = sitk.sitkFloat64 if wide else sitk.sitkFloat32
    resampled = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, outside, pixel)
    inside = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    inside.CopyInformation(image)
    covered = sitk.Resample(inside, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    fraction = float(np.count_nonzero(sitk.GetArrayViewFromImage(covered)) / like.array.size)
    return like.with_array(sitk.GetArrayFromImage(resampled)), fraction
