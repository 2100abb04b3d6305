"""The model chooser and the model card."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from .model_card import cardHtml

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Channel
    from MambaSegmentLib.store import StoredModel


class ModelSection:
    """Args:
    ui: the named widgets of MambaSegment.ui.
    onChosen: called after the user chose another model.
    """

    def __init__(self, ui: Any, onChosen: Callable[[], None]) -> None:
        self.ui = ui
        self.node: Any = None
        self.models: list[StoredModel] = []
        self._onChosen = onChosen
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.openModelFolderButton.connect("clicked()", self.onOpenModelFolder)

    @property
    def chosen(self) -> StoredModel | None:
        if self.node is None:
            return None
        return next((model for model in self.models if model.name == self.node.model), None)

    @property
    def channels(self) -> tuple[Channel, ...]:
        model = self.chosen
        return () if model is None or model.manifest is None else model.manifest.channels

    def setModels(self, models: list[StoredModel]) -> None:
        self.models = models
        box = self.ui.modelSelector
        wasBlocked = box.blockSignals(True)
        box.clear()
        for model in models:
            box.addItem(model.name)
        box.blockSignals(wasBlocked)

    def setNode(self, node: Any) -> None:
        self.node = node
        self.chooseFirstIfNone()

    def chooseFirstIfNone(self) -> None:
        if self.node is not None and not self.node.model and self.models:
            usable = [model for model in self.models if model.manifest is not None]
            self.node.model = (usable or self.models)[0].name

    def update(self) -> None:
        model = self.chosen
        box = self.ui.modelSelector
        wasBlocked = box.blockSignals(True)
        box.currentIndex = self.models.index(model) if model is not None else -1
        box.blockSignals(wasBlocked)
        self.ui.modelCardBrowser.setHtml(cardHtml(model) if model else self._whyNoCard())
        self.ui.openModelFolderButton.enabled = model is not None
        self.ui.openModelFolderButton.toolTip = (
            _("Show the folder that holds the chosen model's file.") if model else _("Choose a model first.")
        )

    def onModelChosen(self, index: int) -> None:
        if self.node is not None and 0 <= index < len(self.models):
            self.node.model = self.models[index].name
        self._onChosen()

    def onOpenModelFolder(self) -> None:
        model = self.chosen
        if model is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(model.path.parent)))

    def _whyNoCard(self) -> str:
        if self.node is not None and self.node.model and self.models:
            return _("The scene names the model “{name}”, which is not installed here.").format(name=self.node.model)
        return _("No model is installed.") if not self.models else ""
