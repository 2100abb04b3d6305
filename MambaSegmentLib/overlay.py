"""A picture of a segmentation: three planes through its centre, contours and fills in the segments' colours, volumes.

Drawn with Pillow alone, and in the radiological convention: the patient's right is on the left of axial and coronal
planes, anterior on the left of sagittal ones. Voxels keep their physical proportions; oblique volumes are shown along
their own axes, with the letters of the nearest anatomical ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .errors import GeometryError, ShapeError
from .files import atomic_path
from .orientation import turn_towards
from .review.measure import volumes_ml
from .segments import SegmentInfo
from .volume import Volume

Array = NDArray[np.float32]

WIDTH_PX = 1680
_MARGIN_PX, _GAP_PX, _HEADER_PX, _LEGEND_LINE_PX = 36, 18, 74, 40
_PANEL_ASPECTS = (0.62, 1.6)  # width over height; a flatter or taller plane gets dark bars
_MOST_PANEL_HEIGHT_PX = 640
_SURROUNDINGS_MM = 22.0  # what is shown around the segmentation
_BACKGROUND, _PANEL, _TEXT, _QUIET = (13, 16, 21), (4, 5, 7), (233, 236, 241), (139, 148, 160)
_FILL, _LINE_PX = 0.24, 2.8
_WINDOW_PERCENTILES = (0.5, 99.7)
_SMALLEST_RANGE = 1e-6  # of brightness, so that an even image divides by something


@dataclass(frozen=True)
class _Plane:
    """One cut: its arrays run along (row, column) of the panel, downwards and to the right."""

    name: str
    axis: int  # of the turned array (S, P, L), perpendicular to the plane
    letters: tuple[str, str, str, str]  # left, right, top, bottom
    upside_down: bool  # rows follow S, which points up


_PLANES = (
    _Plane("Axial", 0, ("R", "L", "A", "P"), False),
    _Plane("Coronal", 1, ("R", "L", "S", "I"), True),
    _Plane("Sagittal", 2, ("A", "P", "S", "I"), True),
)


def write_overlay(
    image: Volume, labels: Volume, segments: Sequence[SegmentInfo], path: Path, *, title: str = "", note: str = ""
) -> None:
    """Draw as `draw_overlay` does and write a PNG, whole or not at all.

    Raises:
        ImageError: the place cannot be written. And those of `draw_overlay`.
    """
    picture = draw_overlay(image, labels, segments, title=title, note=note)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=6)


def draw_overlay(
    image: Volume,
    labels: Volume,
    segments: Sequence[SegmentInfo],
    *,
    title: str = "",
    note: str = "",
    focus: Volume | None = None,
) -> Image.Image:
    """Three planes through the centre of the segmentation, with a legend of names and volumes in mL.

    Args:
        image, labels: on one grid; labels hold integers, 0 is the background.
        segments: what to draw; other label values are left out.
        title, note: text above the planes, left and right.
        focus: bool, what the planes go through and show the surroundings of, so that two pictures show the same
            planes; None: the segments.
    Returns:
        An RGB picture, 1680 pixels wide.
    Raises:
        GeometryError: image and labels lie on different grids. ShapeError: labels that are no integers.
    """
    cuts = _cuts(image, labels, segments, focus)
    panels = [
        (plane, cuts.voxels(plane), cuts.classes(plane), cuts.pixel_mm(plane))
        for plane in _PLANES
        if min(cuts.voxels(plane).shape) >= 2  # the edge of a single slice shows nothing
    ]
    sizes = _panel_sizes([(v.shape[0] * mm[0], v.shape[1] * mm[1]) for _, v, _, mm in panels])
    volumes = volumes_ml(labels.array, labels.spacing_mm, [segment.value for segment in segments])
    canvas = _canvas(sizes, len(segments), title, note)
    left = _MARGIN_PX
    for (plane, values, values_classes, pixel_mm), (width, height) in zip(panels, sizes, strict=True):
        panel = _draw_panel(plane, values, values_classes, pixel_mm, (width, height), cuts.window, segments)
        canvas.paste(panel, (left, _HEADER_PX))
        left += width + _GAP_PX
    _draw_legend(canvas, segments, volumes)
    return canvas


def draw_plane(
    image: Volume,
    labels: Volume,
    segments: Sequence[SegmentInfo],
    *,
    size: tuple[int, int],
    focus: Volume | None = None,
) -> Image.Image:
    """One plane alone: of the three of `draw_overlay` the one in which the focus is largest.

    Args:
        image, labels, segments, focus: as for `draw_overlay`.
        size: pixels (width, height) of the picture.
    Raises:
        GeometryError, ShapeError: as `draw_overlay`.
    """
    cuts = _cuts(image, labels, segments, focus)
    flat = [plane for plane in _PLANES if min(cuts.voxels(plane).shape) >= 2]
    plane = max(flat or _PLANES, key=cuts.shown_mm2)
    return _draw_panel(
        plane, cuts.voxels(plane), cuts.classes(plane), cuts.pixel_mm(plane), size, cuts.window, segments
    )


# --- what is shown


@dataclass(frozen=True, eq=False)
class _Cuts:
    """Planes through a turned image (S, P, L), and the window of its gray values."""

    image: NDArray[np.generic]
    labels: NDArray[np.generic]
    drawn: NDArray[np.bool_]
    spacing_mm: Sequence[float]
    centre: Sequence[int]
    box: tuple[slice, ...]
    window: tuple[float, float]

    def voxels(self, plane: _Plane) -> NDArray[np.generic]:
        return _upright(plane, self.image[_cut(plane, self.centre, self.box)])

    def classes(self, plane: _Plane) -> NDArray[np.generic]:
        return _upright(plane, self.labels[_cut(plane, self.centre, self.box)])

    def pixel_mm(self, plane: _Plane) -> tuple[float, float]:
        row_mm, column_mm = (self.spacing_mm[axis] for axis in range(3) if axis != plane.axis)
        return row_mm, column_mm

    def shown_mm2(self, plane: _Plane) -> float:
        """The area of the focus in the plane."""
        row_mm, column_mm = self.pixel_mm(plane)
        return int(np.count_nonzero(self.drawn[_cut(plane, self.centre, self.box)])) * row_mm * column_mm


def _cuts(image: Volume, labels: Volume, segments: Sequence[SegmentInfo], focus: Volume | None) -> _Cuts:
    """Raises: ShapeError, GeometryError, when the labels are no integers, or lie on another grid."""
    if not np.issubdtype(labels.array.dtype, np.integer):
        raise ShapeError(f"labels must be integers, but are {labels.array.dtype}; round and convert them first")
    if not image.same_grid(labels):
        raise GeometryError(
            f"the labels {labels.array.shape} do not lie on the image's grid {image.array.shape}; resample them to it"
        )
    turn = turn_towards(image.direction, "LPS")
    voxels, classes = turn.apply(image.array), turn.apply(labels.array)
    spacing_mm = turn.permute(image.spacing_mm[::-1])
    drawn = np.isin(classes, [s.value for s in segments]) if focus is None else turn.apply(focus.array)
    centre, box = _field_of_view(drawn, spacing_mm)
    return _Cuts(voxels, classes, drawn, spacing_mm, centre, box, _window(voxels[box]))


def _field_of_view(drawn: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[list[int], tuple[slice, ...]]:
    """The voxel at the segmentation's centre, and the box around it that is shown, both in the turned array."""
    if not drawn.any():
        return [size // 2 for size in drawn.shape], tuple(slice(0, size) for size in drawn.shape)
    centre, box = [], []
    for axis, (size, mm) in enumerate(zip(drawn.shape, spacing_mm, strict=True)):
        profile = drawn.sum(axis=tuple(other for other in range(3) if other != axis))
        found = np.flatnonzero(profile)
        middle = int(np.searchsorted(profile.cumsum(), profile.sum() / 2))  # the median lies inside; a mean may not
        around = round(_SURROUNDINGS_MM / mm)
        centre.append(middle)
        box.append(slice(max(0, int(found[0]) - around), min(size, int(found[-1]) + around + 1)))
    return centre, tuple(box)


def _cut(plane: _Plane, centre: Sequence[int], box: tuple[slice, ...]) -> tuple[slice | int, ...]:
    return tuple(centre[axis] if axis == plane.axis else box[axis] for axis in range(3))


def _upright(plane: _Plane, cut: NDArray[np.generic]) -> NDArray[np.generic]:
    return cut[::-1] if plane.upside_down else cut


def _window(voxels: NDArray[np.generic]) -> tuple[float, float]:
    finite = voxels[np.isfinite(voxels)].astype(np.float32)
    low, high = np.percentile(finite, _WINDOW_PERCENTILES) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def _panel_sizes(extents_mm: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """(width, height) in pixels of each panel: one height, together as wide as the picture."""
    aspects = [min(max(width / height, _PANEL_ASPECTS[0]), _PANEL_ASPECTS[1]) for height, width in extents_mm]
    room = WIDTH_PX - 2 * _MARGIN_PX - _GAP_PX * (len(aspects) - 1)
    height = min(room / sum(aspects), _MOST_PANEL_HEIGHT_PX) if aspects else 0
    return [(int(aspect * height), int(height)) for aspect in aspects]


# --- a panel


def _draw_panel(
    plane: _Plane,
    values: NDArray[np.generic],
    classes: NDArray[np.generic],
    pixel_mm: tuple[float, float],
    size: tuple[int, int],
    window: tuple[float, float],
    segments: Sequence[SegmentInfo],
) -> Image.Image:
    height_mm, width_mm = values.shape[0] * pixel_mm[0], values.shape[1] * pixel_mm[1]
    px_per_mm = min(size[0] / width_mm, size[1] / height_mm)
    inner = (max(1, round(width_mm * px_per_mm)), max(1, round(height_mm * px_per_mm)))
    low, high = window
    gray = (np.nan_to_num(values.astype(np.float32), nan=low) - low) / max(high - low, _SMALLEST_RANGE)
    picture = np.clip(_enlarge(gray, inner), 0, 1)[..., None].repeat(3, axis=2) * 255
    picture = _blend_segments(picture, classes, inner, segments)
    panel = Image.new("RGB", size, _PANEL)
    offset = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    panel.paste(Image.fromarray(picture.astype(np.uint8)), offset)
    _draw_letters(panel, plane)
    _draw_scale_bar(panel, px_per_mm)
    return panel


def _enlarge(values: Array, size: tuple[int, int]) -> Array:
    """Smooth interpolation to (width, height) pixels."""
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def _blend_segments(
    picture: Array, classes: NDArray[np.generic], size: tuple[int, int], segments: Sequence[SegmentInfo]
) -> Array:
    """Fill and outline each segment where it beats all others, so that neighbours meet without gap or overlap."""
    masks = [classes == segment.value for segment in segments]
    background = ~np.any(masks, axis=0) if masks else np.ones(classes.shape, bool)
    scores = np.stack([_smooth_mask(mask, size) for mask in [background, *masks]])
    for index, segment in enumerate(segments, start=1):
        others = np.delete(scores, index, axis=0).max(axis=0)
        if not masks[index - 1].any():
            continue
        lead = scores[index] - others
        slope = np.maximum(np.hypot(*np.gradient(lead)), 1e-4)
        inside_px = lead / slope  # about the distance to the outline
        fill = _FILL * np.clip(inside_px + 0.5, 0, 1)
        line = np.clip(_LINE_PX / 2 + 0.5 - np.abs(inside_px - _LINE_PX / 2), 0, 1)
        cover = np.maximum(fill, line * (scores[index] > 0.05))[..., None]
        picture = picture * (1 - cover) + cover * 255 * np.asarray(segment.color, np.float32)
    return picture


def _smooth_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> Array:
    """Voxel stairs rounded off; the middle of every voxel stays on its own side, so that no small segment vanishes."""
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), 1.0, mode="nearest")
    return _enlarge(np.where(mask, np.maximum(smooth, 0.53), np.minimum(smooth, 0.47)), size)


