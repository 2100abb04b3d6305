"""The table of the last result, and its copy as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from .result_rows import ResultRow, asText, headings

_SWATCH_PX = 12


class ResultsSection:
    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.rows: Sequence[ResultRow] = ()
        table = ui.resultTable
        table.columnCount = len(headings())
        table.setHorizontalHeaderLabels([_("Segment"), _("mL"), _("Voxels")])  # short: the panel may be narrow
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.copyResultButton.connect("clicked()", self.onCopy)
        self.show(())

    def show(self, rows: Sequence[ResultRow]) -> None:
        """Without rows the whole section is hidden."""
        self.rows = rows
        self.ui.resultsCollapsibleButton.visible = bool(rows)
        table = self.ui.resultTable
        table.rowCount = len(rows)
        for number, row in enumerate(rows):
            for column, text in enumerate(row.cells()):
                table.setItem(number, column, _cell(text, row if column == 0 else None))
        table.resizeRowsToContents()
        height = table.horizontalHeader().height + sum(table.rowHeight(number) for number in range(len(rows)))
        table.setFixedHeight(min(240, height + 2 * table.frameWidth + 2))

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(asText(self.rows))


def _cell(text: str, swatch: ResultRow | None) -> Any:
    item = qt.QTableWidgetItem(text)
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    item.setToolTip(text)
    if swatch is None:
        item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    else:
        picture = qt.QPixmap(_SWATCH_PX, _SWATCH_PX)
        picture.fill(qt.QColor(*(round(255 * part) for part in swatch.color)))
        item.setIcon(qt.QIcon(picture))
    return item
