"""What is chosen for a batch: which cases, from where, to where, as what; kept in the parameter node."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from .batch_cases import FILES, SCENE
from .choice_box import ChoiceBox

_ENDINGS = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha")


class BatchChoices:
    """Args:
    ui: the named widgets of BatchSection.ui; the two paths are bound to the parameter node by their properties.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.node: Any = None
        self._guiTag: Any = None
        kinds = [(_("Files on disk"), FILES), (_("Volumes of the scene"), SCENE)]
        endings = [(ending, ending) for ending in _ENDINGS]
        self._boxes = [
            ChoiceBox(ui.batchKindSelector, kinds, lambda: self.kind, lambda name: self._write("batchKind", name)),
            ChoiceBox(
                ui.batchEndingSelector, endings, lambda: self.ending, lambda name: self._write("batchEnding", name)
            ),
        ]
        ui.batchFolderButton.connect("clicked()", self.onFolder)
        ui.batchTableButton.connect("clicked()", self.onTable)
        ui.batchOutputButton.connect("clicked()", self.onOutput)

    @property
    def kind(self) -> str:
        return FILES if self.node is None or self.node.batchKind != SCENE else SCENE

    @property
    def source(self) -> str:
        return "" if self.node is None else self.node.batchSource.strip()

    @property
    def output(self) -> str:
        return "" if self.node is None else self.node.batchOutput.strip()

    @property
    def ending(self) -> str:
        return _ENDINGS[0] if self.node is None else self.node.batchEnding

    def bind(self, node: Any) -> None:
        """Another node, or None."""
        if node is self.node:
            return
        if self.node is not None:
            self.node.disconnectGui(self._guiTag)
        self.node = node
        self._guiTag = None if node is None else node.connectGui(self.ui)

    def show(self, *, canChange: bool) -> None:
        """Bring the widgets up to date; while a batch runs nothing can be changed."""
        ui, ofFiles = self.ui, self.kind == FILES
        for box in self._boxes:
            box.show()
        paths = (ui.batchSourceEdit, ui.batchFolderButton, ui.batchTableButton, ui.batchEndingSelector)
        for widget in (*paths, ui.batchSourceLabel, ui.batchEndingLabel):
            widget.visible = ofFiles
        for widget in (*paths, ui.batchKindSelector, ui.batchOutputEdit, ui.batchOutputButton):
            widget.enabled = canChange and self.node is not None
        ui.batchOutputLabel.text = _("To:") if ofFiles else _("Report to:")
        ui.batchOutputEdit.placeholderText = _("Folder") if ofFiles else _("Folder, if a report is wanted")

    def onFolder(self) -> None:
        self._write("batchSource", self._folder(_("Folder of images"), self.source))

    def onTable(self) -> None:
        title, kinds = _("Table of cases"), _("Tables (*.csv)")
        self._write("batchSource", str(qt.QFileDialog.getOpenFileName(self._window, title, self.source, kinds)))

    def onOutput(self) -> None:
        self._write("batchOutput", self._folder(_("Folder for labels and report"), self.output))

    @property
    def _window(self) -> Any:
        return self.ui.BatchSection

    def _folder(self, title: str, begin: str) -> str:
        return str(qt.QFileDialog.getExistingDirectory(self._window, title, begin))

    def _write(self, name: str, value: str) -> None:
        """An empty text is a dialog that was left."""
        if self.node is not None and value:
            setattr(self.node, name, value)
