"""The table of a result: one row for each segment, for the panel and for the clipboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _


@dataclass(frozen=True)
class ResultRow:
    """`color`: red, green, blue from 0 to 1."""

    name: str
    volume_ml: float
    voxels: int
    color: tuple[float, float, float]

    def cells(self) -> list[str]:
        return [self.name, f"{self.volume_ml:.3f}", str(self.voxels)]


def headings() -> list[str]:
    return [_("Segment"), _("Volume (mL)"), _("Voxels")]


def rowsOf(segments: Sequence[Mapping[str, Any]]) -> list[ResultRow]:
    """From what a worker tells of its segments; those without statistics are left out."""
    return [
        ResultRow(entry["name"], float(entry["volume_ml"]), int(entry["voxels"]), _color(entry.get("color")))
        for entry in segments
        if "volume_ml" in entry
    ]


def asText(rows: Sequence[ResultRow]) -> str:
    """Lines of cells between tabs, which spreadsheets paste as a table; a decimal point in every language."""
    return "\n".join("\t".join(cells) for cells in [headings(), *(row.cells() for row in rows)]) + "\n"


def _color(color: Sequence[float] | None) -> tuple[float, float, float]:
    red, green, blue = color or (0.5, 0.5, 0.5)
    return float(red), float(green), float(blue)
