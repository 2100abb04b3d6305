"""The button Segment, which is Cancel during a run; progress, result in words, warnings, errors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import Cancelled

from .messages import asSentence, messageAndAdvice
from .run_plan import RunRequest
from .run_progress import BAR_END, RunProgress, secondsText

if TYPE_CHECKING:
    from MambaSegmentLib.progress import Progress

    from .job import SegmentationJob

_log = logging.getLogger("MambaSegment")


class RunSection:
    """One click at a time; a click may be several runs, one after the other, into one segmentation.

    Args:
        ui: the named widgets of MambaSegment.ui.
        logic: a MambaSegmentLogic.
        plan: gives the runs, at the time of the click; None where the user wants none after all.
        onResult: called with each job that gave a result; with None when a click begins.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        plan: Callable[[], Sequence[RunRequest] | None],
        onResult: Callable[[SegmentationJob | None], None],
    ) -> None:
        self.ui = ui
        self.logic = logic
        self._plan = plan
        self._onResult = onResult
        self._job: SegmentationJob | None = None
        self._series = _Series([])
        self._cancelling = False
        self._whyNot = ""
        self._progress = RunProgress()
        ui.progressBar.setRange(0, BAR_END)
        ui.segmentButton.connect("clicked()", self.onClicked)
        self.forget()

    @property
    def isRunning(self) -> bool:
        return self._job is not None

    def setReady(self, whyNot: str) -> None:
        """Whether a run can begin; a reason, or an empty text."""
        self._whyNot = whyNot
        self._showButton()

    def forget(self) -> None:
        """Nothing is known of earlier runs, as in a new scene; a run that goes on is shown all the same."""
        self._say("")
        self._sayProblems([])
        self._sayWarnings([])
        self._showButton()

    def onClicked(self) -> None:
        if self.isRunning:
            self.cancel()
        else:
            self.start()

    def start(self) -> None:
        """As a click on Segment; nothing happens while a run goes on or cannot begin."""
        if self.isRunning or self._whyNot:
            return
        try:
            requests = self._plan()
        except Exception as error:  # nothing was begun; whatever it is, it is shown
            self._onResult(None)
            self.forget()
            self._showErrors([("", error)])
            return
        if requests:
            self.forget()
            self._onResult(None)
            self._cancelling = False
            self._series = _Series(requests)
            self._beginNext()

    def cancel(self) -> None:
        """As a click on Cancel; what is done stays."""
        if self._job is not None:
            self._cancelling = True
            self._showButton()
            self._job.cancel()

    def _beginNext(self) -> None:
        """The next run that can be begun; the end when there is none."""
        self._job = None
        while self._job is None and (request := self._series.next()) is not None:
            self._progress = RunProgress()
            self._job = self._begin(request)
        self._showProgress()
        self._showButton()
        if self._job is None:
            self._end()

    def _begin(self, request: RunRequest) -> SegmentationJob | None:
        names = ", ".join(repr(volume.GetName()) for volume in request.volumeNodes)
        _log.info("segmenting %s with %s, %s", names, request.model, dict(request.options))
        try:
            return self.logic.segmentAsync(
                request.volumeNodes,
                request.model,
                output=request.output,
                replace=request.replace,
                onProgress=self._onProgress,
                onDone=self._onDone,
                onFailed=self._onFailed,
                **request.options,
            )
        except Exception as error:  # this run was not begun; whatever it is, it is shown
            _log.debug("nothing was begun", exc_info=True)
            self._series.failed(error)
            return None

    def _onProgress(self, progress: Progress) -> None:
        self._progress.add(progress)
        self._showProgress()

    def _onDone(self, _node: Any) -> None:
        assert self._job is not None
        job = self._job
        self._series.done(job)
        timings = {stage: round(seconds, 3) for stage, seconds in job.outcome.timings.items()}
        _log.info("%s is done %s", job.request.manifest.name, timings)
        self._onResult(job)
        self._beginNext()

    def _onFailed(self, error: Exception) -> None:
        self._series.failed(error)
        if isinstance(error, Cancelled):
            self._series.stop()
        self._beginNext()

    def _end(self) -> None:
        """All runs of the click are over, however they ended."""
        jobs, problems = self._series.jobs, self._series.problems
        cancelled = [asSentence(str(error)) for _model, error in problems if isinstance(error, Cancelled)]
        sentences = ([_summary(jobs)] if jobs else []) + cancelled
        self._say(" ".join(sentences))
        self._showErrors([each for each in problems if not isinstance(each[1], Cancelled)])
        warnings = [asSentence(warning) for job in jobs for warning in job.outcome.warnings]
        if any(job.outcome.inputChanged for job in jobs):
            warnings.append(_("The volume was changed meanwhile: the segments show what it was before."))
        self._sayWarnings(list(dict.fromkeys(warnings)))
        if sentences:
            slicer.util.showStatusMessage(" ".join(sentences), 10_000)
            _log.info("%s", " ".join(sentences))

    def _showErrors(self, problems: Sequence[tuple[str, Exception]]) -> None:
        shown = []
        for model, error in problems:
            message, advice = messageAndAdvice(error)
            _log.error("%s %s %s", model, asSentence(message), advice)
            shown.append((model if self._series.total > 1 else "", asSentence(message), advice))
        self._sayProblems(shown)

    def _showButton(self) -> None:
        button = self.ui.segmentButton
        if self.isRunning:
            button.text = _("Cancelling…") if self._cancelling else _("Cancel")
            button.toolTip = _("Stop this segmentation; the scene stays as it is.")
            button.enabled = not self._cancelling
        else:
            button.text = _("Segment")
            button.toolTip = self._whyNot or _("Segment the chosen volume with the chosen model.")
            button.enabled = not self._whyNot
        hint = self.ui.whyNotReadyLabel
        hint.text = self._whyNot
        hint.visible = bool(self._whyNot) and not self.isRunning

    def _showProgress(self) -> None:
        for widget in (self.ui.progressBar, self.ui.progressLabel):
            widget.visible = self.isRunning
        series = self._series
        self.ui.progressBar.value = round((series.place * BAR_END + self._progress.value) / max(1, series.total))
        text = self._progress.text
        if series.total > 1:
            text = _("Model {number} of {total}: {stage}").format(
                number=series.place + 1, total=series.total, stage=text
            )
        self.ui.progressLabel.text = text

    def _say(self, text: str) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.visible = bool(text)

    def _sayProblems(self, problems: Sequence[tuple[str, str, str]]) -> None:
        """Model where there are several, message and advice of each."""
        label = self.ui.errorLabel
        label.visible = bool(problems)
        parts = []
        for model, message, advice in problems:
            heading = _("Not segmented with {model}").format(model=model) if model else _("Not segmented")
            text = f"<b>{escape(heading, quote=False)}</b><br>{escape(message, quote=False)}"
            parts.append(text + (f"<br><i>{escape(advice, quote=False)}</i>" if advice else ""))
        label.text = "<br><br>".join(parts)

    def _sayWarnings(self, warnings: Sequence[str]) -> None:
        label = self.ui.warningsLabel
        label.visible = bool(warnings)
        label.text = "<br>".join(f"<b>{_('Note')}:</b> {escape(warning, quote=False)}" for warning in warnings)


