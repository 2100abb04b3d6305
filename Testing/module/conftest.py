"""The module's files, importable without Slicer."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from Testing.host import isolation
from Testing.module.fake_slicer import fakeModules


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("host-reporter"):
        config.pluginmanager.register(isolation.Reporter(), "host-reporter")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """What is tested on the stand-in host runs in its process."""
    if module_path.name.startswith("test_logic"):
        return isolation.pytest_pycollect_makemodule(module_path, parent)
    return None


@pytest.fixture
def panel_module(monkeypatch: pytest.MonkeyPatch, repository: Path) -> Iterator[Callable[[str], ModuleType]]:
    """`panel_module("shell_line")` imports MambaSegmentPanel/shell_line.py on fakes; gone again after the test."""
    for name, module in fakeModules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(repository / "MambaSegment")
    yield lambda name: importlib.import_module(f"MambaSegmentPanel.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "MambaSegmentPanel"]:
        del sys.modules[name]


@pytest.fixture
def panel_package(host: Any, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """`panel_package("volume_out")` imports MambaSegmentPanel/volume_out.py on the host."""
    monkeypatch.syspath_prepend(repository / "MambaSegment")
    return lambda name: importlib.import_module(f"MambaSegmentPanel.{name}")


@pytest.fixture(autouse=True)
def same_library() -> Iterator[None]:
    """A module that is reloaded forgets the library; the next test shall meet the classes that it has imported."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "MambaSegmentLib"}
    yield
    if before and sys.modules.get("MambaSegmentLib") is not before["MambaSegmentLib"]:
        for name in [name for name in sys.modules if name.partition(".")[0] == "MambaSegmentLib"]:
            del sys.modules[name]
        sys.modules.update(before)
