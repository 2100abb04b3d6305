"""The figures that papers of this field show, as PNG.

The rendering takes its surfaces from scikit-image, which the training has anyway.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.orientation import turn_towards
from MambaSegmentLib.overlay import draw_plane
from MambaSegmentLib.volume import Volume

from ..evaluation.records import labels_path
from .compare import Study
from .entry import Entry

_CELL_PX, _HEAD_PX, _SIDE_PX, _GAP_PX = 330, 44, 170, 8
_COLORS = ("#3b7dd8", "#e07b39", "#2f9e77", "#b5538b", "#8a6fd1", "#c2a02b", "#4aa9c9", "#7a7a7a")


def draw_all(study: Study) -> tuple[dict[str, Path], list[str]]:
    """Draw what can be drawn.

    Returns:
        Title -> PNG; and what could not be drawn, as sentences.
    Raises:
        ConfigError, ResourceError: a file that cannot be written.
    """
    figures: dict[str, Path] = {}
    missing: list[str] = []
    drawings: Mapping[str, tuple[str, Callable[[Study, Any], str | None]]] = {
        "Size against Dice": ("bubbles", _bubbles),
        "Dice of the cases": ("dice_histogram", _histogram),
        "Training": ("curves", _curves),
        "A case in three dimensions": ("rendering", _rendering),
    }
    for title, (name, draw) in drawings.items():
        path, problem = study.folder / f"{name}.png", _save(study, study.folder / f"{name}.png", draw)
        if problem is None:
            figures[title] = path
        else:
            missing.append(problem)
    figures["Cases"] = _qualitative(study)
    return figures, missing


def _save(study: Study, path: Path, draw: Callable[[Study, Any], str | None]) -> str | None:
    """None, or why there is nothing to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    problem = draw(study, figure)
    if problem is None:
        with atomic_path(path, ConfigError) as temporary:
            figure.savefig(temporary, format="png")
    return problem


def _bubbles(study: Study, figure: Any) -> str | None:
    """Multiply-adds against Dice; the area of a bubble is the number of parameters."""
    figure.set_size_inches(9.5, 4.6)
    axes = figure.subplots()
    most = max(entry.parameters for entry in study.entries)
    for entry, color in _colored(study):
        x, y = (entry.multiply_adds or 0) / 1e9, _mean_dice(entry)
        size = 60 + 1600 * entry.parameters / most
        axes.scatter(x, y, s=size, color=color, alpha=0.5, edgecolor=color)
        label = f"{entry.name}, {entry.parameters / 1e6:.2f} M"
        axes.scatter([], [], s=70, color=color, alpha=0.7, label=label)  # of one size in the legend
    axes.set_xscale("log")
    for axis_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_formatter("{x:g}")
    axes.margins(0.25, 0.3)
    axes.set_xlabel("multiply-adds of a patch, in 10⁹")
    axes.set_ylabel("mean Dice")
    axes.set_title("Area: number of parameters", fontsize=9, color="#666666")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _plain(axes)
    return None


