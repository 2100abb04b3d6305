"""The module's files, importable without Slicer."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from Testing.module.fake_slicer import fakeModules


@pytest.fixture
def panel_module(monkeypatch: pytest.MonkeyPatch, repository: Path) -> Iterator[Callable[[str], ModuleType]]:
    """`panel_module("shell_line")` imports MambaSegmentPanel/shell_line.py on fakes; gone again after the test."""
    for name, module in fakeModules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(repository / "MambaSegment")
    yield lambda name: importlib.import_module(f"MambaSegmentPanel.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "MambaSegmentPanel"]:
        del sys.modules[name]
