"""The fields of the review: decision, comment, reviewer, case, slices, folder; what is typed goes to the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ctk
import qt
from slicer.i18n import tr as _

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.document import ACCEPT, ACCEPT_WITH_CORRECTIONS, REJECT, check_case_name

from .rules import slicesAsText, slicesFromText
from .session import ReviewSession

if TYPE_CHECKING:
    from ..preferences import Preferences

_REVIEWER, _FOLDER = "Reviewer", "ReviewFolder"  # kept on this computer
_TYPING_MS = 500


class ReviewForm:
    """Args:
    ui: the named widgets of ReviewSection.ui.
    preferences: of this computer.
    onProblem: called with a sentence when something typed makes no sense, with an empty text when it does.
    onReviewer: called when another name was typed.
    """

    def __init__(
        self, ui: Any, preferences: Preferences, onProblem: Callable[[str], None], onReviewer: Callable[[], None]
    ) -> None:
        self.ui = ui
        self._preferences = preferences
        self._onProblem = onProblem
        self._session: ReviewSession | None = None
        self._buttons = {
            ACCEPT: ui.reviewAcceptButton,
            ACCEPT_WITH_CORRECTIONS: ui.reviewCorrectedButton,
            REJECT: ui.reviewRejectButton,
        }
        for decision, button in self._buttons.items():
            button.connect("clicked()", lambda decision=decision: self._onDecision(decision))
        ui.reviewFolderEdit.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Writable
        ui.reviewReviewerEdit.text = preferences.get(_REVIEWER)
        ui.reviewFolderEdit.currentPath = preferences.get(_FOLDER)
        self._typing = qt.QTimer()
        self._typing.setSingleShot(True)
        self._typing.interval = _TYPING_MS
        self._typing.connect("timeout()", self.flush)
        ui.reviewCommentEdit.connect("textChanged()", self._typing.start)
        ui.reviewReviewerEdit.connect("textChanged(QString)", lambda _text: self._onReviewer(onReviewer))
        ui.reviewFolderEdit.connect("currentPathChanged(QString)", lambda path: preferences.set(_FOLDER, path))
        ui.reviewCaseEdit.connect("editingFinished()", self.flush)
        ui.reviewSlicesEdit.connect("editingFinished()", self.flush)

    @property
    def reviewer(self) -> str:
        return self.ui.reviewReviewerEdit.text.strip()

    @property
    def folder(self) -> str:
        return self.ui.reviewFolderEdit.currentPath.strip()

    def askFolder(self) -> str:
        """The folder; asked for where none was ever chosen. Empty when the user does not want to say."""
        if not self.folder:
            chosen = qt.QFileDialog.getExistingDirectory(self.ui.reviewContent, _("Folder for reviews"), "")
            self.ui.reviewFolderEdit.currentPath = chosen
        return self.folder

    def setSession(self, session: ReviewSession | None) -> None:
        """Show another review."""
        self.flush()
        self._session = session
        if session is None:
            return
        state = session.state
        self._showDecision()
        for widget, name, text in (
            (self.ui.reviewCommentEdit, "plainText", state.comment),
            (self.ui.reviewCaseEdit, "text", state.case),
            (self.ui.reviewSlicesEdit, "text", slicesAsText(state.slices)),
        ):
            wasBlocked = widget.blockSignals(True)
            setattr(widget, name, text)
            widget.blockSignals(wasBlocked)

    def show(self) -> None:
        """Bring what depends on the session up to date; what is signed off cannot be changed."""
        session = self._session
        if session is None:
            return
        self._showDecision()
        for widget in (*self._buttons.values(), self.ui.reviewCommentEdit, self.ui.reviewSlicesEdit):
            widget.enabled = not session.isSignedOff
        self.ui.reviewReviewerEdit.enabled = not session.isSignedOff
        if not self.ui.reviewCaseEdit.hasFocus():
            self.ui.reviewCaseEdit.text = session.state.case

    def flush(self) -> bool:
        """Hand over what was typed; False where it makes no sense."""
        self._typing.stop()
        session = self._session
        if session is None:
            return True
        try:
            case = self.ui.reviewCaseEdit.text.strip()
            check_case_name(case)
            session.setCase(case)
            if not session.isSignedOff:
                session.setSlices(slicesFromText(self.ui.reviewSlicesEdit.text, session.state.grid.size[2]))
                session.comment(self.ui.reviewCommentEdit.plainText.strip())
        except ConfigError as problem:
            self._onProblem(str(problem))
            return False
        self._onProblem("")
        return True

    def _onDecision(self, decision: str) -> None:
        if self._session is not None:
            self._session.decide(decision)

    def _onReviewer(self, onReviewer: Callable[[], None]) -> None:
        self._preferences.set(_REVIEWER, self.reviewer)
        onReviewer()

    def _showDecision(self) -> None:
        assert self._session is not None
        for decision, button in self._buttons.items():
            wanted = decision == self._session.state.decision
            if button.checked != wanted:
                button.autoExclusive = False  # or the last one could not be taken back
                button.checked = wanted
                button.autoExclusive = True
