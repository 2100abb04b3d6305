"""The few questions that need an answer before something goes on; each follows a button that the user pressed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from .run_plan import KEEP, REPLACE, STOP

_NAMED = 5  # names in a question; the rest is counted


class Questions:
    """Dialogs. While the application is tested nobody is there: then nothing is replaced, removed or chosen.

    Args:
        parent: the widget that dialogs belong to.
    """

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def aboutEdited(self, names: Sequence[str], segmentation: str) -> str:
        """REPLACE, KEEP or STOP."""
        if slicer.app.testingEnabled():
            return KEEP
        box = ctk.ctkMessageBox(self.parent)
        box.setIcon(qt.QMessageBox.Question)
        box.windowTitle = _("Edited segments")
        box.text = _("“{segmentation}” holds segments of this model that were edited: {names}.").format(
            segmentation=segmentation, names=_listed(names)
        )
        box.informativeText = _("Shall the new segments be added beside them, or take their place?")
        keep = box.addButton(_("Add beside"), qt.QMessageBox.AcceptRole)
        replace = box.addButton(_("Replace"), qt.QMessageBox.DestructiveRole)
        box.addButton(qt.QMessageBox.Cancel)
        box.setDefaultButton(keep)
        box.exec_()
        clicked = box.clickedButton()
        box.deleteLater()
        return KEEP if clicked == keep else REPLACE if clicked == replace else STOP

    def mayRemoveModel(self, name: str, path: Path) -> bool:
        text = _("Delete the model “{name}”? Its file goes for good:\n{path}").format(name=name, path=path)
        if slicer.app.testingEnabled():
            return False
        return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Remove model"), parent=self.parent))

    def modelFile(self) -> str:
        """A file, or an empty text."""
        return str(
            qt.QFileDialog.getOpenFileName(
                self.parent, _("Choose a model file"), "", _("Models (*.safetensors)") + ";;" + _("All files (*)")
            )
        )

    def tableFile(self, suggestion: str) -> str:
        """Where to save a table, or an empty text."""
        return str(qt.QFileDialog.getSaveFileName(self.parent, _("Save the table"), suggestion, _("Tables (*.csv)")))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    return shown if more <= 0 else _("{names} and {count} more").format(names=shown, count=more)
