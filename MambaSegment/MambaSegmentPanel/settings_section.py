"""Folders, device and keys that a user prefers on this computer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ctk
import qt
from slicer.i18n import tr as _

from .choice_box import ChoiceBox, devices
from .shortcuts import USUAL

if TYPE_CHECKING:
    from .preferences import Preferences
    from .shortcuts import Shortcuts


_LOOK_AFTER_MS = 400  # a path that is typed changes with every key


class SettingsSection:
    """Args:
    ui: the named widgets of MambaSegment.ui.
    onFolders: called after another folder was chosen.
    """

    def __init__(self, ui: Any, preferences: Preferences, shortcuts: Shortcuts, onFolders: Callable[[], None]) -> None:
        self.ui = ui
        self._preferences = preferences
        self._shortcuts = shortcuts
        self._later: Any = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.connect("timeout()", onFolders)
        ui.settingsCollapsibleButton.collapsed = True
        for edit in (ui.modelFolderEdit, ui.wheelFolderEdit):
            edit.filters = ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable
        self._showFolders()
        ui.modelFolderEdit.connect("currentPathChanged(QString)", lambda path: self._onFolder("ModelFolder", path))
        ui.wheelFolderEdit.connect("currentPathChanged(QString)", lambda path: self._onFolder("WheelFolder", path))
        self._device = ChoiceBox(
            ui.defaultDeviceSelector,
            devices(),
            lambda: preferences.device,
            lambda name: preferences.set("Device", name),
        )
        self._device.show()
        self._keys = {"Segment": ui.segmentKeyEdit, "Cancel": ui.cancelKeyEdit, "Toggle": ui.toggleKeyEdit}
        for name, edit in self._keys.items():
            edit.text = shortcuts.key(name)
            edit.placeholderText = USUAL[name]
        self._handlers = {name: self._keyHandler(name) for name in self._keys}
        for name, edit in self._keys.items():
            edit.connect("editingFinished()", self._handlers[name])

    def close(self) -> None:
        """A field that goes while the user is in it tells that as the end of editing."""
        self._later.stop()
        for name, edit in self._keys.items():
            edit.disconnect("editingFinished()", self._handlers[name])

    def _onFolder(self, name: str, path: str) -> None:
        self._preferences.set(name, path.strip())
        self._preferences.apply()
        self._sayFolders()
        self._later.start(_LOOK_AFTER_MS)

    def _keyHandler(self, name: str) -> Callable[[], None]:
        return lambda: self._onKey(name)

    def _onKey(self, name: str) -> None:
        edit = self._keys[name]
        whyNot = self._shortcuts.setKey(name, edit.text)
        edit.text = self._shortcuts.key(name)
        self.ui.shortcutsHintLabel.text = whyNot
        self.ui.shortcutsHintLabel.visible = bool(whyNot)

    def _showFolders(self) -> None:
        preferences, ui = self._preferences, self.ui
        ui.modelFolderEdit.currentPath = preferences.get("ModelFolder")
        ui.wheelFolderEdit.currentPath = preferences.get("WheelFolder")
        ui.modelFolderEdit.enabled = not preferences.modelFolderIsPreset
        ui.wheelFolderEdit.enabled = not preferences.wheelFolderIsPreset
        self._sayFolders()

    def _sayFolders(self) -> None:
        """Where models go in the end, and what a site decided."""
        preferences = self._preferences
        sentences = [_("Models are added to {folder}.").format(folder=preferences.modelFolder)]
        if preferences.wheelFolder:
            sentences.append(_("Packages come from {folder}.").format(folder=preferences.wheelFolder))
        if preferences.modelFolderIsPreset or preferences.wheelFolderIsPreset:
            sentences.append(_("Folders that cannot be changed here were set by this site."))
        self.ui.foldersHintLabel.text = " ".join(sentences)
        self.ui.foldersHintLabel.visible = True