def _histogram(study: Study, figure: Any) -> str | None:
    """How many cases have which mean Dice, a row for each entry."""
    figure.set_size_inches(7.5, 0.6 + 1.3 * len(study.entries))
    scores = {entry.name: _scores(entry) for entry in study.entries}
    everything = [value for values in scores.values() for value in values]
    if not everything:
        return "No case has a Dice, so there is no histogram."
    low = max(0.0, np.floor(min(everything) * 20) / 20)
    bins = np.linspace(low, 1.0, 26)
    rows = figure.subplots(len(study.entries), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (entry, color) in zip(rows, _colored(study), strict=True):
        values = scores[entry.name]
        axes.hist(values, bins=bins, color=color, alpha=0.75)
        axes.axvline(float(np.mean(values)), color="#222222", linewidth=1.5)
        axes.set_title(entry.name, loc="left", fontsize=9)
        axes.yaxis.get_major_locator().set_params(integer=True)
        _plain(axes)
    rows[-1].set_xlabel("mean Dice of a case; the line is their mean")
    figure.supylabel("cases", fontsize=9)
    return None


def _curves(study: Study, figure: Any) -> str | None:
    """Loss and validation Dice of each epoch."""
    trained = [(entry, color) for entry, color in _colored(study) if entry.records]
    if not trained:
        return "Model files hold no learning curves."
    figure.set_size_inches(10, 4)
    left, right = figure.subplots(1, 2)
    for entry, color in trained:
        epochs = [record["epoch"] for record in entry.records]
        left.plot(epochs, [record["loss"] for record in entry.records], color=color, label=entry.name)
        validated = [
            (r["epoch"], r["dice"]["mean"]) for r in entry.records if r.get("dice", {}).get("mean") is not None
        ]
        right.plot(*zip(*validated, strict=True), color=color, marker="o", markersize=3, label=entry.name)
    left.set_ylabel("training loss")
    right.set_ylabel("mean Dice in validation")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _plain(axes)
    right.legend(fontsize=8, frameon=False, loc="lower right")
    return None


def _rendering(study: Study, figure: Any) -> str | None:
    """The surfaces of the case of median Dice: the reference, and what each found."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    case = _typical_cases(study)[1]
    columns = _label_maps(study, case)
    if min(columns[0][1].array.shape) < 3:
        return "The cases are single slices, so there is nothing to render."
    segments = study.entries[0].subject.manifest.segments
    figure.set_size_inches(2.9 * len(columns), 3.4)
    truth = columns[0][1]
    for number, (title, labels) in enumerate(columns, start=1):
        axes = figure.add_subplot(1, len(columns), number, projection="3d")
        corners = []
        for segment in segments:
            triangles = _surface(labels, segment.value)
            if triangles is not None:
                axes.add_collection3d(
                    Poly3DCollection(triangles, facecolors=_shaded(triangles, segment.color), edgecolors="none")
                )
        for segment in segments:
            triangles = _surface(truth, segment.value)
            if triangles is not None:
                corners.append(triangles.reshape(-1, 3))
        if corners:
            points = np.concatenate(corners)
            low, high = points.min(axis=0), points.max(axis=0)
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
            axes.set_box_aspect(np.maximum(high - low, 1.0), zoom=1.25)
        axes.view_init(elev=18, azim=-60)
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
    return None


def _surface(labels: Volume, value: int) -> np.ndarray | None:
    """Triangles (n, 3, 3) in mm, axes left, posterior and superior; None where there are no voxels."""
    from scipy import ndimage
    from skimage.measure import marching_cubes

    turn = turn_towards(labels.direction, "LPS")
    mask = turn.apply(labels.array) == value
    if not mask.any():
        return None
    spacing_mm = turn.permute(labels.spacing_mm[::-1])
    smooth = ndimage.gaussian_filter(np.pad(mask, 2).astype(np.float32), 0.8)
    if smooth.max() <= 0.5:  # too thin to survive smoothing
        smooth = np.pad(mask, 2).astype(np.float32)
    corners, faces, _, _ = marching_cubes(smooth, 0.5, spacing=tuple(spacing_mm))
    return corners[faces][..., ::-1]  # the array's axes are superior, posterior, left


def _shaded(triangles: np.ndarray, color: Sequence[float]) -> np.ndarray:
    """Each triangle as bright as it faces the light."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.maximum(lengths, 1e-9)
    light = np.array([0.35, -0.65, 0.67])
    brightness = 0.45 + 0.55 * np.abs(normals @ light)
    return np.clip(brightness[:, None] * np.asarray(color), 0, 1)


# --- cases in two dimensions


def _qualitative(study: Study) -> Path:
    """Best, median and worst case: the reference, and what each found, in one plane."""
    cases = dict(zip(("best", "median", "worst"), _typical_cases(study), strict=True))
    segments = study.entries[0].subject.manifest.segments
    titles = ["reference", *(entry.name for entry in study.entries)]
    rows = list(dict.fromkeys(cases.values()))
    side = max(_SIDE_PX, *(24 + math.ceil(ImageFont.load_default(14).getlength(case)) for case in rows))
    width = side + len(titles) * (_CELL_PX + _GAP_PX)
    canvas = Image.new("RGB", (width, _HEAD_PX + len(rows) * (_CELL_PX + _GAP_PX)), (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        _write(pen, (side + column * (_CELL_PX + _GAP_PX) + _CELL_PX / 2, _HEAD_PX / 2), title, 19, "mm")
    for row, case in enumerate(rows):
        top = _HEAD_PX + row * (_CELL_PX + _GAP_PX)
        kind = ", ".join(name for name, one in cases.items() if one == case)
        _write(pen, (12, top + _CELL_PX / 2 - 14), kind, 19, "lm")
        _write(pen, (12, top + _CELL_PX / 2 + 14), case, 14, "lm")
        image = study.entries[0].subject.data.read(case)[0][0]
        maps = _label_maps(study, case)
        focus = maps[0][1].with_array(maps[0][1].array != 0)
        for column, (_, labels) in enumerate(maps):
            panel = draw_plane(image, labels, segments, size=(_CELL_PX, _CELL_PX), focus=focus)
            left = side + column * (_CELL_PX + _GAP_PX)
            canvas.paste(panel, (left, top))
            if column:
                dice = study.entries[column - 1].evaluation.agreements[case].mean_dice
                text = "" if dice is None else f"{dice:.3f}"
                _write(ImageDraw.Draw(canvas), (left + 10, top + _CELL_PX - 18), text, 18, "lm", (255, 255, 255))
    path = study.folder / "cases.png"
    with atomic_path(path, ConfigError) as temporary:
        canvas.save(temporary, format="PNG", compress_level=6)
    return path


def _typical_cases(study: Study) -> tuple[str, str, str]:
    """The best, the median and the worst, by the mean over all entries."""
    means: dict[str, float] = {}
    for case in study.entries[0].evaluation.records:
        scores = [entry.evaluation.agreements[case].mean_dice for entry in study.entries]
        present = [score for score in scores if score is not None]
        means[case] = sum(present) / len(present) if present else 0.0
    ordered = sorted(means, key=lambda case: (-means[case], case))
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]


def _label_maps(study: Study, case: str) -> list[tuple[str, Volume]]:
    """Reference and predictions; ignored voxels are background."""
    data = study.entries[0].subject.data
    truth = data.read(case)[1]
    if data.ignore_label is not None:
        truth = truth.with_array(np.where(truth.array == data.ignore_label, 0, truth.array))
    maps = [("reference", truth)]
    for entry in study.entries:
        found = read_volume(labels_path(entry.evaluation.folder, case))
        maps.append((entry.name, truth.with_array(found.array.astype(np.int32))))
    return maps


# --- small things


def _colored(study: Study) -> list[tuple[Entry, str]]:
    return [(entry, _COLORS[number % len(_COLORS)]) for number, entry in enumerate(study.entries)]


def _scores(entry: Entry) -> list[float]:
    scores = (agreement.mean_dice for agreement in entry.evaluation.agreements.values())
    return [score for score in scores if score is not None]


def _mean_dice(entry: Entry) -> float:
    scores = _scores(entry)
    return sum(scores) / len(scores) if scores else 0.0


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e7ec", linewidth=0.7)
    axes.set_axisbelow(True)


def _write(
    pen: Any,
    place: tuple[float, float],
    text: str,
    size_px: int,
    anchor: str,
    color: tuple[int, int, int] = (25, 28, 33),
) -> None:
    outline = {"stroke_width": 2, "stroke_fill": (0, 0, 0)} if color == (255, 255, 255) else {}
    pen.text(place, text, fill=color, font=ImageFont.load_default(size_px), anchor=anchor, **outline)
