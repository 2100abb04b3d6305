"""A reliability diagram: how often a model is right when it is so sure, before and after its temperature.

Drawn with Pillow from what the model file says (`calibration`, `bins_before` and `bins`). Bars are the accuracy of the
answers in each bin of confidence, the diagonal is a model that is as sure as it is right; below, how many answers a bin
holds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .errors import ConfigError
from .files import atomic_path
from .manifest import Manifest

_PANEL_PX, _COUNTS_PX, _GAP_PX = 520, 110, 110
_LEFT_PX, _TOP_PX, _BOTTOM_PX = 96, 118, 130
_PAPER, _INK, _QUIET, _GRID = (255, 255, 255), (28, 32, 38), (110, 118, 128), (226, 229, 233)
_BAR, _MISSING, _DIAGONAL = (66, 118, 184), (224, 120, 96), (28, 32, 38)
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

_Box = tuple[int, int, int, int]


def write_reliability_diagram(manifest: Manifest, path: Path) -> None:
    """Draw as `draw_reliability_diagram` does and write a PNG, whole or not at all.

    Raises:
        ImageError: the place cannot be written. And those of `draw_reliability_diagram`.
    """
    picture = draw_reliability_diagram(manifest)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=6)


def draw_reliability_diagram(manifest: Manifest) -> Image.Image:
    """Two panels side by side: without temperature, and with it.

    Raises:
        ConfigError: a model whose calibration was not measured, or makes no sense.
    """
    calibration = manifest.calibration
    before, after = calibration.get("bins_before", ()), calibration.get("bins", ())
    if not _are_bins(before) or not _are_bins(after):
        raise ConfigError(
            f"the calibration of {manifest.name!r} was not measured, so there is nothing to draw; `mambatrain export` "
            "measures it"
        )
    width = 2 * (_LEFT_PX + _PANEL_PX) + _GAP_PX
    picture = Image.new("RGB", (width, _TOP_PX + _PANEL_PX + _COUNTS_PX + _BOTTOM_PX), _PAPER)
    draw = ImageDraw.Draw(picture)
    title = f"{manifest.name} {manifest.version}: how often it is right when it is so sure"
    draw.text((_LEFT_PX, 24), title, _INK, _font(26))
    draw.text(
        (_LEFT_PX, 62),
        f"{_count(calibration.get('voxels'))} voxels near structures, {calibration.get('cases', '?')} cases",
        _QUIET,
        _font(19),
    )
    panels = (
        ("as trained", before, calibration.get("ece_before")),
        (f"temperature {calibration.get('temperature', 1.0):.3g}", after, calibration.get("ece_after")),
    )
    for number, (name, bins, error) in enumerate(panels):
        left = _LEFT_PX + number * (_PANEL_PX + _GAP_PX)
        _panel(draw, (left, _TOP_PX, left + _PANEL_PX, _TOP_PX + _PANEL_PX), name, bins, error)
    _legend(draw, picture.height - 40)
    return picture


def _panel(draw: ImageDraw.ImageDraw, box: _Box, name: str, bins: Sequence[Mapping[str, float]], error: Any) -> None:
    left, top, right, bottom = box
    for tick in _TICKS:
        x, y = left + tick * (right - left), bottom - tick * (bottom - top)
        draw.line((left, y, right, y), _GRID, 1)
        draw.line((x, top, x, bottom), _GRID, 1)
        draw.text((left - 10, y), f"{tick:g}", _QUIET, _font(17), anchor="rm")
        draw.text((x, bottom + _COUNTS_PX + 10), f"{tick:g}", _QUIET, _font(17), anchor="ma")
    for entry in bins:
        x0, x1 = (left + entry[end] * (right - left) for end in ("from", "to"))
        right_y, sure_y = (bottom - entry[key] * (bottom - top) for key in ("accuracy", "confidence"))
        draw.rectangle((x0 + 1, right_y, x1 - 1, bottom), _BAR)
        draw.rectangle((x0 + 1, min(right_y, sure_y), x1 - 1, max(right_y, sure_y)), outline=_MISSING, width=3)
        height = entry["fraction"] * (_COUNTS_PX - 34)
        draw.rectangle((x0 + 1, bottom + _COUNTS_PX - height, x1 - 1, bottom + _COUNTS_PX), _QUIET)
    draw.line((left, bottom, right, top), _DIAGONAL, 2)
    draw.rectangle((left, top, right, bottom), outline=_INK, width=2)
    draw.line((left, bottom + _COUNTS_PX, right, bottom + _COUNTS_PX), _INK, 2)
    told = f"{name}, calibration error {error:.3f}" if isinstance(error, int | float) else name
    draw.text((left + 14, top + 12), told, _INK, _font(20), stroke_width=3, stroke_fill=_PAPER)
    draw.text((left + 4, bottom + 8), "answers in each bin", _QUIET, _font(15))
    draw.text(((left + right) / 2, bottom + _COUNTS_PX + 34), "probability of the answer", _INK, _font(18), anchor="ma")


def _legend(draw: ImageDraw.ImageDraw, y: int) -> None:
    x = float(_LEFT_PX)
    marks = ((_BAR, True, "answers that are right"), (_MISSING, False, "distance to the probability, on average"))
    for color, filled, text in marks:
        draw.rectangle((x, y, x + 18, y + 18), color if filled else None, color, 3)
        draw.text((x + 28, y + 9), text, _INK, _font(18), anchor="lm")
        x += 60 + draw.textlength(text, _font(18))


def _are_bins(value: Any) -> bool:
    keys = ("from", "to", "fraction", "confidence", "accuracy")
    return bool(value) and all(
        isinstance(entry, Mapping) and all(isinstance(entry.get(key), int | float) for key in keys) for entry in value
    )


def _count(value: Any) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else "?"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
