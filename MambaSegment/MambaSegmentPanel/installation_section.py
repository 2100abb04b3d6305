"""`Check installation`: asks the Python that networks run on what it has, and shows the answer readably."""

from __future__ import annotations

import json
import logging
from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError

from .doctor_report import reportHtml
from .messages import asSentence
from .side_process import SideProcess

_log = logging.getLogger("MambaSegment")


class InstallationSection:
    """Args:
    ui: the named widgets of MambaSegment.ui.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._report: dict[str, Any] | None = None
        self._process = SideProcess(self._onLine, self._onOver)
        ui.checkInstallationButton.connect("clicked()", self.onCheck)
        ui.copyInstallationReportButton.connect("clicked()", self.onCopy)

    @property
    def isChecking(self) -> bool:
        return self._process.isRunning

    def close(self) -> None:
        self._process.close()

    def onCheck(self) -> None:
        if self.isChecking:
            return
        self._report = None
        try:
            self._process.start(["doctor", "--json"])
        except MambaSegmentError as problem:
            self._show(_problemHtml(str(problem)))
            return
        self._show(_("Looking; this takes a few seconds."))

    def onCopy(self) -> None:
        """The report as a shell prints it, which is what a bug report needs."""
        from MambaSegmentLib.doctor import as_text

        if self._report is not None:
            qt.QApplication.clipboard().setText(as_text(self._report))

    def _onLine(self, line: str) -> None:
        try:
            report = json.loads(line)
        except ValueError:
            _log.debug("%s", line)
            return
        if isinstance(report, dict) and "packages" in report:
            self._report = report

    def _onOver(self, code: int, said: str) -> None:
        if self._report is not None:
            self._show(reportHtml(self._report))
        else:
            text = said or _("the check ended with code {code}; the log has the details").format(code=code)
            self._show(_problemHtml(text))

    def _show(self, html: str) -> None:
        ui = self.ui
        ui.installationReportBrowser.setHtml(html)
        ui.installationReportBrowser.visible = True
        ui.copyInstallationReportButton.visible = self._report is not None
        ui.checkInstallationButton.enabled = not self.isChecking


def _problemHtml(text: str) -> str:
    heading = _("The installation could not be checked.")
    return f"<p><b>{heading}</b> {escape(asSentence(text))}</p>"
