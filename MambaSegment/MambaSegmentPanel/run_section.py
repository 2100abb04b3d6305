"""The button Segment, which is Cancel during a run; progress, result in words, warnings, errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import Cancelled

from .messages import asSentence, messageAndAdvice
from .run_progress import BAR_END, RunProgress, secondsText

if TYPE_CHECKING:
    from MambaSegmentLib.progress import Progress

    from .job import SegmentationJob

_log = logging.getLogger("MambaSegment")


@dataclass(frozen=True)
class RunRequest:
    """What `MambaSegmentLogic.segmentAsync` is asked for."""

    volumeNodes: list[Any]
    model: str
    device: str
    output: Any | None


class RunSection:
    """At most one run at a time.

    Args:
        ui: the named widgets of MambaSegment.ui.
        logic: a MambaSegmentLogic.
        request: gives what to segment, at the time of the click.
        onResult: called with the job that gave a result; with None when a new one begins.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        request: Callable[[], RunRequest],
        onResult: Callable[[SegmentationJob | None], None],
    ) -> None:
        self.ui = ui
        self.logic = logic
        self._request = request
        self._onResult = onResult
        self._job: SegmentationJob | None = None
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
        self._sayProblem("", "")
        self._sayWarnings([])
        self._showButton()

    def onClicked(self) -> None:
        if self._job is not None:
            self._cancelling = True
            self._showButton()
            self._job.cancel()
        elif not self._whyNot:
            self._begin(self._request())

    def _begin(self, request: RunRequest) -> None:
        self.forget()
        self._onResult(None)
        self._progress, self._cancelling = RunProgress(), False
        names = ", ".join(repr(volume.GetName()) for volume in request.volumeNodes)
        _log.info("segmenting %s with %s on the device %r", names, request.model, request.device)
        try:
            self._job = self.logic.segmentAsync(
                request.volumeNodes,
                request.model,
                output=request.output,
                onProgress=self._onProgress,
                onDone=self._onDone,
                onFailed=self._onFailed,
                device=request.device,
                statistics=True,
            )
        except Exception as error:  # nothing was begun; whatever it is, it is shown
            _log.debug("nothing was begun", exc_info=True)
            self._showError(error)
        self._showProgress()
        self._showButton()

    def _onProgress(self, progress: Progress) -> None:
        self._progress.add(progress)
        self._showProgress()

    def _onDone(self, node: Any) -> None:
        job = self._ended()
        outcome = job.outcome
        text = _("Done in {time}: “{name}”, {count} segments.").format(
            time=secondsText(outcome.timings["total"]), name=node.GetName(), count=len(outcome.segmentIds)
        )
        self._say(text)
        warnings = list(outcome.warnings)
        if outcome.inputChanged:
            warnings.append(_("The volume was changed meanwhile: the segments show what it was before."))
        self._sayWarnings(warnings)
        slicer.util.showStatusMessage(text, 10_000)
        _log.info("%s %s", text, {stage: round(seconds, 3) for stage, seconds in outcome.timings.items()})
        self._onResult(job)

    def _onFailed(self, error: Exception) -> None:
        self._ended()
        if isinstance(error, Cancelled):
            self._say(asSentence(str(error)))
            _log.info("%s", error)
        else:
            self._showError(error)

    def _ended(self) -> SegmentationJob:
        job, self._job = self._job, None
        assert job is not None
        self._showProgress()
        self._showButton()
        return job

    def _showError(self, error: Exception) -> None:
        message, advice = messageAndAdvice(error)
        _log.error("%s %s", asSentence(message), advice)
        self._sayProblem(message, advice)

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
        self.ui.progressBar.value = self._progress.value
        self.ui.progressLabel.text = self._progress.text

    def _say(self, text: str) -> None:
        self.ui.statusLabel.text = text
        self.ui.statusLabel.visible = bool(text)

    def _sayProblem(self, message: str, advice: str) -> None:
        label = self.ui.errorLabel
        label.visible = bool(message)
        label.text = "<b>{heading}</b><br>{message}".format(
            heading=_("Not segmented"), message=escape(asSentence(message), quote=False)
        ) + (f"<br><i>{escape(advice, quote=False)}</i>" if advice else "")

    def _sayWarnings(self, warnings: list[str]) -> None:
        label = self.ui.warningsLabel
        label.visible = bool(warnings)
        label.text = "<br>".join(f"<b>{_('Note')}:</b> {escape(warning, quote=False)}" for warning in warnings)
