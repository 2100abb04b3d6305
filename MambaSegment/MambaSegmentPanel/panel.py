"""Connects the widgets of MambaSegment.ui to the parameter node and the logic; decides nothing."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

import MambaSegmentLib

from .dependencies import installCommand
from .model_card import cardHtml

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel


class Panel:
    """What the user sees.

    Args:
        ui: the named widgets of MambaSegment.ui, as `slicer.util.childWidgetVariables` gives them.
        logic: a MambaSegmentLogic.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        self.ui = ui
        self.logic = logic
        self.node: Any = None  # what the user chose; None while there is no scene to keep it
        self.models: list[StoredModel] = []
        ui.versionLabel.text = _("MambaSegment {version}").format(version=MambaSegmentLib.__version__)
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.refreshModelsButton.connect("clicked()", self.refresh)
        ui.openModelFolderButton.connect("clicked()", self.onOpenModelFolder)
        ui.copyShellLineButton.connect("clicked()", self.onCopyShellLine)
        self.refresh()

    def setParameterNode(self, node: Any) -> None:
        """Show another node's choices; with None nothing is chosen, as while a scene is closed."""
        self.node = node
        self._chooseFirstModelIfNone()
        self.update()

    def refresh(self) -> None:
        """Look again for packages and models, which the user may have installed meanwhile."""
        self._showMissingPackages(self.logic.missingPackages())
        try:
            self.models = self.logic.installedModels()
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("MambaSegment"):  # no package to install, but a broken installation
                raise
            self.models = []  # the label above says what to install
        self._fillModelSelector()
        self._chooseFirstModelIfNone()
        self.update()

    def update(self) -> None:
        """Bring everything that depends on the chosen model and volume up to date."""
        model = self._chosenModel()
        self._selectInBox(model)
        self.ui.modelCardBrowser.setHtml(cardHtml(model) if model else self._whyNoCard())
        self.ui.openModelFolderButton.enabled = model is not None
        self._showShellLine(model)

    def onModelChosen(self, index: int) -> None:
        if self.node is not None and 0 <= index < len(self.models):
            self.node.model = self.models[index].name
        self.update()

    def onOpenModelFolder(self) -> None:
        model = self._chosenModel()
        if model is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(model.path.parent)))

    def onCopyShellLine(self) -> None:
        qt.QApplication.clipboard().setText(self.ui.shellLineEdit.plainText)

    def _chosenModel(self) -> StoredModel | None:
        if self.node is None:
            return None
        return next((model for model in self.models if model.name == self.node.model), None)

    def _chooseFirstModelIfNone(self) -> None:
        if self.node is not None and not self.node.model and self.models:
            usable = [model for model in self.models if model.manifest is not None]
            self.node.model = (usable or self.models)[0].name

    def _whyNoCard(self) -> str:
        if self.node is not None and self.node.model and self.models:
            return _("The scene names the model “{name}”, which is not installed here.").format(name=self.node.model)
        return _("No model is installed.") if not self.models else ""

    def _fillModelSelector(self) -> None:
        box = self.ui.modelSelector
        wasBlocked = box.blockSignals(True)
        box.clear()
        for model in self.models:
            box.addItem(model.name)
        box.blockSignals(wasBlocked)

    def _selectInBox(self, model: StoredModel | None) -> None:
        box = self.ui.modelSelector
        wasBlocked = box.blockSignals(True)
        box.currentIndex = self.models.index(model) if model is not None else -1
        box.blockSignals(wasBlocked)

    def _showMissingPackages(self, missing: list[str]) -> None:
        label = self.ui.missingPackagesLabel
        label.visible = bool(missing)
        label.text = _(
            "Slicer's Python lacks packages that MambaSegment uses. To install them, paste this into the Python "
            "console, then press Refresh:<br><code>{command}</code>"
        ).format(command=escape(installCommand(missing), quote=False))

    def _showShellLine(self, model: StoredModel | None) -> None:
        example = self.logic.shellExample(model, self.node.inputVolume if self.node is not None else None)
        self.ui.shellLineEdit.plainText = example.line
        self.ui.shellHintLabel.text = example.hint
        self.ui.copyShellLineButton.enabled = bool(example.line)
