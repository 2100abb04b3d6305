"""Draw a network as the U that it is, as an SVG with text that stays text."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from MambaSegmentLib.files import atomic_path

from .structure import Box, Drawing

COLORS = {"conv": "#cfe2f3", "mamba": "#fbd5a8", "hgcn": "#cfe8c9", "plain": "#eeeeee"}
LEGEND = {"conv": "convolutions", "hgcn": "HGCN (joined convolutions)", "mamba": "Mamba", "plain": "other"}
INK, FAINT = "#222222", "#666666"
BOX_WIDTH, CELL_HEIGHT, CAPTION, GAP = 3.3, 0.26, 0.2, 0.34  # inches
LEFT, RIGHT = 0.15, 5.25
WIDTH = RIGHT + BOX_WIDTH + LEFT
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mambasegment",  # the same drawing is the same file
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
}


def draw(drawing: Drawing, path: Path) -> None:
    """Write the picture; the same drawing gives the same bytes with the same matplotlib."""
    with matplotlib.rc_context(STYLE):
        height = _height(drawing)
        figure = pyplot.figure(figsize=(WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        axes.axis("off")
        _draw_u(axes, drawing)
        _draw_legend(axes, drawing)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    with_fallbacks = picture.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    with atomic_path(path) as temporary:
        temporary.write_text(with_fallbacks, encoding="utf-8")


def _height(drawing: Drawing) -> float:
    rows = sum(_row_height(row.left, row.right) + GAP for row in drawing.rows)
    return 0.62 + rows + _box_height(drawing.bottom) + 0.5


def _row_height(left: Box, right: Box) -> float:
    return max(_box_height(left), _box_height(right))


def _box_height(box: Box) -> float:
    return CAPTION + len(box.cells) * CELL_HEIGHT


def _draw_u(axes: Axes, drawing: Drawing) -> None:
    axes.text(LEFT, 0.22, drawing.title, weight="bold", size=11, va="center", color=INK)
    top = 0.5
    left_ends, right_starts = [], []
    for row in drawing.rows:
        height = _row_height(row.left, row.right)
        left_top = top + height - _box_height(row.left)  # the boxes of a row stand on one line
        right_top = top + height - _box_height(row.right)
        _draw_box(axes, row.left, LEFT, left_top, BOX_WIDTH)
        _draw_box(axes, row.right, RIGHT, right_top, BOX_WIDTH, upwards=True)
        if left_ends:
            _arrow(axes, (LEFT + BOX_WIDTH / 2, left_ends[-1]), (LEFT + BOX_WIDTH / 2, left_top + CAPTION))
            _arrow(axes, (RIGHT + BOX_WIDTH / 2, top + height - len(row.right.cells) * CELL_HEIGHT), right_starts[-1])
        if row.skip is not None:
            middle = top + height - CELL_HEIGHT / 2
            steps_below = (-1 - row.skip_after) % len(row.left.cells)
            _arrow(axes, (LEFT + BOX_WIDTH, middle - steps_below * CELL_HEIGHT), (RIGHT, middle))
            center = (LEFT + BOX_WIDTH + RIGHT) / 2
            axes.text(center, middle - 0.05, row.skip, ha="center", va="bottom", color=INK, size=7.5)
        top += height
        left_ends.append(top)
        right_starts.append((RIGHT + BOX_WIDTH / 2, top))
        top += GAP
    inset = BOX_WIDTH / 2 - 0.4
    _draw_box(axes, drawing.bottom, LEFT + inset, top, WIDTH - 2 * (LEFT + inset), caption_at=0.5)
    _arrow(axes, (LEFT + BOX_WIDTH / 2, left_ends[-1]), (LEFT + BOX_WIDTH / 2, top + CAPTION))
    _arrow(axes, (RIGHT + BOX_WIDTH / 2, top + CAPTION), right_starts[-1])


def _draw_box(
    axes: Axes, box: Box, x: float, y: float, width: float, *, upwards: bool = False, caption_at: float = 1.0
) -> None:
    """The size above, then the steps; `upwards` puts the first step at the bottom."""
    channels = "1 channel" if box.channels == 1 else f"{box.channels} channels"
    size = f"{channels}, {' × '.join(map(str, box.spatial))}"
    place = "right" if caption_at == 1 else "center"
    axes.text(x + caption_at * width, y + CAPTION - 0.05, size, color=FAINT, size=7, ha=place)
    for index, (kind, text) in enumerate(reversed(box.cells) if upwards else box.cells):
        top = y + CAPTION + index * CELL_HEIGHT
        axes.add_patch(Rectangle((x, top), width, CELL_HEIGHT, facecolor=COLORS[kind], edgecolor=INK, linewidth=0.6))
        axes.text(x + width / 2, top + CELL_HEIGHT / 2, text, ha="center", va="center", color=INK)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    )


def _draw_legend(axes: Axes, drawing: Drawing) -> None:
    boxes = [box for row in drawing.rows for box in (row.left, row.right)] + [drawing.bottom]
    kinds = {kind for box in boxes for kind, _ in box.cells}
    handles = [
        Patch(facecolor=COLORS[kind], edgecolor=INK, linewidth=0.6, label=text)
        for kind, text in LEGEND.items()
        if kind in kinds
    ]
    axes.legend(handles=handles, loc="lower center", ncol=len(handles), frameon=False, fontsize=7.5)
    axes.text(
        WIDTH - LEFT, 0.22, "read down on the left, up on the right", ha="right", va="center", color=FAINT, size=7.5
    )
