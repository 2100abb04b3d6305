"""From volumes to the array a network takes, and what is needed for the way back to the very grid of the input.

Forwards: turn (permute and flip axes), crop, normalise, resample, in that order, as nnU-Net does. Backwards
(label_maps.py, inference/restoring.py): resample each class, take the best one, put it into the place of the crop, turn
back. Training uses the same functions.

Turning only rearranges voxels, so an oblique volume keeps its oblique grid. Resampling works edge to edge
(`resampling.py`), so the prepared grid covers exactly the extent of the crop; its voxels have the wanted size up to
rounding to whole voxels. Where the number of voxels does not change, nothing is interpolated.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import ConfigError, GeometryError, ImageError
from .memory import refuse_oversize
from .normalization import FittedNormalization
from .orientation import Turn, turn_towards
from .preprocessing_spec import PreprocessingSpec
from .resampling import RowResizer, resize, resized_shape
from .roi import VoxelBox, slices_of
from .volume import Volume, grid_difference

_COARSE_RATIO = 3.0  # as in nnU-Net: an axis whose spacing is more than three times the finest is a coarse one
_QUIETLY = np.errstate(over="ignore", invalid="ignore")  # numbers too large are refused in words of our own


@dataclass(frozen=True)
class Interpolation:
    """Spline order on each axis of an array, and the axis along which slices are thick, if any."""

    orders: tuple[int, int, int]
    coarse_axis: int | None = None

    def resize(self, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        return resize(array, shape, self.orders, self.coarse_axis)


@dataclass(frozen=True)
class Undo:
    """All that is needed to bring labels back to the grid of the first input.

    Attributes:
        shape: (K, J, I) of the input; spacing_mm, origin_mm and direction are the input's, as in Volume.
        turn: from the input's axes to those of the prepared array.
        crop: start and stop of the crop on each axis of the turned array.
        prepared_shape: of the prepared array.
        labels: how label maps come onto the prepared grid.
        scores: how class scores come back from it.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    turn: Turn
    crop: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    prepared_shape: tuple[int, int, int]
    labels: Interpolation
    scores: Interpolation

    @property
    def crop_shape(self) -> tuple[int, int, int]:
        (k0, k1), (j0, j1), (i0, i1) = self.crop
        return k1 - k0, j1 - j0, i1 - i0

    @property
    def crop_slices(self) -> tuple[slice, ...]:
        return tuple(slice(*bounds) for bounds in self.crop)

    def grid(self, array: np.ndarray) -> Volume:
        """A Volume with `array` (K, J, I) on the input's grid."""
        return Volume(array, spacing_mm=self.spacing_mm, origin_mm=self.origin_mm, direction=self.direction)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case as the network takes it.

    Attributes:
        array: float32, (C, K, J, I), contiguous.
        spacing_mm: of the prepared voxels, in the order of the array's axes.
        undo: the way back.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    undo: Undo = field(repr=False)


