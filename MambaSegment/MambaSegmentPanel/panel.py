"""Puts the sections of the panel together; decides nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

import MambaSegmentLib

from .batch_section import BatchSection, BatchSetup
from .channel_inputs import ChannelInputs
from .first_use import FirstUse
from .installation_section import InstallationSection
from .links import TUTORIAL
from .log_section import LogSection
from .model_files_section import ModelFilesSection
from .model_queue import Entry
from .model_section import ModelSection
from .options_section import OptionsSection
from .preferences import Preferences
from .questions import Questions
from .queue_section import QueueSection
from .readiness import Situation, modalityWarning, outputHint, regionHint, spacingWarning, whyNoBatch, whyNotReady
from .results_section import ResultsSection
from .review.section import ReviewSection
from .run_plan import Effort, RunRequest, planned
from .run_section import RunSection
from .run_times import RunTimes
from .sample_section import SampleSection
from .scene_watch import SceneWatch
from .settings_section import SettingsSection
from .shortcuts import Shortcuts
from .warm_up import WarmUp

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel

    from .job import SegmentationJob

UI_FOLDER = Path(__file__).resolve().parent.parent / "Resources" / "UI"


class Panel:
    """What the user sees.

    Args:
        ui: the named widgets of MambaSegment.ui, as `slicer.util.childWidgetVariables` gives them.
        logic: a MambaSegmentLogic.
        preferences: of this computer. questions: asked before something is lost.
    """

    def __init__(
        self, ui: Any, logic: Any, preferences: Preferences | None = None, questions: Questions | None = None
    ) -> None:
        self.ui = ui
        self.logic = logic
        self.node: Any = None  # what the user chose; None while there is no scene to keep it
        self.preferences = preferences or Preferences()
        self.questions = questions or Questions(ui.MambaSegment)
        ui.versionLabel.text = _("MambaSegment {version}").format(version=MambaSegmentLib.__version__)
        self.log = LogSection(ui)
        self.times = RunTimes(self.preferences)
        self.model = ModelSection(ui, self.preferences, self.times, self.onModelChosen)
        self.modelFiles = ModelFilesSection(ui, self.questions, logic.removeModel, self.onModelFiles)
        self.channels = ChannelInputs(ui, self.update)
        self.options = OptionsSection(ui, self.update)
        self.queue = QueueSection(ui, self._current)
        self.results = ResultsSection(ui, self.questions.tableFile)
        self.review = ReviewSection(ui, self.preferences, self.channels.volumes)
        self.warmUp = WarmUp(logic)
        self.run = RunSection(ui, logic, self._plan, self._onResult)
        self.batch = BatchSection(
            ui.shellCollapsibleButton.parentWidget().layout(),
            ui.shellCollapsibleButton,
            logic,
            str(UI_FOLDER / "BatchSection.ui"),
            self.review.take,
        )
        self.sample = SampleSection(ui, self.onSample)
        self.firstUse = FirstUse(ui, logic, self.preferences, self.refresh)
        self.installation = InstallationSection(ui)
        keys = {"Segment": self.run.start, "Cancel": self.run.cancel, "Toggle": self.results.toggle}
        self.shortcuts = Shortcuts(self.preferences, keys, ui.MambaSegment)
        self.settings = SettingsSection(ui, self.preferences, self.shortcuts, self.refresh)
        for section in (ui.shellCollapsibleButton, ui.logCollapsibleButton):  # for the few who look for them
            section.collapsed = True
        ui.refreshModelsButton.connect("clicked()", self.refresh)
        ui.copyShellLineButton.connect("clicked()", self.onCopyShellLine)
        ui.tutorialButton.connect("clicked()", self.onTutorial)
        self.watch = SceneWatch(self.onVolumes)
        self.refresh()

    def close(self) -> None:
        """The panel goes; the logic may outlive it."""
        self.shortcuts.uninstall()
        self.warmUp.forget()
        for part in (
            self.watch,
            self.options,
            self.results,
            self.review,
            self.modelFiles,
            self.installation,
            self.firstUse,
            self.batch,
            self.settings,
            self.log,
        ):
            part.close()

    def enter(self) -> None:
        """The user looks at the module."""
        self.shortcuts.install()

    def exit(self) -> None:
        """The user leaves it; runs go on."""
        self.shortcuts.uninstall()

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
        self.options.show(self.node)
        self.queue.show(self.node)
        self.review.update()
        volumes = self.channels.volumes()
        situation = self._situation(volumes)
        whyNot = whyNotReady(situation)
        self.run.setReady(whyNot)
        model = self.model.chosen
        self.modelFiles.show(model, self.run.isRunning, model is not None and self.logic.mayRemoveModel(model))
        self.sample.show(self.node, canRun=not self.firstUse.missing and not self.firstUse.installer.isRunning)
        self.warmUp.want(None if whyNot else self._firstModel(), self.options.device, self.options.quality)
        self._showInputHint(volumes)
        self._showShellLine(volumes[0])
        self.batch.show(self.node, self._batchSetup(whyNoBatch(situation)))

    def onModelChosen(self) -> None:
        self.update()
        self.channels.prefill()
        self.update()

    def onVolumes(self) -> None:
        """An image came into the scene, which may be the one that is wanted, or one went."""
        self.channels.prefill()
        self.update()

    def onModelFiles(self, added: str) -> None:
        """A model came, which is chosen then, or one went."""
        self.refresh()
        if added:
            self.model.choose(added)

    def onSample(self, volume: Any, model: str) -> None:
        """The sample is there: as if the user had chosen it and clicked."""
        self.node.inputVolume = volume
        self.model.choose(model)
        self.run.start()

    def onTutorial(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl(TUTORIAL))

    def onCopyShellLine(self) -> None:
        qt.QApplication.clipboard().setText(self.ui.shellLineEdit.plainText)

    def _installedModels(self) -> list[StoredModel]:
        try:
            return self.logic.installedModels()
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("MambaSegment"):  # no package to install, but a broken installation
                raise
            return []  # the notice says what to install

    def _situation(self, volumes: list[Any]) -> Situation:
        return Situation(
            hasScene=self.node is not None,
            missing=self.firstUse.missing,
            installing=self.firstUse.installer.isRunning,
            model=self.model.chosen,
            volumes=volumes,
            queue=self.queue.entries,
            named=self.model.named,
            region=self.options.region,
        )

    def _batchSetup(self, whyNot: str) -> BatchSetup:
        """The choices that hold for many cases as well; a region is one volume's."""
        model, ui = self.model.chosen, self.ui
        parts = [] if model is None else [model.name, ui.deviceSelector.currentText, ui.qualitySelector.currentText]
        options = {"device": self.options.device, "quality": self.options.quality}
        return BatchSetup(model, options, ", ".join(parts), whyNot)

    def _current(self) -> Entry | None:
        """The chosen model with its volumes, if they are all there."""
        model = self.model.chosen
        if model is None or model.manifest is None:
            return None
        entry = Entry(model.name, tuple(self.channels.volumes()))
        return entry if entry.isComplete else None

    def _firstModel(self) -> str | None:
        """That a click would run first."""
        entries, model = self.queue.entries, self.model.chosen
        return entries[0].model if entries else model.name if model is not None else None

    def _plan(self) -> list[RunRequest] | None:
        current = self._current()
        entries = self.queue.entries or ([current] if current is not None else [])
        effort = Effort(self.options.device, self.options.quality, self.options.region)
        return planned(entries, self.node.outputSegmentation, effort, self.questions.aboutEdited)

    def _onResult(self, job: SegmentationJob | None) -> None:
        if job is None:
            self.results.clear()
        else:
            self.times.note(job)
            self.results.add(job, self.options.surface)
        self.review.follow(job)
        self.update()

    def _showInputHint(self, volumes: list[Any]) -> None:
        model = self.model.chosen
        output = self.node.outputSegmentation if self.node is not None else None
        parts = [
            modalityWarning(self.model.channels, volumes),
            spacingWarning(model.manifest if model is not None else None, volumes),
            regionHint(self.options.region, volumes),
            outputHint(output, [entry.model for entry in self.queue.entries] or ([model.name] if model else [])),
        ]
        label = self.ui.inputHintLabel
        label.text = " ".join(part for part in parts if part)
        label.visible = bool(label.text)

    def _showShellLine(self, volume: Any) -> None:
        example = self.logic.shellExample(self.model.chosen, volume)
        self.ui.shellLineEdit.plainText = example.line
        self.ui.shellHintLabel.text = example.hint
        self.ui.copyShellLineButton.enabled = bool(example.line)
        self.ui.copyShellLineButton.toolTip = _("Put the command on the clipboard.") if example.line else example.hint
