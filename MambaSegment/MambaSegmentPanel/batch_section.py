"""The section for many cases: files of a folder, or volumes of the scene, with the model and device chosen above.

It shows what a batch does (batch_job.py) and begins or cancels it; the panel stays usable meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.batch.outcome import DONE, FAILED
from MambaSegmentLib.errors import Cancelled, MambaSegmentError

from .batch_cases import FILES, SCENE, BatchCases
from .batch_choices import BatchChoices
from .batch_job import BEFORE, RUNNING, BatchCallbacks, BatchJob, CaseState
from .batch_table import BatchTable, detailText, fractionOf
from .messages import asSentence, messageAndAdvice
from .open_case import CaseOpener, segmentationOf, showInViews
from .provenance import provenanceOf
from .run_progress import BAR_END, timeText
from .segmenter import optionsOf

if TYPE_CHECKING:
    from MambaSegmentLib.batch.report import Report
    from MambaSegmentLib.progress import Progress
    from MambaSegmentLib.store import StoredModel

_log = logging.getLogger("MambaSegment")
_LOOK_AFTER_MS = 400  # of a path that is being typed, or volumes that come one after the other


@dataclass(frozen=True)
class BatchSetup:
    """What is chosen in the rest of the panel.

    Attributes:
        options: for `MambaSegmentLogic.segmentFolderAsync`. chosen: model and options in words.
        whyNot: why nothing can be segmented now; empty when it can.
    """

    model: StoredModel | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    chosen: str = ""
    whyNot: str = ""


class BatchSection:
    """At most one batch at a time.

    Args:
        layout: the panel's, of which `before` is a widget; the section puts itself there.
        logic: a MambaSegmentLogic.
        uiFile: BatchSection.ui.
        onOpened: called with the segmentation of a case that was opened, its volumes, and the model's names for them.
    """

    def __init__(
        self,
        layout: Any,
        before: Any,
        logic: Any,
        uiFile: str,
        onOpened: Callable[[Any, Sequence[Any], Sequence[str]], None],
    ) -> None:
        self.logic = logic
        self._onOpened = onOpened
        self.root = slicer.util.loadUI(uiFile)
        layout.insertWidget(layout.indexOf(before), self.root)
        self.ui = ui = slicer.util.childWidgetVariables(self.root)
        self.table = BatchTable(ui.batchTable)
        self.choices = BatchChoices(ui)
        self.cases = BatchCases(logic)
        self.opener = CaseOpener()
        self._setup = BatchSetup()
        self._begunWith = BatchSetup()  # what the cases of the list were done with
        self._job: BatchJob | None = None
        self._cancelling = False
        self._rows: list[int] = []  # of the table, for the cases of the batch
        self._reportFolder = ""
        self._lookedFor: tuple[str, ...] = ()
        self._look: Any = qt.QTimer()
        self._look.setSingleShot(True)
        ui.batchProgressBar.setRange(0, BAR_END)
        ui.batchCollapsibleButton.collapsed = True
        ui.batchButton.connect("clicked()", self.onClicked)
        ui.batchReportButton.connect("clicked()", self.onOpenReport)
        ui.batchTable.connect("cellDoubleClicked(int,int)", self.onDoubleClicked)
        ui.batchTable.connect("currentCellChanged(int,int,int,int)", self.onCurrentCase)
        ui.batchTable.connect("cellChanged(int,int)", self._showButton)
        ui.batchCollapsibleButton.connect("contentsCollapsed(bool)", self._lookIfNew)
        self._look.connect("timeout()", self._showCases)
        scene = slicer.mrmlScene
        self._observers = [
            (scene, scene.AddObserver(event, self._onNodes)) for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent)
        ]
        self._showCases()

    @property
    def isRunning(self) -> bool:
        return self._job is not None

    def close(self) -> None:
        """The panel goes; its logic sees to a batch that runs."""
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._look.stop()
        self.choices.bind(None)

    def show(self, node: Any, setup: BatchSetup) -> None:
        """Another node, or other choices in the rest of the panel; without a node nothing is chosen."""
        self.choices.bind(node)
        self._setup = setup
        self._showChoices()
        self._lookIfNew()
        self._showButton()

    # --- the list

    def _showChoices(self) -> None:
        self.choices.show(canChange=not self.isRunning)
        chosen = self._setup.chosen
        self.ui.batchHowLabel.text = _("With what is chosen above: {chosen}.").format(chosen=chosen) if chosen else ""
        self.ui.batchHowLabel.visible = bool(chosen)

    def _onNodes(self, _scene: Any, _event: Any) -> None:
        if self.choices.kind == SCENE and not self.isRunning:
            self._lookedFor = ()
            self._lookIfNew()

    def _lookIfNew(self, *_ignored: Any) -> None:
        """Look soon, unless the same is shown already, nobody sees it, or a batch runs."""
        model, choices = self._setup.model, self.choices
        wanted = (choices.kind, choices.source, "" if model is None else model.name, str(choices.node is None))
        if wanted == self._lookedFor or self.isRunning or self.ui.batchCollapsibleButton.collapsed:
            return
        self._lookedFor = wanted
        self._look.start(_LOOK_AFTER_MS)

    def _showCases(self) -> None:
        if self.isRunning:
            return
        model = None if self.choices.node is None else self._setup.model
        self.cases.look(self.choices.kind, self.choices.source, model)
        wasBlocked = self.ui.batchTable.blockSignals(True)
        volumes = self.cases.volumes
        self.table.show(self.cases.names, [case.key for case in volumes] if self.choices.kind == SCENE else None)
        self.ui.batchTable.blockSignals(wasBlocked)
        self.ui.batchTable.visible = bool(self.cases.names)
        self._showDetail("")
        self._showButton()

    def onCurrentCase(self, row: int, *_ignored: Any) -> None:
        state = self.table.states[row] if 0 <= row < len(self.table.states) else None
        self._showDetail(detailText(state))

    def onDoubleClicked(self, row: int, *_ignored: Any) -> None:
        state = self.table.states[row] if row < len(self.table.states) else None
        if state is None or state.status not in (DONE, BEFORE) or state.outcome is None:
            return
        try:
            self._open(row, state)
        except MambaSegmentError as problem:
            self._showProblem(problem, _("Not opened"))

    def _open(self, row: int, state: CaseState) -> None:
        assert state.outcome is not None
        begun = self._begunWith
        manifest = None if begun.model is None else begun.model.manifest
        channels = [] if manifest is None else [channel.name for channel in manifest.channels]
        if self.choices.kind == SCENE:
            volumes = list(self.cases.volumes[row].nodes)
            if not all(slicer.mrmlScene.IsNodePresent(volume) for volume in volumes):
                return
            showInViews(volumes[0])
            node = segmentationOf(volumes[0], state.outcome.output)
        else:
            with slicer.util.WaitCursor():
                provenance = None if manifest is None else provenanceOf(manifest, optionsOf(**begun.options))
                segments = () if manifest is None else manifest.segments
                node, volumes = self.opener.openFiles(state.outcome, segments, provenance)
        if node is not None:
            self._onOpened(node, volumes, channels if len(channels) == len(volumes) else [])

    # --- a batch

    def onClicked(self) -> None:
        if self._job is not None:
            self._cancelling = True
            self._showButton()
            self._job.cancel()
        elif not self._whyNot():
            self._showCases()  # as they are now
            if not self._whyNot():
                self._begin()

    def onOpenReport(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self._reportFolder))

    def _whyNot(self) -> str:
        if self._setup.whyNot or self.cases.whyNone:
            return self._setup.whyNot or self.cases.whyNone
        if not self.cases.names:
            return _("Choose what shall be segmented.")
        if self.choices.kind == FILES and not self.choices.output:
            return _("Choose a folder for the labels.")
        if self.choices.kind == SCENE and not self.table.ticked():
            return _("Tick the volumes that shall be segmented.")
        return ""

    def _begin(self) -> None:
        self._showProblem(None)
        self._say("")
        self._cancelling = False
        model, kind = self._setup.model, self.choices.kind
        assert model is not None
        self._begunWith = self._setup
        self._reportFolder = self.choices.output
        self._rows = self.table.ticked() if kind == SCENE else list(range(len(self.cases.names)))
        callbacks = BatchCallbacks(self._onProgress, self._onCase, self._onOver)
        _log.info("a batch of %d cases with %s", len(self._rows), model.name)
        try:
            if kind == SCENE:
                cases = [self.cases.volumes[row] for row in self._rows]
                folder = Path(self.choices.output) if self.choices.output else None
                self._job = self.logic.segmentVolumesAsync(
                    cases, model.name, reportFolder=folder, callbacks=callbacks, **self._setup.options
                )
            else:
                self._job = self.logic.segmentFolderAsync(
                    self.choices.source,
                    self.choices.output,
                    model.name,
                    ending=self.choices.ending,
                    callbacks=callbacks,
                    **self._setup.options,
                )
        except Exception as error:  # nothing was begun; whatever it is, it is shown
            _log.debug("nothing was begun", exc_info=True)
            self._showProblem(error)
        else:
            if list(self._job.names) != [self.cases.names[row] for row in self._rows]:  # a file came or went meanwhile
                self.table.show(self._job.names)
                self._rows = list(range(len(self._job.names)))
        self._showChoices()
        self._showButton()

    def _onProgress(self, progress: Progress) -> None:
        self.ui.batchProgressBar.value = round(BAR_END * progress.done / max(1, progress.total))
        number = min(progress.done + 1, progress.total)
        parts = [_("Case {number} of {total}").format(number=number, total=progress.total)]
        if progress.seconds_left is not None and progress.seconds_left >= 1:
            parts.append(_("about {time} left").format(time=timeText(progress.seconds_left)))
        self.ui.batchProgressLabel.text = " · ".join(parts)

    def _onCase(self, number: int, state: CaseState) -> None:
        row = self._rows[number]
        wasBlocked = self.ui.batchTable.blockSignals(True)
        self.table.set(row, state)
        self.ui.batchTable.blockSignals(wasBlocked)
        self.ui.batchTable.viewport().update()
        if state.status == RUNNING:
            self.ui.batchProgressBar.value = round(BAR_END * (number + fractionOf(state)) / max(1, len(self._rows)))
            if state.progress is None:
                self.table.showRow(row)
        elif state.status == FAILED and state.outcome is not None:
            _log.error("the case %s failed: %s", state.outcome.case, state.outcome.message)

    def _onOver(self, job: BatchJob) -> None:
        self._job = None
        why = asSentence(str(job.error)) + " " if isinstance(job.error, Cancelled) else ""
        self._say(why + summary(job.report))
        if job.error is not None and not why:
            self._showProblem(job.error)
        _log.info("the batch is over: %s", self.ui.batchStatusLabel.text)
        slicer.util.showStatusMessage(self.ui.batchStatusLabel.text, 10_000)
        self._forgetWhatRuns()
        if self.choices.kind == SCENE:  # volumes may have come meanwhile; those that are listed keep their state
            self._lookedFor = ()
            self._lookIfNew()
        self.onCurrentCase(int(self.ui.batchTable.currentRow()))
        self._showChoices()
        self._showButton()

    def _forgetWhatRuns(self) -> None:
        """A case that was cancelled waits again."""
        for row, state in enumerate(self.table.states):
            if state is not None and state.status == RUNNING:
                self.table.forget(row)

    # --- what is shown

    def _showButton(self, *_ignored: Any) -> None:
        button, whyNot = self.ui.batchButton, self._whyNot()
        if self.isRunning:
            button.text = _("Cancelling…") if self._cancelling else _("Cancel")
            button.toolTip = _("Stop; what is done stays, and the next start goes on from there.")
            button.enabled = not self._cancelling
        else:
            button.text = _("Segment all")
            button.toolTip = whyNot or _("Segment all cases, one after the other.")
            button.enabled = not whyNot
        self.ui.batchWhyNotLabel.text = whyNot
        self.ui.batchWhyNotLabel.visible = bool(whyNot) and not self.isRunning
        self.ui.batchProgressBar.visible = self.isRunning
        self.ui.batchProgressLabel.visible = self.isRunning
        hasReport = bool(self._reportFolder) and Path(self._reportFolder, "report.csv").is_file()
        self.ui.batchReportButton.visible = hasReport and not self.isRunning

    def _showDetail(self, text: str) -> None:
        self.ui.batchDetailLabel.text = text
        self.ui.batchDetailLabel.visible = bool(text)

    def _say(self, text: str) -> None:
        self.ui.batchStatusLabel.text = text
        self.ui.batchStatusLabel.visible = bool(text)

    def _showProblem(self, error: Exception | None, heading: str = "") -> None:
        label = self.ui.batchErrorLabel
        label.visible = error is not None
        if error is None:
            label.text = ""
            return
        message, advice = messageAndAdvice(error)
        _log.error("%s %s", asSentence(message), advice)
        lines = [f"<b>{heading or _('The batch ended')}</b>", escape(asSentence(message), quote=False)]
        label.text = "<br>".join([*lines, *([f"<i>{escape(advice, quote=False)}</i>"] if advice else [])])


def summary(report: Report) -> str:
    """What came of a batch, in one sentence."""
    facts = report.to_json()
    parts = [_("{count} done").format(count=facts["done"])]
    if facts["resumed"]:
        parts[0] = _("{count} done, {before} of them before").format(count=facts["done"], before=facts["resumed"])
    if facts["failed"]:
        parts.append(_("{count} failed").format(count=facts["failed"]))
    if facts["open"]:
        parts.append(_("{count} not begun").format(count=facts["open"]))
    return _("Cases: {parts}.").format(parts=", ".join(parts))
