"""Puts the sections of the panel together; decides nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

import MambaSegmentLib

from .channel_inputs import ChannelInputs
from .device_box import DeviceBox
from .first_use import FirstUse
from .log_section import LogSection
from .model_section import ModelSection
from .readiness import Situation, modalityWarning, whyNotReady
from .result_rows import rowsOf
from .results_section import ResultsSection
from .review.section import ReviewSection
from .run_section import RunRequest, RunSection
from .warm_up import WarmUp

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel

    from .job import SegmentationJob


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
        ui.versionLabel.text = _("MambaSegment {version}").format(version=MambaSegmentLib.__version__)
        self.log = LogSection(ui)
        self.model = ModelSection(ui, self.onModelChosen)
        self.channels = ChannelInputs(ui, self.update)
        self.device = DeviceBox(ui.deviceSelector)
        self.results = ResultsSection(ui)
        self.review = ReviewSection(ui, self.channels.volumes)
        self.warmUp = WarmUp(logic)
        self.run = RunSection(ui, logic, self._request, self._onResult)
        self.firstUse = FirstUse(ui, logic, self.refresh)
        for section in (ui.shellCollapsibleButton, ui.logCollapsibleButton):  # for the few who look for them
            section.collapsed = True
        ui.refreshModelsButton.connect("clicked()", self.refresh)
        ui.copyShellLineButton.connect("clicked()", self.onCopyShellLine)
        self.refresh()

    def close(self) -> None:
        """The panel goes; the logic may outlive it."""
        self.warmUp.forget()
        self.review.close()
        self.log.close()

    def setParameterNode(self, node: Any) -> None:
        """Show another node's choices; with None nothing is chosen, as while a scene is closed."""
        self.node = node
        self.model.setNode(node)
        self.review.setNode(node)
        self.update()
        self.channels.prefill()
        self.update()

    def forgetResults(self) -> None:
        """The scene is about to be closed, and the segments with it."""
        self._onResult(None)
        self.review.forget()
        self.run.forget()

    def refresh(self) -> None:
        """Look again for packages and models, which the user may have installed meanwhile."""
        self.firstUse.look()
        self.warmUp.forget()  # with other packages the worker is another
        self.model.setModels(self._installedModels())
        self.model.chooseFirstIfNone()
        self.update()

    def update(self) -> None:
        """Bring everything that depends on the user's choices up to date."""
        self.model.update()
        self.channels.show(self.node, self.model.channels)
        self.device.show(self.node)
        self.review.update()
        volumes = self.channels.volumes()
        self._showInputHint(volumes)
        whyNot = self._whyNotReady(volumes)
        self.run.setReady(whyNot)
        self.warmUp.want(None if whyNot or self.model.chosen is None else self.model.chosen.name, self.device.chosen)
        self._showShellLine(volumes[0])

    def onModelChosen(self) -> None:
        self.update()
        self.channels.prefill()
        self.update()

    def onCopyShellLine(self) -> None:
        qt.QApplication.clipboard().setText(self.ui.shellLineEdit.plainText)

    def _installedModels(self) -> list[StoredModel]:
        try:
            return self.logic.installedModels()
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("MambaSegment"):  # no package to install, but a broken installation
                raise
            return []  # the notice says what to install

    def _whyNotReady(self, volumes: list[Any]) -> str:
        return whyNotReady(
            Situation(
                hasScene=self.node is not None,
                missing=self.firstUse.missing,
                installing=self.firstUse.installer.isRunning,
                model=self.model.chosen,
                volumes=volumes,
            )
        )

    def _request(self) -> RunRequest:
        model = self.model.chosen
        assert model is not None  # or the button would be disabled
        return RunRequest(self.channels.volumes(), model.name, self.device.chosen, self.node.outputSegmentation)

    def _onResult(self, job: SegmentationJob | None) -> None:
        self.results.show(rowsOf(job.outcome.segments) if job is not None else ())
        self.review.follow(job)

    def _showInputHint(self, volumes: list[Any]) -> None:
        parts = [modalityWarning(self.model.channels, volumes)]
        output = self.node.outputSegmentation if self.node is not None else None
        if output is not None:
            parts.append(
                _("New segments are added to “{name}”; what it holds is not changed.").format(name=output.GetName())
            )
        label = self.ui.inputHintLabel
        label.text = " ".join(part for part in parts if part)
        label.visible = bool(label.text)

    def _showShellLine(self, volume: Any) -> None:
        example = self.logic.shellExample(self.model.chosen, volume)
        self.ui.shellLineEdit.plainText = example.line
        self.ui.shellHintLabel.text = example.hint
        self.ui.copyShellLineButton.enabled = bool(example.line)
        self.ui.copyShellLineButton.toolTip = _("Put the command on the clipboard.") if example.line else example.hint
