"""Save, sign off, and what to do about files that are there already."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError

from ..messages import asSentence, messageAndAdvice
from .files import Labels, changedNames, gatherLabels, saveReview
from .form import ReviewForm
from .session import ReviewSession

_log = logging.getLogger("MambaSegment")


class ReviewSaver:
    """The two buttons below the form, their state, and the question about existing files.

    Args:
        ui: the named widgets of ReviewSection.ui.
        onProblem: called with a sentence; with an empty text when all is well.
    """

    def __init__(self, ui: Any, form: ReviewForm, onProblem: Callable[[str], None]) -> None:
        self.ui = ui
        self._form = form
        self._say = onProblem
        self._session: ReviewSession | None = None
        ui.reviewSaveButton.connect("clicked()", self.onSave)
        ui.reviewSignOffButton.connect("clicked()", self.onSignOff)
        ui.reviewOtherNameButton.connect("clicked()", self.onOtherName)
        ui.reviewReplaceButton.connect("clicked()", self.onReplace)
        ui.reviewKeepButton.connect("clicked()", self._hideQuestion)

    def setSession(self, session: ReviewSession | None) -> None:
        self._session = session
        self._hideQuestion()

    def show(self) -> None:
        session = self._session
        if session is None:
            return
        whyNot = "" if session.isSignedOff else session.whyNotSignedOff(self._form.reviewer)
        button = self.ui.reviewSignOffButton
        button.text = _("Withdraw sign-off") if session.isSignedOff else _("Sign off and save")
        button.enabled = not whyNot
        button.toolTip = whyNot or (
            _("Take the signature back, to change the review.")
            if session.isSignedOff
            else _("Confirm the decision with your name, and save.")
        )
        self.ui.reviewWhyNotLabel.text = whyNot
        self.ui.reviewWhyNotLabel.visible = bool(whyNot)
        self.ui.reviewStateLabel.text = _stateText(session)

    def onSave(self) -> None:
        if self._session is not None and self._form.flush():
            self._save(None, replace=False)

    def onSignOff(self) -> None:
        session = self._session
        if session is None:
            return
        if session.isSignedOff:
            session.withdraw()
            return
        if not self._form.flush():
            return
        with slicer.util.WaitCursor():
            labels = gatherLabels(session)
        whyNot = session.whyNotSignedOff(self._form.reviewer, changedNames(session, labels))
        if whyNot:
            self._say(whyNot)
            return
        session.signOff(self._form.reviewer)
        self._save(labels, replace=False)

    def onOtherName(self) -> None:
        session = self._session
        if session is not None:
            session.setCase(self._files(session).free().case)
            self._form.show()
            self._save(None, replace=False)

    def onReplace(self) -> None:
        self._save(None, replace=True)

    def _save(self, labels: Labels | None, *, replace: bool) -> None:
        session = self._session
        self._hideQuestion()
        if session is None:
            return
        if not self._form.askFolder():
            self._say(_("Not saved: choose a folder first."))
            return
        try:
            files = self._files(session)
            there = [] if replace or session.isOwn(files) else files.existing()
            if there:
                self._ask(files, [path.name for path in there])
                return
            with slicer.util.WaitCursor():
                labels = labels or gatherLabels(session)
                warnings = saveReview(session, labels, files, self._form.reviewer, replace=replace)
        except Exception as error:  # whatever it is, the review is as it was, and the user must know
            self._sayNotSaved(error)
            return
        self._say(" ".join(warnings))
        _log.info("saved the review %s", files.document)
        slicer.util.showStatusMessage(_("Saved {file}").format(file=files.document.name), 5000)

    def _files(self, session: ReviewSession) -> Any:
        from MambaSegmentLib.review.saving import ReviewFiles  # needs packages that may have to be installed first

        return ReviewFiles(Path(self._form.folder), session.state.case)

    def _ask(self, files: Any, names: list[str]) -> None:
        ui = self.ui
        ui.reviewConflictLabel.text = _(
            "{names} would be overwritten, and is not of this review. Save as “{case}” instead?"
        ).format(names=", ".join(names), case=files.free().case)
        ui.reviewConflictFrame.visible = True

    def _hideQuestion(self) -> None:
        self.ui.reviewConflictFrame.visible = False

    def _sayNotSaved(self, error: Exception) -> None:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("MambaSegment"):
            self._say(_("Not saved: The package {name} is missing; press Install at the top.").format(name=error.name))
            return
        if not isinstance(error, MambaSegmentError):
            _log.exception("a review could not be saved", exc_info=error)
        message, advice = messageAndAdvice(error)
        _log.error("not saved: %s %s", message, advice)
        self._say(_("Not saved: {message} The review stays in the scene.").format(message=asSentence(message)))


def _stateText(session: ReviewSession) -> str:
    state = session.state
    parts = []
    if session.isSignedOff:
        parts.append(_("Signed off by {name}.").format(name=state.signedOffBy))
    if state.saved is None:
        parts.append(_("Not saved yet."))
    else:
        moment = datetime.fromisoformat(state.saved.savedUtc).astimezone().strftime("%Y-%m-%d %H:%M")
        parts.append(_("Saved as {case}, {moment}.").format(case=state.saved.case, moment=moment))
        if state.isUnsaved:
            parts.append(_("Changed since."))
    return " ".join(parts)
