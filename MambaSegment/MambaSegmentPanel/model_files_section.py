"""Adding a model from a file or a web address, and removing one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError

from .messages import asSentence
from .run_progress import timeText
from .side_process import SideProcess

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel

    from .questions import Questions

_log = logging.getLogger("MambaSegment")
_BAR_END = 1000
_CANCELLED = 130


class ModelFilesSection:
    """Copying and downloading are done by `mambasegment models add` in a process of its own.

    Args:
        ui: the named widgets of MambaSegment.ui.
        questions: asked before a file is deleted, and for a file.
        remove: deletes a model by its name, with nobody using the file any more.
        onChanged: called with the name of a model that is new, or with an empty text after one was removed.
    """

    def __init__(
        self, ui: Any, questions: Questions, remove: Callable[[str], None], onChanged: Callable[[str], None]
    ) -> None:
        self.ui = ui
        self._questions = questions
        self._remove = remove
        self._onChanged = onChanged
        self._model: StoredModel | None = None
        self._cancelling = False
        self._added = ""
        self._process = SideProcess(self._onLine, self._onOver)
        ui.modelProgressBar.setRange(0, _BAR_END)
        ui.addModelButton.connect("clicked()", self.onAdd)
        ui.cancelAddModelButton.connect("clicked()", self.onCancel)
        ui.removeModelButton.connect("clicked()", self.onRemove)
        ui.browseModelButton.connect("clicked()", self.onBrowse)
        ui.modelSourceEdit.connect("textChanged(QString)", self._showButtons)
        ui.modelSourceEdit.connect("returnPressed()", self.onAdd)
        self._showButtons()

    @property
    def isAdding(self) -> bool:
        return self._process.isRunning

    def show(self, model: StoredModel | None, isBusy: bool, mayRemove: bool) -> None:
        """The chosen model; `isBusy` while its file may be in use, `mayRemove` if it is the user's own."""
        self._model = model
        button = self.ui.removeModelButton
        button.enabled = model is not None and mayRemove and not isBusy
        button.toolTip = (
            _("Choose a model first.")
            if model is None
            else _("This model came with the module or from the site; only your own models can be removed.")
            if not mayRemove
            else _("Wait until the segmentation is over.")
            if isBusy
            else _("Delete the file of “{name}”, after asking.").format(name=model.name)
        )

    def close(self) -> None:
        self._process.close()

    def onBrowse(self) -> None:
        file = self._questions.modelFile()
        if file:
            self.ui.modelSourceEdit.text = file

    def onAdd(self) -> None:
        source = self.ui.modelSourceEdit.text.strip()
        if not source or self.isAdding:
            return
        arguments = ["models", "add", source, "--json", "--end-with-input"]
        checksum = self.ui.modelChecksumEdit.text.strip()
        self._added, self._cancelling = "", False
        self._say("")
        _log.info("adding the model %s", source)
        try:
            self._process.start([*arguments, "--sha256", checksum] if checksum else arguments)
        except MambaSegmentError as problem:
            self._say(asSentence(str(problem)))
        self.ui.modelProgressBar.setRange(0, 0)  # moving, until something is known
        self._showButtons()

    def onCancel(self) -> None:
        self._cancelling = True
        self._process.stop()
        self._showButtons()

    def onRemove(self) -> None:
        model = self._model
        if model is None or not self._questions.mayRemoveModel(model.name, Path(model.path)):
            return
        try:
            self._remove(model.name)
        except MambaSegmentError as problem:
            _log.error("%s", problem)
            self._say(asSentence(str(problem)))
            return
        _log.info("the model %s was removed", model.path)
        self._say(_("“{name}” was removed.").format(name=model.name))
        self._onChanged("")

    def _onLine(self, line: str) -> None:
        try:
            facts = json.loads(line)
        except ValueError:
            _log.debug("%s", line)
            return
        if "name" in facts:
            self._added = str(facts["name"])
        elif "stage" in facts:
            self._showProgress(int(facts["done"]), int(facts["total"]), facts["seconds_left"])

    def _onOver(self, code: int, said: str) -> None:
        if code == 0 and self._added:
            self._say(_("“{name}” was added.").format(name=self._added))
            for edit in (self.ui.modelSourceEdit, self.ui.modelChecksumEdit):
                edit.text = ""
        elif self._cancelling or code == _CANCELLED:
            self._say(_("Cancelled. Adding it again goes on from here."))
        else:
            text = said or _("the program for it ended with code {code}; the log has the details").format(code=code)
            _log.error("the model was not added: %s", text)
            self._say(_("Not added. {reason}").format(reason=asSentence(text)))
        self._showButtons()
        if self._added and code == 0:
            self._onChanged(self._added)

    def _showProgress(self, done: int, total: int, seconds_left: float | None) -> None:
        bar = self.ui.modelProgressBar
        bar.setRange(0, _BAR_END if total else 0)
        bar.value = round(_BAR_END * done / total) if total else 0
        text = _("{done} MB").format(done=f"{done / 1e6:.1f}")
        if total:
            text = _("{done} of {total} MB").format(done=f"{done / 1e6:.1f}", total=f"{total / 1e6:.1f}")
        if seconds_left is not None and seconds_left >= 1:
            text += " · " + _("about {time} left").format(time=timeText(seconds_left))
        self._say(text)

    def _showButtons(self, *_args: object) -> None:
        ui, isAdding = self.ui, self.isAdding
        hasSource = bool(ui.modelSourceEdit.text.strip())
        ui.addModelButton.enabled = hasSource and not isAdding
        ui.addModelButton.text = _("Adding…") if isAdding else _("Add model")
        ui.addModelButton.toolTip = (
            _("Copy or download the model into the folder for models, and check it.")
            if hasSource
            else _("Give a file or an address first.")
        )
        for widget in (ui.modelSourceEdit, ui.modelChecksumEdit, ui.browseModelButton):
            widget.enabled = not isAdding
        ui.modelProgressBar.visible = isAdding
        ui.cancelAddModelButton.visible = isAdding
        ui.cancelAddModelButton.enabled = not self._cancelling or not isAdding

    def _say(self, text: str) -> None:
        self.ui.modelFilesLabel.text = text
        self.ui.modelFilesLabel.visible = bool(text)
