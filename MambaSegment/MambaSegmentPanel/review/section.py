"""The section Review of the panel: shows a review and passes on what is pressed; `session.py` and `rules.py` decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError
from MambaSegmentLib.review.document import FLAGGED
from MambaSegmentLib.review.measure import voxel_volume_ml

from . import keys
from .attention import Attention
from .beginning import beginReview, imageOf
from .editor import ReviewEditor
from .form import ReviewForm
from .notices import Notices
from .open_reviews import OpenReviews
from .prediction import compare, isCompared, predictionOf, restoreSegment
from .rules import changeText, progressText
from .saver import ReviewSaver
from .session import ReviewSession

if TYPE_CHECKING:
    from ..job import SegmentationJob
    from ..preferences import Preferences

UI_FILE = Path(__file__).resolve().parents[2] / "Resources" / "UI" / "ReviewSection.ui"
_MEASURE_MS = 200  # after a click or an edit, so that quick clicks do not wait for each other
_TABLE_ROWS = 6
_LINES_PER_ROW = 2.1  # a row of a table is higher than its text
_FRAME_PX = 8


class ReviewSection:
    """Follows each run, or what the user chooses.

    Args:
        panelUi: the named widgets of MambaSegment.ui; those of this section are added, so that the parameter node
            binds them too.
        preferences: of this computer.
        volumes: gives the volumes that are chosen in the panel, for a segmentation whose image is not known.
    """

    def __init__(self, panelUi: Any, preferences: Preferences, volumes: Callable[[], list[Any]]) -> None:
        self._volumes = volumes
        self._node: Any = None  # the parameter node, while the module is shown
        self._awaited: Any = None  # the result of a run that ended while it was not
        self.reviews = OpenReviews(self._onSessionChanged, self._onWithdrawn)
        self._session: ReviewSession | None = None
        self._collapsedByUser = False
        self._build(panelUi)
        ui = self.ui
        self._notices = Notices(ui.reviewErrorLabel)
        self.form = ReviewForm(ui, preferences, self._notices.say, self._show)
        self.editor = ReviewEditor(ui.reviewEditorPlace.layout(), self._onEditorSelection)
        self.saver = ReviewSaver(ui, self.form, self._notices.say)
        self.keys = keys.ReviewKeys(
            {keys.COMPLETE: self.onComplete, keys.FLAG: self.onFlag, keys.COMPARE: self.onCompareKey}
        )
        self._attention = Attention(self._onAttention)
        self._measuring = qt.QTimer()
        self._measuring.setSingleShot(True)
        self._measuring.interval = _MEASURE_MS
        self._measuring.connect("timeout()", self._showChange)
        self._connect()
        scene = slicer.mrmlScene
        self._observers = [(scene, scene.AddObserver(scene.NodeRemovedEvent, self._onNodeRemoved))]
        self._show()

    def close(self) -> None:
        """The panel goes; reviews stay in the scene."""
        self.forget()
        self.editor.close()
        self._measuring.stop()
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._observers = []

    def setNode(self, node: Any) -> None:
        """Show another parameter node's choice; with None the module is left, or the scene is about to be closed."""
        self._node = node
        if node is None:
            self.form.flush()
        elif self._awaited is not None:
            awaited, self._awaited = self._awaited, None
            if slicer.mrmlScene.IsNodePresent(awaited):
                node.reviewSegmentation = awaited
        self.update()

    def update(self) -> None:
        """Show the segmentation that is chosen now."""
        if self._node is not None:
            self._setSession(self.reviews.of(self._node.reviewSegmentation))
        self._showOrLeave()

    def follow(self, job: SegmentationJob | None) -> None:
        """A run has ended: its result is put under review."""
        if job is None:
            return
        node, request = job.outcome.node, job.request
        self._drop(self.reviews.of(node), job.outcome.segmentIds)  # of a node that got more segments
        self._begin(node, request.volumeNodes, [channel.name for channel in request.manifest.channels])

    def take(self, node: Any, volumeNodes: Sequence[Any], channels: Sequence[str] = ()) -> None:
        """A case of a batch was opened: it is put under review, or shown again if it is already.

        Args:
            volumeNodes, channels: as for `beginReview`.
        """
        if self.reviews.of(node) is None:
            self._begin(node, volumeNodes, channels)
        else:
            self._choose(node)

    def _begin(self, node: Any, volumeNodes: Sequence[Any], channels: Sequence[str]) -> None:
        try:
            beginReview(node, volumeNodes, channels)
        except MambaSegmentError as error:  # the result is there all the same
            self._notices.sayError(error)
        else:
            self._choose(node)

    def _choose(self, node: Any) -> None:
        """Show a segmentation that is under review, as soon as the module is shown."""
        if not self._collapsedByUser:
            self.button.collapsed = False
        if self._node is None:
            self._awaited = node
        else:
            self._node.reviewSegmentation = node
            self.update()

    def forget(self) -> None:
        """The scene is about to be closed."""
        self.form.flush()
        self._leave()
        self._setSession(None)
        for session in self.reviews.sessions():
            self._drop(session)
        self.editor.forget()
        self._awaited = None
        self._notices.say("")

    # --- what the user presses

    def onBegin(self) -> None:
        node = self._node.reviewSegmentation if self._node is not None else None
        if node is None:
            return
        volume = imageOf(node)
        volumes = [volume] if volume is not None else [each for each in self._volumes() if each is not None]
        with self._notices.guarding():
            beginReview(node, volumes)
            self.update()

    def onOpen(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            self.ui.reviewContent, _("Open a review"), self.form.folder, _("Reviews (*.review.json)")
        )
        if path:
            self.open(Path(path))

    def open(self, path: Path) -> None:
        """Load a saved review and show it."""
        from .reopening import reopenReview

        with self._notices.guarding():
            with slicer.util.WaitCursor():
                reopened = reopenReview(path)
            if self._node is not None:
                self._node.reviewSegmentation = reopened.node
            self.update()
            self._notices.say(" ".join(reopened.warnings))

    def onComplete(self) -> None:
        if self._session is not None and self._selected:
            self._select(self._session.complete(self._selected))

    def onFlag(self) -> None:
        if self._session is not None and self._selected:
            self._session.toggleFlag(self._selected)
            self._show()

    def onCompare(self) -> None:
        if self._session is not None:
            compare(self._session.node, self.ui.reviewCompareButton.checked)
            self._show()

    def onCompareKey(self) -> None:
        self.ui.reviewCompareButton.click()

    def onRestore(self) -> None:
        if self._session is None or not self._selected:
            return
        with self._notices.guarding():
            self.editor.saveForUndo()
            restoreSegment(self._session.node, self._selected, self.editor.node)
            self._session.look()

    # --- which review

    def _drop(self, session: ReviewSession | None, joining: Iterable[str] = ()) -> None:
        if session is not None:
            if session is self._session:
                self._setSession(None)
            self.reviews.drop(session, joining)

    def _setSession(self, session: ReviewSession | None) -> None:
        if session is self._session:
            self._show()
            return
        if self._session is not None:
            compare(self._session.node, False)
            self._session.clock.pause()
        self.form.setSession(session)
        self.saver.setSession(session)
        self._session = session
        self.ui.reviewSegmentsTable.setSegmentationNode(None if session is None else session.node)
        self._notices.say("")
        if session is not None:
            self._fitTable(len(session.names()))
        self._show()

    def _onNodeRemoved(self, scene: Any, _event: Any) -> None:
        gone = self.reviews.takeGone(scene)
        if self._session in gone:
            self._setSession(None)
            self._showOrLeave()
        if gone:
            names = ", ".join(f"“{session.node.GetName()}”" for session in gone)
            self._notices.say(_("{names} was deleted, and its review with it.").format(names=names))
        else:
            self._show()  # the model's result may be gone

    # --- seen or not

    @property
    def _isSeen(self) -> bool:
        return self._node is not None and self._session is not None and not self.button.collapsed

    def _showOrLeave(self) -> None:
        if not self._isSeen:
            self._leave()
            if self._session is None:
                self.editor.forget()
            return
        assert self._session is not None
        self.editor.show(self._session.node, imageOf(self._session.node))
        window = slicer.util.mainWindow()
        parent = self.root if window is None else window
        self.editor.enter(parent)
        self.keys.install(parent)
        self._attention.start()
        self._session.clock.start()
        if not self._selected:
            self._select(next(iter(self._session.names()), ""))
        self._show()

    def _leave(self) -> None:
        self.keys.remove()
        self.editor.leave()
        self._attention.stop()
        self._measuring.stop()
        self.reviews.pause()

    def _onCollapsed(self, collapsed: bool) -> None:
        self._collapsedByUser = collapsed and self._session is not None
        self._showOrLeave()

    def _onAttention(self) -> None:
        if self._session is not None:
            self._session.clock.touch()

    # --- selection, which the table and the editor share

    @property
    def _selected(self) -> str:
        chosen = self.ui.reviewSegmentsTable.selectedSegmentIDs()
        return chosen[0] if chosen else ""

    def _select(self, identifier: str) -> None:
        if identifier and identifier != self._selected:
            self.ui.reviewSegmentsTable.setSelectedSegmentIDs([identifier])
        self._onSelection()

    def _onTableSelection(self, *_: Any) -> None:
        self._onSelection()

    def _onSelection(self) -> None:
        selected = self._selected
        if selected and self._session is not None:
            self.editor.select(selected)
            self._session.clock.touch()
        if self._session is not None:
            self._measuring.start()
            self._showButtons()

    def _onEditorSelection(self, identifier: str) -> None:
        if self._session is not None and identifier in self._session.names() and identifier != self._selected:
            self.ui.reviewSegmentsTable.setSelectedSegmentIDs([identifier])

    # --- what is shown

    def _onSessionChanged(self) -> None:
        self._show()
        self._measuring.start()

    def _onWithdrawn(self) -> None:
        self._notices.say(
            _("The segments were changed after the review was signed off, so the signature was withdrawn.")
        )

    def _show(self) -> None:
        ui, session = self.ui, self._session
        chosen = self._node.reviewSegmentation if self._node is not None else None
        ui.reviewContent.visible = session is not None
        ui.reviewBeginButton.visible = session is None and chosen is not None
        ui.reviewHintLabel.visible = session is None
        if session is None:
            ui.reviewHintLabel.text = (
                _("After each run its segments appear here, to be checked, corrected and signed off.")
                if chosen is None
                else _("This segmentation is not under review yet.")
            )
            return
        ui.reviewProgressLabel.text = progressText(list(session.statuses().values()))
        self.form.show()
        self.saver.show()
        self._showButtons()

    def _showButtons(self) -> None:
        ui, session = self.ui, self._session
        if session is None:
            return
        selected, prediction = self._selected, predictionOf(session.node)
        for button in (ui.reviewCompleteButton, ui.reviewFlagButton):
            button.enabled = bool(selected)
        ui.reviewFlagButton.checked = session.statuses().get(selected) == FLAGGED
        ui.reviewCompareButton.enabled = prediction is not None
        ui.reviewCompareButton.checked = isCompared(session.node)
        canRestore = bool(selected) and prediction is not None
        ui.reviewRestoreButton.enabled = (
            canRestore
            and prediction.GetSegmentation().GetSegment(selected) is not None
            and self.editor.node is not None
        )

    def _showChange(self) -> None:
        """How the selected segment differs from the model's."""
        session, selected = self._session, self._selected
        if session is None or selected not in session.names():
            self.ui.reviewChangeLabel.text = ""
            return
        name, change = session.names()[selected], session.changeOf(selected)
        self.ui.reviewChangeLabel.text = changeText(name, change, voxel_volume_ml(session.state.grid.spacing_mm))

    # --- once

    def _build(self, panelUi: Any) -> None:
        self.root = slicer.util.loadUI(str(UI_FILE))
        self.root.setMRMLScene(slicer.mrmlScene)
        self.button = ctk.ctkCollapsibleButton()
        self.button.objectName = "reviewCollapsibleButton"
        self.button.text = _("Review")
        qt.QVBoxLayout(self.button).addWidget(self.root)
        results = panelUi.resultsCollapsibleButton
        layout = results.parentWidget().layout()
        layout.insertWidget(layout.indexOf(results) + 1, self.button)
        self.button.collapsed = True
        self.ui = slicer.util.childWidgetVariables(self.root)
        for name, widget in vars(self.ui).items():
            setattr(panelUi, name, widget)
        panelUi.reviewCollapsibleButton = self.button

    def _connect(self) -> None:
        ui = self.ui
        for button, handler in (
            (ui.reviewBeginButton, self.onBegin),
            (ui.reviewOpenButton, self.onOpen),
            (ui.reviewCompleteButton, self.onComplete),
            (ui.reviewFlagButton, self.onFlag),
            (ui.reviewCompareButton, self.onCompare),
            (ui.reviewRestoreButton, self.onRestore),
        ):
            button.connect("clicked()", handler)
        for button, key in (
            (ui.reviewCompleteButton, keys.COMPLETE),
            (ui.reviewFlagButton, keys.FLAG),
            (ui.reviewCompareButton, keys.COMPARE),
        ):
            button.toolTip = f"{button.toolTip} ({key})"
        self.button.connect("contentsCollapsed(bool)", self._onCollapsed)
        ui.reviewSegmentsTable.connect("selectionChanged(QItemSelection,QItemSelection)", self._onTableSelection)

    def _fitTable(self, count: int) -> None:
        """As high as its rows, up to a limit, with a line for the filter of a long one."""
        table = self.ui.reviewSegmentsTable
        table.filterBarVisible = count > _TABLE_ROWS
        lines = min(count, _TABLE_ROWS) + (2 if count > _TABLE_ROWS else 1)
        height = round(lines * _LINES_PER_ROW * self.ui.reviewProgressLabel.fontMetrics().height()) + _FRAME_PX
        table.minimumHeight = table.maximumHeight = height
