"""The picture of a training: loss and validation Dice over its epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path

_LOSS, _MEAN = "#1f4e79", "#b3472b"
_LABELS = ("#d9a441", "#5a9e6f", "#8a6fb0", "#5fa8c4", "#c77ba0", "#8f8f4b", "#a0764f", "#7a7a7a")


def draw_curve(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the records of metrics.jsonl as a PNG.

    Raises:
        ConfigError: the place cannot be written. ResourceError: the disk is full.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, since it would hold up a run's first step
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.2, 4.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    losses = [(record["epoch"], record["loss"]) for record in records if record["loss"] is not None]
    left.plot(*_columns(losses), color=_LOSS, linewidth=1.6, marker="o" if len(losses) < 20 else None, markersize=3)
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color=_LOSS)
    left.tick_params(axis="y", colors=_LOSS)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.grid(alpha=0.25)
    left.spines[["top", "right"]].set_visible(False)
    scored = [record for record in records if "dice" in record]
    if scored:
        _draw_dice(left.twinx(), scored)
    with atomic_path(path, ConfigError) as temporary:
        figure.savefig(temporary)


def _draw_dice(axes: Any, scored: Sequence[Mapping[str, Any]]) -> None:
    """The mean in bold; the labels, where there are several and not too many to tell apart, with a legend."""
    labels = [label for label in scored[-1]["dice"] if label != "mean"]
    marker = "o" if len(scored) < 20 else None  # a single point has no line
    for number, label in enumerate(labels if 1 < len(labels) <= len(_LABELS) else ()):
        points = [(entry["epoch"], entry["dice"][label]) for entry in scored if entry["dice"].get(label) is not None]
        axes.plot(*_columns(points), color=_LABELS[number], linewidth=1.1, marker=marker, markersize=2.5, label=label)
    means = [(entry["epoch"], entry["dice"]["mean"]) for entry in scored]
    axes.plot(*_columns(means), color=_MEAN, linewidth=1.8, marker="o", markersize=3.5, label="mean")
    axes.figure.legend(loc="outside lower center", ncols=4, fontsize=8, edgecolor="none")  # no point can lie behind it
    epoch, best = max(means, key=lambda point: point[1])
    axes.set_title(f"best mean Dice {best:.4f} in epoch {epoch}", fontsize=10, loc="left")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("validation Dice", color=_MEAN)
    axes.tick_params(axis="y", colors=_MEAN)
    axes.spines[["top", "left"]].set_visible(False)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
