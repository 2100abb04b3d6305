"""The list of a batch: a row for each case, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from MambaSegmentLib.batch.outcome import DONE, FAILED

from .batch_job import BEFORE, RUNNING, CaseState
from .messages import asSentence
from .run_progress import BAR_END, RunProgress, secondsText

_CASE, _STATUS = 0, 1
_HEIGHT_PX = 200


class BatchTable:
    """Args:
    table: a QTableWidget of BatchSection.ui.
    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self.states: list[CaseState | None] = []
        self._keys: list[str] = []
        table.columnCount = 2
        table.setHorizontalHeaderLabels([_("Case"), _("Status")])
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Interactive)
        header.setStretchLastSection(True)
        table.verticalHeader().setVisible(False)
        table.setFixedHeight(_HEIGHT_PX)

    def show(self, names: Sequence[str], keys: Sequence[str] | None = None) -> None:
        """These cases, of which nothing is known yet.

        Args:
            keys: where each case shall have a box to tick; what was shown under the same key before keeps its state,
                and a case that is done is not ticked, since it need not be done again.
        """
        known = dict(zip(self._keys, self.states, strict=True)) if keys is not None else {}
        self._keys = list(keys if keys is not None else names)
        self.states = [known.get(key) for key in self._keys]
        self.table.rowCount = len(names)
        for row, (name, state) in enumerate(zip(names, self.states, strict=True)):
            item = _item(name)
            if keys is not None:
                item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
                isDone = state is not None and state.status == DONE
                item.setCheckState(qt.Qt.Unchecked if isDone else qt.Qt.Checked)
            self.table.setItem(row, _CASE, item)
            self.table.setItem(row, _STATUS, _item(statusText(state)))

    def ticked(self) -> list[int]:
        """The rows whose box is ticked."""
        rows = range(len(self.states))
        return [row for row in rows if self.table.item(row, _CASE).checkState() == qt.Qt.Checked]

    def set(self, row: int, state: CaseState) -> None:
        """What is new of a case; one that is done loses its tick, where it had one."""
        self.states[row] = state
        item = self.table.item(row, _STATUS)
        item.setText(statusText(state))
        item.setToolTip(detailText(state))
        first = self.table.item(row, _CASE)
        if state.status == DONE and first.flags() & qt.Qt.ItemIsUserCheckable:
            first.setCheckState(qt.Qt.Unchecked)

    def forget(self, row: int) -> None:
        """A case waits again."""
        self.states[row] = None
        self.table.item(row, _STATUS).setText(statusText(None))

    def showRow(self, row: int) -> None:
        """Scroll to the case that is being done."""
        self.table.scrollToItem(self.table.item(row, _CASE))


def statusText(state: CaseState | None) -> str:
    """A few words."""
    if state is None:
        return _("waiting")
    if state.status == RUNNING:
        return _("running, {percent} %").format(percent=round(100 * fractionOf(state)))
    if state.status == BEFORE:
        return _("done before")
    if state.outcome is not None and state.status == FAILED:
        return _("failed: {message}").format(message=state.outcome.message)
    text = _("done in {time}").format(time=secondsText(0.0 if state.outcome is None else state.outcome.seconds))
    return _("{text}, with a note").format(text=text) if state.outcome is not None and state.outcome.warnings else text


def detailText(state: CaseState | None) -> str:
    """All that is known of a case that is over; empty before."""
    outcome = None if state is None else state.outcome
    if outcome is None:
        return ""
    if outcome.status == FAILED:
        return " ".join(part for part in (asSentence(outcome.message), outcome.advice) if part)
    return " ".join([*outcome.warnings, _("Double click opens it.")])


def fractionOf(state: CaseState) -> float:
    """How far a case is that is running, 0 to 1."""
    if state.progress is None:
        return 0.0
    progress = RunProgress()
    progress.add(state.progress)
    return progress.value / BAR_END


def _item(text: str) -> Any:
    item = qt.QTableWidgetItem(text)
    item.setFlags(item.flags() & ~(qt.Qt.ItemIsEditable | qt.Qt.ItemIsUserCheckable))
    item.setToolTip(text)
    return item
