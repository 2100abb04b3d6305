"""What is missing before anything can be segmented, what it costs, and one button that installs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from .dependencies import installedMb, nameOf
from .installation import Installer

if TYPE_CHECKING:
    from .preferences import Preferences

_TORCH = "PyTorch"
_TORCH_REQUIREMENT = "torch>=2.6"
_TORCH_MODULE = "PyTorchUtils"  # of Slicer's extension of the name above
_UNFINISHED, _NO_GPU_HINT = "InstallationUnfinished", "NoGpuHint"


class FirstUse:
    """A notice that is there only while something is missing, or a graphics card lies idle.

    Args:
        ui: the named widgets of MambaSegment.ui.
        logic: a MambaSegmentLogic; its worker is ended before packages are changed.
        preferences: where packages come from, and that an installation was begun.
        onChanged: called when an installation begins and when it is over.
    """

    def __init__(self, ui: Any, logic: Any, preferences: Preferences, onChanged: Callable[[], None]) -> None:
        self.ui = ui
        self.logic = logic
        self.installer = Installer(self._show, self._onOver)
        self._preferences = preferences
        self._onChanged = onChanged
        self._packages: list[str] = []
        self._torch = True
        self._gpuIsIdle = False
        self._problem = ""
        ui.installButton.connect("clicked()", self.onInstall)
        ui.cancelInstallButton.connect("clicked()", self.onCancel)
        ui.openTorchModuleButton.connect("clicked()", self.onOpenTorchModule)
        ui.dismissHintButton.connect("clicked()", self.onDismissHint)

    @property
    def missing(self) -> list[str]:
        """Names, for a sentence."""
        return [*([] if self._torch else [_TORCH]), *map(nameOf, self._packages)]

    def look(self) -> None:
        self._packages = self.logic.missingPackages()
        self._torch = self.logic.torchIsInstalled()
        hint = not self._preferences.get(_NO_GPU_HINT)
        self._gpuIsIdle = self._torch and hint and self.logic.gpuIsIdle()
        if not self._packages and not self.installer.isRunning:
            self._preferences.set(_UNFINISHED, "")
        self._show()

    def close(self) -> None:
        self.installer.close()

    def onInstall(self) -> None:
        self._problem = ""
        self.logic.close()  # a worker would go on with the old packages; on Windows it would lock their files
        self._preferences.set(_UNFINISHED, "yes")  # so that the next start knows what an interrupted one left
        self.installer.start(self._wanted(), self._preferences.wheelFolder)
        self._show()
        self._onChanged()

    def onCancel(self) -> None:
        self.installer.cancel()
        self._show()

    def onOpenTorchModule(self) -> None:
        slicer.util.selectModule(_TORCH_MODULE)

    def onDismissHint(self) -> None:
        self._preferences.set(_NO_GPU_HINT, "yes")
        self.look()

    def _wanted(self) -> list[str]:
        """PyTorch first, where the site's folder of wheels has the build that the site chose."""
        return [*([_TORCH_REQUIREMENT] if self._torchIsInWheelFolder() else []), *self._packages]

    def _torchIsInWheelFolder(self) -> bool:
        folder = self._preferences.wheelFolder
        return not self._torch and bool(folder) and any(Path(folder).glob("torch-*.whl"))

    def _onOver(self, problem: str) -> None:
        self._problem = problem
        self.look()
        self._onChanged()

    def _show(self) -> None:
        ui, installer = self.ui, self.installer
        running = installer.isRunning
        ui.firstUseFrame.visible = bool(self.missing) or running or self._gpuIsIdle
        ui.missingPackagesLabel.text = "<br><br>".join(self._paragraphs())
        ui.installButton.visible = bool(self._wanted()) and not running
        ui.installButton.text = _("Continue installing") if self._wasInterrupted() else _("Install")
        ui.installProgressBar.setRange(0, max(1, 2 * installer.total))
        ui.installProgressBar.value = 2 * installer.done + 1  # half of a package, as pip does not tell how far it is
        ui.installProgressLabel.text = _("{package} ({number} of {total})").format(
            package=installer.current, number=installer.done + 1, total=installer.total
        )
        for widget in (ui.installProgressBar, ui.installProgressLabel, ui.cancelInstallButton):
            widget.visible = running
        ui.cancelInstallButton.enabled = not installer.isCancelling
        stopping = _("Stopping after {package}…").format(package=installer.current)
        ui.cancelInstallButton.text = stopping if installer.isCancelling else _("Cancel")
        ui.openTorchModuleButton.visible = (not self._torch or self._gpuIsIdle) and _extensionIsThere()
        ui.dismissHintButton.visible = self._gpuIsIdle

    def _paragraphs(self) -> list[str]:
        found = []
        if self._packages:
            found.append(self._aboutPackages())
        if self._torchIsInWheelFolder():
            found.append(_("<b>PyTorch</b> is taken from that folder too."))
        elif not self._torch:
            found.append(_aboutTorch())
        if self._gpuIsIdle:
            found.append(_aboutIdleGpu())
        if self._problem:
            text = _(
                "<b>The installation failed:</b> {problem}. The log below has the details. Usual reasons: no internet "
                "connection, or a folder of Slicer that only an administrator may change."
            )
            found.append(text.format(problem=escape(self._problem, quote=False)))
        return found

    def _wasInterrupted(self) -> bool:
        return bool(self._packages) and bool(self._preferences.get(_UNFINISHED))

    def _aboutPackages(self) -> str:
        size = installedMb(self._packages)
        names = ", ".join(escape(each, quote=False) for each in self._packages)
        text = _("<b>To be installed before first use:</b> {names}").format(names=names)
        if self._wasInterrupted() and not self.installer.isRunning:
            text = _("<b>The installation was not finished.</b> Still missing: {names}").format(names=names)
        if size is not None:
            text += " " + _("(about {size} MB on disk)").format(size=max(1, round(size)))
        text += _(
            ". They go into Slicer's own Python; numpy, scipy and SimpleITK, which Slicer brings, stay as they are."
        )
        if self._preferences.wheelFolder:
            folder = escape(self._preferences.wheelFolder, quote=False)
            text += " " + _("They come from {folder}, without network.").format(folder=folder)
        return text


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


def _aboutIdleGpu() -> str:
    return _(
        "<b>This computer has an NVIDIA graphics card, but its PyTorch is a build for CPUs,</b> so networks run on the "
        "CPU. To change that, uninstall PyTorch in the module of the extension “PyTorch”, restart Slicer, and install "
        "it there again with a CUDA backend."
    )
