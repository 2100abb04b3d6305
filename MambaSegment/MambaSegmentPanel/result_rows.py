"""The table of a result: one row for each segment, for the panel, for the clipboard and for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from .job import SegmentationJob


@dataclass(frozen=True)
class Column:
    """A figure of `SegmentStatistics`.

    Attributes:
        short: heading in the panel, which may be narrow. long: heading on the clipboard, with the unit.
        meaning: for a tool tip.
        form: as for `format`.
    """

    key: str
    short: str
    long: str
    meaning: str
    form: str


def columns() -> list[Column]:
    """After the segment's name, the most wanted first."""
    return [
        Column("volume_ml", _("mL"), _("Volume (mL)"), _("Volume of all its pieces"), ".3f"),
        Column(
            "diameter_mm",
            _("Ø mm"),
            _("Longest diameter (mm)"),
            _("The largest distance between two of its voxels, in any direction"),
            ".1f",
        ),
        Column(
            "in_plane_diameter_mm",
            _("Ø slice"),
            _("Longest diameter in a slice (mm)"),
            _("The largest distance between two of its voxels in one acquired slice, as RECIST measures"),
            ".1f",
        ),
        Column("intensity_mean", _("Mean"), _("Mean"), _("Mean of the first volume's voxels in it"), ".5g"),
        Column("intensity_sd", _("SD"), _("Standard deviation"), _("Standard deviation of these voxels"), ".5g"),
        Column("voxels", _("Voxels"), _("Voxels"), _("Number of its voxels"), "d"),
        Column("pieces", _("Pieces"), _("Pieces"), _("Separate parts; one for a segment in one piece"), "d"),
        Column("largest_piece_ml", _("Largest mL"), _("Largest piece (mL)"), _("Volume of its largest part"), ".3f"),
    ]


@dataclass(frozen=True)
class ResultRow:
    """`color`: red, green, blue from 0 to 1; `figures`: by the keys of the columns, None where there is none."""

    name: str
    model: str
    color: tuple[float, float, float]
    figures: Mapping[str, float | None]

    def cells(self) -> list[str]:
        """Its name, then a text for each column; a decimal point in every language."""
        return [self.name, *(self._cell(column) for column in columns())]

    def facts(self) -> dict[str, Any]:
        """For a file: as the worker told them, with the model."""
        return {"name": self.name, "model": self.model, **self.figures}

    def _cell(self, column: Column) -> str:
        figure = self.figures.get(column.key)
        return "" if figure is None else format(figure, column.form)


def headings() -> list[str]:
    return [_("Segment"), *(column.long for column in columns())]


def rowsOf(jobs: Sequence[SegmentationJob]) -> list[ResultRow]:
    """From what the worker told of the segments; those without statistics are left out."""
    return [
        rowOf(entry, job.request.manifest.name)
        for job in jobs
        for entry in job.outcome.segments
        if "volume_ml" in entry
    ]


def rowOf(entry: Mapping[str, Any], model: str) -> ResultRow:
    """From what a worker tells of one segment."""
    figures = {column.key: entry.get(column.key) for column in columns()}
    return ResultRow(entry["name"], model, _color(entry.get("color")), figures)


def asText(rows: Sequence[ResultRow]) -> str:
    """Lines of cells between tabs, which spreadsheets paste as a table."""
    return "\n".join("\t".join(cells) for cells in [headings(), *(row.cells() for row in rows)]) + "\n"


def _color(color: Sequence[float] | None) -> tuple[float, float, float]:
    red, green, blue = color or (0.5, 0.5, 0.5)
    return float(red), float(green), float(blue)
