"""Keys of the module, which work while it is shown and are none of the Segment Editor's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from .preferences import Preferences

USUAL = {"Segment": "Ctrl+Return", "Cancel": "Alt+X", "Toggle": "Alt+A"}
# Those that qMRMLSegmentEditorWidget installs: two shortcuts of one key make both dead.
_DIGITS = "1234567890"
SEGMENT_EDITORS = frozenset(
    [
        *_DIGITS,
        *(f"Shift+{digit}" for digit in _DIGITS),
        *("Esc", "Space", "Z", "Y", "Ctrl+Z", "Ctrl+Y", "Ctrl+Shift+Z", "Q", "W", "I"),
        *("/", "*", ",", ".", ">", "<"),
    ]
)
# Of Slicer's main window.
_SLICERS = frozenset(f"Ctrl+{key}" for key in "OSWQFH12345ACVX")
_NONE = "none"  # kept where the user wants no key, as an empty text means the usual one


class Shortcuts:
    """Args:
    actions: what each key does, by the names of `USUAL`.
    parent: the widget whose window listens where there is no main window.
    """

    def __init__(self, preferences: Preferences, actions: Mapping[str, Callable[[], None]], parent: Any) -> None:
        self._preferences = preferences
        self._actions = actions
        self._parent = parent
        self._installed: list[tuple[Any, Callable[[], None]]] = []

    def key(self, name: str) -> str:
        """Portable text; empty for none."""
        kept = self._preferences.get(f"Shortcut{name}", USUAL[name])
        return "" if kept == _NONE else kept

    def setKey(self, name: str, text: str) -> str:
        """Keep another key. Returns: why it cannot be that one, or an empty text."""
        key = _portable(text)
        if text.strip() and not key:
            return _("“{key}” is no key; expected one such as Ctrl+Return or Alt+M.").format(key=text.strip())
        whyNot = self._whyNot(name, key)
        if not whyNot:
            self._preferences.set(f"Shortcut{name}", key or _NONE)
            if self._installed:
                self.install()
        return whyNot

    def install(self) -> None:
        self.uninstall()
        parent = slicer.util.mainWindow() or self._parent
        for name, action in self._actions.items():
            key = self.key(name)
            if key:
                shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
                shortcut.connect("activated()", action)
                self._installed.append((shortcut, action))

    def uninstall(self) -> None:
        for shortcut, action in self._installed:
            shortcut.disconnect("activated()", action)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._installed = []

    def _whyNot(self, name: str, key: str) -> str:
        if not key:
            return ""
        if key in SEGMENT_EDITORS:
            return _("{key} belongs to the Segment Editor; two uses of a key make both dead.").format(key=key)
        if key in _SLICERS:
            return _("{key} belongs to Slicer's main window.").format(key=key)
        if "+" not in key and len(key) == 1:
            return _("{key} alone would be pressed by accident; add Ctrl or Alt.").format(key=key)
        if any(self.key(other) == key for other in USUAL if other != name):
            return _("{key} is in use here already.").format(key=key)
        return ""


def _portable(text: str) -> str:
    """One key with its modifiers as Qt writes it on every system; empty where it is none, or several."""
    sequence = qt.QKeySequence(text.strip())
    return str(sequence.toString(qt.QKeySequence.PortableText)) if sequence.count() == 1 else ""
