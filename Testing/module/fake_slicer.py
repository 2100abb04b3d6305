"""The few names of Slicer that the module touches while it is imported, and widgets that remember what was done.

Enough for plain pytest to import the module; what Slicer itself does is not imitated here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any


def fakeModules() -> dict[str, ModuleType]:
    """Modules to lay into `sys.modules` under their names."""
    scripted = _module("slicer.ScriptedLoadableModule")
    for name in ("", "Widget", "Logic", "Test"):
        setattr(scripted, f"ScriptedLoadableModule{name}", type(f"ScriptedLoadableModule{name}", (), {}))
    i18n = _module("slicer.i18n", tr=lambda text: text, translate=lambda _context, text: text)
    wrapper = _module("slicer.parameterNodeWrapper", parameterNodeWrapper=lambda cls: cls)
    util = _module("slicer.util", VTKObservationMixin=type("VTKObservationMixin", (), {}))
    slicer = _module("slicer", util=util, i18n=i18n, vtkMRMLScalarVolumeNode=type("vtkMRMLScalarVolumeNode", (), {}))
    slicer.__path__ = []  # a package, so that `import slicer.i18n` finds its way
    modules = (slicer, scripted, i18n, wrapper, util, _module("qt"), _module("vtk"), _module("ctk"))
    return {module.__name__: module for module in modules}


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(names)
    return module


class FakeWidget:
    """Takes the properties and calls that the panel uses; `press` and `choose` act as the user does."""

    def __init__(self) -> None:
        self.slots: dict[str, Callable[..., None]] = {}
        self.items: list[str] = []
        self.currentIndex = -1
        self.visible = self.enabled = True
        self.text = self.plainText = self.html = ""

    def connect(self, signal: str, slot: Callable[..., None]) -> bool:
        self.slots[signal] = slot
        return True

    def blockSignals(self, _block: bool) -> bool:
        return False

    def clear(self) -> None:
        self.items.clear()

    def addItem(self, text: str) -> None:
        self.items.append(text)

    def setHtml(self, html: str) -> None:
        self.html = html

    def press(self) -> None:
        self.slots["clicked()"]()

    def choose(self, index: int) -> None:
        self.currentIndex = index
        self.slots["currentIndexChanged(int)"](index)


def fakeUi(names: set[str]) -> SimpleNamespace:
    """What `slicer.util.childWidgetVariables` gives for a .ui file with these widgets."""
    return SimpleNamespace(**{name: FakeWidget() for name in names})