class PreparedRows:
    """A case that is prepared row by row as it is asked for, so that a large volume needs no float32 copy.

    Attributes:
        shape: (K, J, I) of the prepared array.
        spacing_mm: of the prepared voxels, in the order of the array's axes.
        undo: the way back.

    Args:
        volumes: one per channel, all on the same grid; never changed.
        box: voxels of the volumes to prepare alone, as if the rest were cut off; only the numbers that intensities are
            normalised with still come from the whole volume.
    Raises:
        ConfigError: another number of volumes than `spec` has channels.
        GeometryError: the volumes do not share a grid.
        ImageError: a volume that holds NaN or infinity, or the same value everywhere.
        NothingInsideError: the specification crops, and nothing of what it keeps lies in the box.
        ResourceError: the voxel size that the model wants would make too many voxels.
    """

    @_QUIETLY
    def __init__(self, volumes: Sequence[Volume], spec: PreprocessingSpec, box: VoxelBox | None = None) -> None:
        _check_case(volumes, spec)
        first = volumes[0]
        turn = turn_towards(first.direction, spec.orientation, spec.axis_order)
        channels = [turn.apply(volume.array) for volume in volumes]
        mask = _object_mask(channels, spec)
        crop = _nonzero_box(channels) if spec.crop == "nonzero" else _whole(channels[0].shape)
        slices = tuple(slice(*bounds) for bounds in crop)
        mask = None if mask is None else mask[slices]
        channels = [channel[slices] for channel in channels]
        whole, whole_mask = channels, mask
        if box is not None:
            inner = _within(_turned_box(box, first.array.shape, turn), crop)
            channels = [channel[slices_of(inner)] for channel in channels]
            mask = None if mask is None else mask[slices_of(inner)]
            crop = _moved(inner, [start for start, _ in crop])

        spacing_mm = turn.permute(first.spacing_mm[::-1])
        wanted_mm = _wanted(spec, spacing_mm, whole[0].shape)
        self.shape = resized_shape(channels[0].shape, spacing_mm, wanted_mm)
        _refuse_oversize(channels[0].shape, spacing_mm, self.shape)
        self.spacing_mm = _spacing_after(spacing_mm, channels[0].shape, self.shape)
        images = _interpolation(spec.resampling_order, spec.coarse_axis_order, spacing_mm, wanted_mm)
        self._channels = [
            RowResizer(
                channel.shape,
                self.shape,
                images.orders,
                images.coarse_axis,
                _normalized_rows(channel, normalization.fit(entire, whole_mask), mask),
            )
            for entire, channel, normalization in zip(whole, channels, spec.normalization, strict=True)
        ]
        label_order = min(spec.resampling_order, 1)
        self.undo = Undo(
            shape=_three(first.array.shape),
            spacing_mm=first.spacing_mm,
            origin_mm=first.origin_mm,
            direction=first.direction,
            turn=turn,
            crop=crop,
            prepared_shape=self.shape,
            labels=_interpolation(label_order, spec.coarse_axis_order, spacing_mm, wanted_mm),
            # On the way back the spacings change places, and so may the axis that counts as coarse.
            scores=_interpolation(*(spec.score_orders or (label_order, spec.coarse_axis_order)), wanted_mm, spacing_mm),
        )

    @_QUIETLY
    def read(self, first: int, end: int) -> np.ndarray:
        """Rows [first, end) of the prepared array, float32 (C, rows, J, I); quick if asked for in order.

        Raises:
            ImageError: values that float32 cannot hold.
        """
        array = np.stack([channel.read(first, end) for channel in self._channels])
        if not np.isfinite(array).all():
            raise ImageError("the voxel values are too large to be computed with in float32; rescale the image")
        return array


class NothingInsideError(ImageError):
    """Nothing of the object lies in the part of a volume that was asked for."""


def preprocess(volumes: Sequence[Volume], spec: PreprocessingSpec) -> Prepared:
    """Turn, crop, normalise and resample one case: `PreparedRows`, all rows at once."""
    rows = PreparedRows(volumes, spec)
    return Prepared(rows.read(0, rows.shape[0]), rows.spacing_mm, rows.undo)


def _normalized_rows(
    channel: np.ndarray, fitted: FittedNormalization, mask: np.ndarray | None
) -> Callable[[int, int], np.ndarray]:
    return lambda first, end: fitted.apply(channel[first:end], None if mask is None else mask[first:end])


def _check_case(volumes: Sequence[Volume], spec: PreprocessingSpec) -> None:
    if len(volumes) != len(spec.normalization):
        raise ConfigError(f"{len(volumes)} image(s) given, but {len(spec.normalization)} channel(s) are expected")
    for number, volume in enumerate(volumes[1:], start=2):
        problem = grid_difference(volumes[0], volume)
        if problem:
            raise GeometryError(
                f"image {number} does not lie on the grid of the first one: {problem}. Resample it to the first image"
            )
    for number, volume in enumerate(volumes, start=1):
        _check_values(volume.array, "the image" if len(volumes) == 1 else f"image {number}")


def _check_values(array: np.ndarray, name: str) -> None:
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise ImageError(
                f"{name} holds NaN or infinity in {bad} of {array.size} voxels; every voxel needs a number. "
                "Replace them, for example by 0"
            )
    low, high = array.min(), array.max()
    if low == high:
        raise ImageError(f"{name} holds the value {low} in every voxel, so there is nothing to segment")


