"""The model chooser with its search, a line about the chosen model, and the model card."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from .model_card import cardHtml, summaryOf
from .model_search import matching
from .sample_data import MODEL as SAMPLE_MODEL

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Channel
    from MambaSegmentLib.store import StoredModel

    from .preferences import Preferences
    from .run_times import RunTimes

_FEW = 3  # models that need no search


class ModelSection:
    """The box offers what the search means, and the chosen model besides, so that a search never loses a choice.

    Args:
        ui: the named widgets of MambaSegment.ui.
        preferences: the model and device of scenes that say nothing of them.
        times: of earlier runs, for the card.
        onChosen: called after the user chose another model.
    """

    def __init__(self, ui: Any, preferences: Preferences, times: RunTimes, onChosen: Callable[[], None]) -> None:
        self.ui = ui
        self.node: Any = None
        self.models: list[StoredModel] = []
        self._offered: list[StoredModel] = []
        self._card = ""
        self._preferences = preferences
        self._times = times
        self._onChosen = onChosen
        ui.modelCardCollapsibleButton.collapsed = True
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.modelSearchBox.connect("textChanged(QString)", self.onSearch)
        ui.modelSearchBox.connect("returnPressed()", self.onSearchEntered)
        ui.openModelFolderButton.connect("clicked()", self.onOpenModelFolder)

    @property
    def chosen(self) -> StoredModel | None:
        if self.node is None:
            return None
        return self.named(self.node.model)

    @property
    def channels(self) -> tuple[Channel, ...]:
        model = self.chosen
        return () if model is None or model.manifest is None else model.manifest.channels

    def named(self, name: str) -> StoredModel | None:
        return next((model for model in self.models if model.name == name), None)

    def setModels(self, models: list[StoredModel]) -> None:
        self.models = models
        self.ui.modelSearchBox.visible = len(models) > _FEW
        if len(models) <= _FEW:
            self.ui.modelSearchBox.text = ""
        self._fill()

    def setNode(self, node: Any) -> None:
        self.node = node
        self.chooseFirstIfNone()

    def chooseFirstIfNone(self) -> None:
        """A scene that names no model gets the one used last, or that of the sample, and the preferred device."""
        if self.node is not None and not self.node.model and self.models:
            usable = [model for model in self.models if model.manifest is not None] or self.models
            names = [model.name for model in usable]
            wanted = [name for name in (self._preferences.get("Model"), SAMPLE_MODEL) if name in names]
            with slicer.util.NodeModify(self.node):
                self.node.device = self._preferences.device
                self.node.model = (wanted or names)[0]

    def update(self) -> None:
        model = self.chosen
        self._fill()
        measured = self._times.of(model.manifest.sha256) if model is not None and model.manifest is not None else []
        card = cardHtml(model, measured) if model else self._whyNoCard()
        if card != self._card:  # laying out takes longer than all the rest
            self._card = card
            self.ui.modelCardBrowser.setHtml(card)
        summary = summaryOf(model) if model else self._whyNoCard()
        self.ui.modelSummaryLabel.text = summary
        self.ui.modelSummaryLabel.visible = bool(summary)
        self.ui.openModelFolderButton.enabled = model is not None
        self.ui.openModelFolderButton.toolTip = (
            _("Show the folder that holds the chosen model's file.") if model else _("Choose a model first.")
        )

    def choose(self, name: str) -> None:
        """As the user does in the box."""
        if self.node is not None:
            self.node.model = name
            self._preferences.set("Model", name)
        self._onChosen()

    def onModelChosen(self, index: int) -> None:
        if self.node is not None and 0 <= index < len(self._offered):
            self.choose(self._offered[index].name)
        else:
            self._onChosen()

    def onSearch(self, _text: str) -> None:
        self._fill()

    def onSearchEntered(self) -> None:
        found = matching(self.models, self.ui.modelSearchBox.text)
        if found and self.node is not None:
            self.choose(found[0].name)

    def onOpenModelFolder(self) -> None:
        model = self.chosen
        if model is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(model.path.parent)))

    def _fill(self) -> None:
        chosen, text = self.chosen, self.ui.modelSearchBox.text
        found = matching(self.models, text)
        self._offered = [model for model in self.models if model in found or model is chosen]
        box = self.ui.modelSelector
        wasBlocked = box.blockSignals(True)
        names = [model.name for model in self._offered]
        if [box.itemText(index) for index in range(box.count)] != names:
            box.clear()
            box.addItems(names)
            for index, model in enumerate(self._offered):
                box.setItemData(index, summaryOf(model), qt.Qt.ToolTipRole)
        box.currentIndex = self._offered.index(chosen) if chosen is not None else -1
        box.blockSignals(wasBlocked)
        self.ui.modelSearchBox.toolTip = (
            _("No model has these words.")
            if not found and text
            else _("{count} of {total} models. Enter takes the first.").format(count=len(found), total=len(self.models))
        )

    def _whyNoCard(self) -> str:
        if self.node is not None and self.node.model and self.models:
            return _("The scene names the model “{name}”, which is not installed here.").format(name=self.node.model)
        return _("No model is installed.") if not self.models else ""
