"""The list of models that one click runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .model_queue import Entry, entriesOf, setEntries


class QueueSection:
    """Args:
    ui: the named widgets of MambaSegment.ui.
    current: what is chosen above, or None while it cannot be run.
    """

    def __init__(self, ui: Any, current: Callable[[], Entry | None]) -> None:
        self.ui = ui
        self.node: Any = None
        self._current = current
        ui.queueCollapsibleButton.collapsed = True
        ui.addToQueueButton.connect("clicked()", self.onAdd)
        ui.removeFromQueueButton.connect("clicked()", self.onRemove)
        ui.queueList.connect("itemSelectionChanged()", self._showButtons)

    @property
    def entries(self) -> list[Entry]:
        return [] if self.node is None else entriesOf(self.node)

    def show(self, node: Any) -> None:
        self.node = node
        ui, entries = self.ui, self.entries
        chosen = ui.queueList.currentRow
        ui.queueList.clear()
        for entry in entries:
            ui.queueList.addItem(_lineOf(entry))
        if entries:
            ui.queueList.setCurrentRow(min(max(chosen, 0), len(entries) - 1))
        ui.queueList.visible = bool(entries)
        ui.removeFromQueueButton.visible = bool(entries)
        heading = _("Several models: {count}").format(count=len(entries)) if entries else _("Several models")
        ui.queueCollapsibleButton.text = heading
        ui.queueHintLabel.text = (
            _("These are run after each other into one segmentation; options and output are those above.")
            if entries
            else _("Put models on a list to run them with one click into one segmentation.")
        )
        self._showButtons()

    def onAdd(self) -> None:
        entry = self._current()
        if self.node is not None and entry is not None and entry not in self.entries:
            setEntries(self.node, [*self.entries, entry])

    def onRemove(self) -> None:
        row = self.ui.queueList.currentRow
        if self.node is not None and 0 <= row < len(self.entries):
            setEntries(self.node, [entry for place, entry in enumerate(self.entries) if place != row])

    def _showButtons(self) -> None:
        entry = self._current() if self.node is not None else None
        button = self.ui.addToQueueButton
        isThere = entry is not None and entry in self.entries
        button.enabled = entry is not None and not isThere
        button.toolTip = (
            _("Choose a model and its volumes first.")
            if entry is None
            else _("It is on the list.")
            if isThere
            else _("Put “{model}” with its volumes on the list.").format(model=entry.model)
        )
        self.ui.removeFromQueueButton.enabled = self.ui.queueList.currentRow >= 0


def _lineOf(entry: Entry) -> str:
    names = [volume.GetName() if volume is not None else _("(removed)") for volume in entry.volumes]
    return f"{entry.model}: {', '.join(names)}"