def _refuse_oversize(shape: Sequence[int], spacing_mm: Sequence[float], new_shape: Sequence[int]) -> None:
    """A spacing in the wrong unit asks for a volume of any size; a byte for each voxel is the least that it takes."""
    if tuple(new_shape) != tuple(shape):
        sizes, size_mm = " × ".join(map(str, new_shape)), "×".join(f"{mm:.4g}" for mm in spacing_mm)
        what = f"the image, which has voxels of {size_mm} mm and becomes {sizes} voxels of the model's size,"
        refuse_oversize(what, math.prod(new_shape))


def _object_mask(channels: Sequence[np.ndarray], spec: PreprocessingSpec) -> np.ndarray | None:
    """Voxels that are not zero in some channel, holes filled; None where nothing asks for it, since it is large."""
    if not any(entry.needs_object_mask for entry in spec.normalization):
        return None
    from scipy import ndimage  # slow to import, and rarely needed

    mask = np.zeros(channels[0].shape, dtype=bool)
    for channel in channels:
        mask |= channel != 0
    return ndimage.binary_fill_holes(mask)


def _nonzero_box(channels: Sequence[np.ndarray]) -> VoxelBox:
    """The box of what is not zero in some channel, slice by slice; filling its holes would not change it."""
    shape = channels[0].shape
    inside = [np.zeros(size, bool) for size in shape]
    for k in range(shape[0]):
        plane = channels[0][k] != 0
        for channel in channels[1:]:
            plane |= channel[k] != 0
        rows = plane.any(axis=1)
        inside[0][k] = rows.any()
        inside[1] |= rows
        inside[2] |= plane.any(axis=0)
    k_bounds, j_bounds, i_bounds = ((int(found[0]), int(found[-1]) + 1) for found in map(np.flatnonzero, inside))
    return k_bounds, j_bounds, i_bounds


def _whole(shape: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return (0, shape[0]), (0, shape[1]), (0, shape[2])


def _turned_box(box: VoxelBox, shape: Sequence[int], turn: Turn) -> VoxelBox:
    bounds = []
    for new, axis in enumerate(turn.axes):
        first, end = box[axis]
        bounds.append((shape[axis] - end, shape[axis] - first) if new in turn.flipped else (first, end))
    return bounds[0], bounds[1], bounds[2]


def _within(box: VoxelBox, crop: VoxelBox) -> VoxelBox:
    """What of a box lies in the crop, counted from the crop's first voxel."""
    cut = [(max(b[0], c[0]) - c[0], min(b[1], c[1]) - c[0]) for b, c in zip(box, crop, strict=True)]
    if any(first >= end for first, end in cut):
        raise NothingInsideError("the region of interest holds nothing but zeros")
    return cut[0], cut[1], cut[2]


def _moved(box: VoxelBox, by: Sequence[int]) -> VoxelBox:
    k, j, i = ((first + start, end + start) for (first, end), start in zip(box, by, strict=True))
    return k, j, i


def _spacing_after(spacing_mm: Sequence[float], old: Sequence[int], new: Sequence[int]) -> tuple[float, float, float]:
    k, j, i = (mm * before / after for mm, before, after in zip(spacing_mm, old, new, strict=True))
    return k, j, i


def _coarse_axis(*candidates: Sequence[float]) -> int | None:
    """The one axis with thick slices, judged by the first spacing that has any; as nnU-Net's get_lowres_axis."""
    for spacing_mm in candidates:
        if max(spacing_mm) / min(spacing_mm) > _COARSE_RATIO:
            coarsest = [axis for axis in range(3) if spacing_mm[axis] == max(spacing_mm)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def _wanted(spec: PreprocessingSpec, spacing_mm: Sequence[float], shape: Sequence[int]) -> tuple[float, float, float]:
    """The spacing that a case of this shape shall get, its own where the specification has none."""
    asked, size = spec.spacing_mm or (None, None, None), spec.size or (None, None, None)
    k, j, i = (
        own * voxels / count if count is not None else own if wanted is None else wanted
        for own, voxels, wanted, count in zip(spacing_mm, shape, asked, size, strict=True)
    )
    return k, j, i


def _interpolation(
    order: int, coarse_order: int | None, before_mm: Sequence[float], after_mm: Sequence[float]
) -> Interpolation:
    coarse = None if coarse_order is None else _coarse_axis(before_mm, after_mm)
    k, j, i = (coarse_order if axis == coarse and coarse_order is not None else order for axis in range(3))
    return Interpolation((k, j, i), coarse)


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    return shape[0], shape[1], shape[2]
