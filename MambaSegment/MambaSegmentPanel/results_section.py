"""The table of the last result, its copies, and its surfaces in 3D."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError

from .messages import asSentence
from .result_rows import ResultRow, asText, columns, rowsOf
from .surfaces import hideSurfaces, showSurfaces, surfacesAreShown, surfacesAreWanted

if TYPE_CHECKING:
    from .job import SegmentationJob

_log = logging.getLogger("MambaSegment")
_SWATCH_PX = 12
_LONGEST_NAME_PX = 110  # longer names are cut; the figures beside them shall be seen in a narrow panel
_LARGEST_HEIGHT_PX = 240


class ResultsSection:
    """Args:
    ui: the named widgets of MambaSegment.ui.
    askFile: given a suggestion, where the user wants the table saved; an empty text for nowhere.
    """

    def __init__(self, ui: Any, askFile: Callable[[str], str]) -> None:
        self.ui = ui
        self.rows: Sequence[ResultRow] = ()
        self._jobs: list[SegmentationJob] = []
        self._askFile = askFile
        self._later: Any = qt.QTimer()  # surfaces take a moment: not in the middle of what the worker tells
        self._later.setSingleShot(True)
        self._later.connect("timeout()", self._makeSurfaces)
        self._surfacesFor: Any = None
        table = ui.resultTable
        table.columnCount = 1 + len(columns())
        table.setHorizontalHeaderLabels([_("Segment"), *(column.short for column in columns())])
        for number, column in enumerate(columns(), start=1):
            table.horizontalHeaderItem(number).setToolTip(f"{column.long}: {column.meaning}")
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Interactive)
        ui.copyResultButton.connect("clicked()", self.onCopy)
        ui.exportResultButton.connect("clicked()", self.onExport)
        ui.show3DButton.connect("clicked()", self.onShow3D)
        self.clear()

    @property
    def node(self) -> Any:
        """The segmentation of the last result, while the scene has it."""
        node = self._jobs[0].outcome.node if self._jobs else None
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    def clear(self) -> None:
        """No result; the whole section is hidden."""
        self._jobs = []
        self._surfacesFor = None
        self._later.stop()
        self._show()

    def add(self, job: SegmentationJob, surface: str) -> None:
        """A result more; `surface` says when it is shown in 3D, as `surfaces.py` has it."""
        self._jobs.append(job)
        self._show()
        voxels = sum(int(row.figures["voxels"] or 0) for row in self.rows)
        if surfacesAreWanted(surface, voxels):
            self._surfacesFor = job.outcome.node
            self._later.start(0)

    def close(self) -> None:
        self._later.stop()

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(asText(self.rows))

    def onExport(self) -> None:
        """Write the table with all digits; what goes wrong is said beside the button."""
        from MambaSegmentLib.review.statistics_files import write_statistics  # only a click needs it

        name = self._askFile(f"{self._jobs[0].outcome.node.GetName()}.csv") if self._jobs else ""
        if not name:
            return
        path = Path(name) if name.lower().endswith(".csv") else Path(f"{name}.csv")
        try:
            write_statistics([row.facts() for row in self.rows], path)
        except MambaSegmentError as problem:
            _log.error("%s", problem)
            self._say(asSentence(str(problem)))
        else:
            self._say(_("Saved as {path}.").format(path=path))

    def onShow3D(self) -> None:
        node = self.node
        if node is None:
            return
        if self.ui.show3DButton.checked:
            with slicer.util.WaitCursor():
                showSurfaces(node)
        else:
            hideSurfaces(node)

    def toggle(self) -> None:
        """Show the segments of the last result, or hide them, to see what is below."""
        node = self.node
        if node is not None and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(not node.GetDisplayNode().GetVisibility())

    def _makeSurfaces(self) -> None:
        if self._surfacesFor is not None and slicer.mrmlScene.IsNodePresent(self._surfacesFor):
            showSurfaces(self._surfacesFor)
        self._surfacesFor = None
        self._showSurfaceButton()

    def _show(self) -> None:
        self.rows = rowsOf(self._jobs)
        self._say("")
        self.ui.resultsCollapsibleButton.visible = bool(self._jobs)
        table = self.ui.resultTable
        table.rowCount = len(self.rows)
        for number, row in enumerate(self.rows):
            for column, text in enumerate(row.cells()):
                table.setItem(number, column, _cell(text, row if column == 0 else None))
        table.resizeColumnToContents(0)
        table.setColumnWidth(0, min(table.columnWidth(0), _LONGEST_NAME_PX))
        table.resizeRowsToContents()
        heights = sum(table.rowHeight(number) for number in range(len(self.rows)))
        height = table.horizontalHeader().height + heights + table.horizontalScrollBar().height
        table.setFixedHeight(min(_LARGEST_HEIGHT_PX, height + 2 * table.frameWidth + 2))
        self._showSurfaceButton()

    def _showSurfaceButton(self) -> None:
        button = self.ui.show3DButton
        wasBlocked = button.blockSignals(True)
        button.checked = self.node is not None and surfacesAreShown(self.node)
        button.blockSignals(wasBlocked)

    def _say(self, text: str) -> None:
        self.ui.resultFileLabel.text = text
        self.ui.resultFileLabel.visible = bool(text)


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
