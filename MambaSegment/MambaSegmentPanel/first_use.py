"""What is missing before anything can be segmented, what it costs, and one button that installs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from html import escape
from typing import Any

import slicer
from slicer.i18n import tr as _

from .dependencies import installedMb, nameOf
from .installation import Installer

_TORCH = "PyTorch"
_TORCH_MODULE = "PyTorchUtils"  # of Slicer's extension of the name above


class FirstUse:
    """A notice that is there only while something is missing.

    Args:
        ui: the named widgets of MambaSegment.ui.
        logic: a MambaSegmentLogic; its worker is ended before packages are changed.
        onChanged: called when an installation begins and when it is over.
    """

    def __init__(self, ui: Any, logic: Any, onChanged: Callable[[], None]) -> None:
        self.ui = ui
        self.logic = logic
        self.installer = Installer(self._onOver)
        self._onChanged = onChanged
        self._packages: list[str] = []
        self._torch = True
        self._problem = ""
        ui.installButton.connect("clicked()", self.onInstall)
        ui.openTorchModuleButton.connect("clicked()", self.onOpenTorchModule)
        ui.installProgressBar.setRange(0, 0)  # pip does not tell how far it is

    @property
    def missing(self) -> list[str]:
        """Names, for a sentence."""
        return [*([] if self._torch else [_TORCH]), *map(nameOf, self._packages)]

    def look(self) -> None:
        self._packages = self.logic.missingPackages()
        self._torch = self.logic.torchIsInstalled()
        self._show()

    def onInstall(self) -> None:
        self._problem = ""
        self.logic.close()  # a worker would go on with the old packages; on Windows it would lock their files
        self.installer.start(self._packages)
        self._show()
        self._onChanged()

    def onOpenTorchModule(self) -> None:
        slicer.util.selectModule(_TORCH_MODULE)

    def _onOver(self, problem: str) -> None:
        self._problem = problem
        self.look()
        self._onChanged()

    def _show(self) -> None:
        ui, running = self.ui, self.installer.isRunning
        ui.firstUseFrame.visible = bool(self.missing) or running
        ui.missingPackagesLabel.text = "<br><br>".join(self._paragraphs())
        ui.installButton.visible = bool(self._packages) or running
        ui.installButton.enabled = not running
        ui.installButton.text = _("Installing…") if running else _("Install")
        ui.installProgressBar.visible = running
        ui.openTorchModuleButton.visible = not self._torch and _extensionIsThere()

    def _paragraphs(self) -> list[str]:
        found = []
        if self._packages:
            found.append(self._aboutPackages())
        if not self._torch:
            found.append(_aboutTorch())
        if self._problem:
            text = _(
                "<b>The installation failed:</b> {problem}. The log below has the details. Usual reasons: no internet "
                "connection, or a folder of Slicer that only an administrator may change."
            )
            found.append(text.format(problem=escape(self._problem, quote=False)))
        return found

    def _aboutPackages(self) -> str:
        size = installedMb(self._packages)
        names = ", ".join(escape(each, quote=False) for each in self._packages)
        text = _("<b>To be installed before first use:</b> {names}").format(names=names)
        if size is not None:
            text += " " + _("(about {size} MB on disk)").format(size=max(1, round(size)))
        return text + _(
            ". They go into Slicer's own Python; numpy, scipy and SimpleITK, which Slicer brings, stay as they are."
        )


def _extensionIsThere() -> bool:
    return importlib.util.find_spec(_TORCH_MODULE) is not None


def _aboutTorch() -> str:
    """PyTorch comes through its extension, which picks the build for this computer's graphics card."""
    if _extensionIsThere():
        how = _("Open its module and press its install button, then press Refresh below.")
    else:
        how = _("Install the extension “PyTorch” with the Extensions Manager and restart Slicer.")
    return _(
        "<b>PyTorch is missing,</b> which computes the networks (about 760 MB on disk for a CPU, several times that "
        "for a graphics card). {how}"
    ).format(how=how)