class _Series:
    """The runs of one click: which are to come, which gave a result, which failed; the rest goes on all the same."""

    def __init__(self, requests: Sequence[RunRequest]) -> None:
        self.total = len(requests)
        self.place = -1  # of the run that is under way, counted from 0
        self.jobs: list[SegmentationJob] = []
        self.problems: list[tuple[str, Exception]] = []
        self._waiting = deque(requests)
        self._model = ""

    def next(self) -> RunRequest | None:
        """The next one, into the segmentation that an earlier one made."""
        if not self._waiting:
            return None
        request = self._waiting.popleft()
        self.place += 1
        self._model = request.model
        made = [job.outcome.node for job in self.jobs if slicer.mrmlScene.IsNodePresent(job.outcome.node)]
        return replace(request, output=made[0]) if request.output is None and made else request

    def done(self, job: SegmentationJob) -> None:
        self.jobs.append(job)

    def failed(self, error: Exception) -> None:
        self.problems.append((self._model, error))

    def stop(self) -> None:
        self._waiting.clear()


def _summary(jobs: Sequence[SegmentationJob]) -> str:
    text = _("Done in {time}: “{name}”, {count} segments.")
    if len(jobs) > 1:
        text = _("Done in {time}: “{name}”, {count} segments of {models} models.")
    return text.format(
        time=secondsText(sum(job.outcome.timings["total"] for job in jobs)),
        name=jobs[0].outcome.node.GetName(),
        count=sum(len(job.outcome.segmentIds) for job in jobs),
        models=len(jobs),
    )
