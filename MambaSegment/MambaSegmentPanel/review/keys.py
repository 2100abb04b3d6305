"""Keys of the review. None is one of the segment editor's, since two of the same key make both dead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt

COMPLETE, FLAG, COMPARE = "Ctrl+Shift+Return", "Ctrl+Shift+G", "Ctrl+Shift+K"


class ReviewKeys:
    """Alive between `install` and `remove`, in the whole window, since the mouse is over a slice while one reviews."""

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self._shortcuts: list[Any] = []

    def install(self, parent: Any) -> None:
        if self._shortcuts:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
            shortcut.connect("activated()", action)
            self._shortcuts.append(shortcut)

    def remove(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts.clear()
