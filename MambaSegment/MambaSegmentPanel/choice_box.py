"""A box with a fixed list of choices: words for people in the box, the name that programs know in the node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _


class ChoiceBox:
    """What a scene names and this list has not is shown as it is, and not replaced.

    Args:
        box: a QComboBox.
        choices: text and name of each.
        read, write: from and to where the name is kept; `write` is called only for what the user chose.
    """

    def __init__(
        self, box: Any, choices: Sequence[tuple[str, str]], read: Callable[[], str], write: Callable[[str], None]
    ) -> None:
        self.box = box
        self._read = read
        self._write = write
        for text, name in choices:
            box.addItem(text, name)
        box.connect("currentIndexChanged(int)", self._onChosen)

    def show(self) -> None:
        name = self._read()
        index = self.box.findData(name)
        wasBlocked = self.box.blockSignals(True)
        if index < 0:
            self.box.addItem(name, name)
            index = self.box.count - 1
        self.box.currentIndex = index
        self.box.blockSignals(wasBlocked)

    def _onChosen(self, index: int) -> None:
        if index >= 0:
            self._write(str(self.box.itemData(index)))


def devices(platform: str = sys.platform) -> list[tuple[str, str]]:
    """What to show, and the worker's name of it; whether it is there, only the worker can tell."""
    gpu = (_("Apple GPU"), "mps") if platform == "darwin" else (_("GPU (CUDA or ROCm)"), "cuda")
    return [(_("Automatic"), "auto"), gpu, (_("CPU"), "cpu")]


def qualities() -> list[tuple[str, str]]:
    """Those of the library's `quality.py`."""
    return [(_("Best"), "best"), (_("Balanced"), "balanced"), (_("Fast"), "fast")]


def surfaces() -> list[tuple[str, str]]:
    """Those of `surfaces.py`."""
    return [(_("Shown when small"), "small"), (_("Always shown"), "always"), (_("Only on demand"), "never")]


def textOf(choices: Sequence[tuple[str, str]], name: str) -> str:
    """The words for a name; the name itself where the list has it not."""
    return next((text for text, known in choices if known == name), name)