def _draw_letters(panel: Image.Image, plane: _Plane) -> None:
    left, right, top, bottom = plane.letters
    width, height = panel.size
    places = [
        (left, (14, height / 2), "lm"),
        (right, (width - 14, height / 2), "rm"),
        (top, (width / 2, 10), "ma"),
        (bottom, (width / 2, height - 10), "md"),
    ]
    for letter, place, anchor in places:
        _text(panel, place, letter, 22, anchor, _TEXT)
    _text(panel, (14, 10), plane.name, 20, "la", _TEXT)


def _draw_scale_bar(panel: Image.Image, px_per_mm: float) -> None:
    width, height = panel.size
    length_mm = next((mm for mm in (100, 50, 20, 10, 5, 2, 1) if mm * px_per_mm <= width / 4), 1)
    right, bottom, length = width - 16, height - 16, length_mm * px_per_mm
    pen = ImageDraw.Draw(panel)
    pen.rectangle((right - length - 1, bottom - 4, right + 1, bottom + 1), fill=(0, 0, 0))
    pen.rectangle((right - length, bottom - 3, right, bottom), fill=_TEXT)
    _text(panel, (right, bottom - 10), f"{length_mm} mm", 17, "rd", _TEXT)


# --- around the panels


def _canvas(panels: Sequence[tuple[int, int]], segment_count: int, title: str, note: str) -> Image.Image:
    panel_height = max((height for _, height in panels), default=0)
    legend_lines = -(-max(segment_count, 1) // _LEGEND_COLUMNS)
    height = _HEADER_PX + panel_height + 30 + legend_lines * _LEGEND_LINE_PX + 18
    canvas = Image.new("RGB", (WIDTH_PX, height), _BACKGROUND)
    _text(canvas, (_MARGIN_PX, _HEADER_PX / 2), title, 28, "lm", _TEXT, outline=False)
    _text(canvas, (WIDTH_PX - _MARGIN_PX, _HEADER_PX / 2), note, 19, "rm", _QUIET, outline=False)
    return canvas


_LEGEND_COLUMNS = 3


def _draw_legend(canvas: Image.Image, segments: Sequence[SegmentInfo], volumes: dict[int, float]) -> None:
    """Swatch, name and volume of each segment, column by column along the lower edge."""
    lines = -(-max(len(segments), 1) // _LEGEND_COLUMNS)
    top = canvas.height - 18 - lines * _LEGEND_LINE_PX
    column_px = (WIDTH_PX - 2 * _MARGIN_PX) / _LEGEND_COLUMNS
    pen = ImageDraw.Draw(canvas)
    for index, segment in enumerate(segments):
        left = _MARGIN_PX + (index % _LEGEND_COLUMNS) * column_px
        middle = top + (index // _LEGEND_COLUMNS + 0.5) * _LEGEND_LINE_PX
        color = tuple(round(255 * part) for part in segment.color)
        pen.rounded_rectangle((left, middle - 10, left + 20, middle + 10), radius=5, fill=color)
        name_end = _text(canvas, (left + 32, middle), segment.name, 21, "lm", _TEXT, outline=False)
        _text(canvas, (name_end + 14, middle), f"{volumes[segment.value]:.2f} mL", 21, "lm", _QUIET, outline=False)


def _text(
    canvas: Image.Image,
    place: tuple[float, float],
    text: str,
    size_px: int,
    anchor: str,
    color: tuple[int, int, int],
    *,
    outline: bool = True,
) -> float:
    """Write with Pillow's own font, readable on any gray when outlined; returns where the text ends."""
    font = ImageFont.load_default(size_px)
    pen = ImageDraw.Draw(canvas)
    pen.text(place, text, fill=color, font=font, anchor=anchor, stroke_width=2 if outline else 0, stroke_fill=(0, 0, 0))
    return place[0] + pen.textlength(text, font=font)
