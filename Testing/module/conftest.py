"""Every test of this folder runs on the stand-in Slicer host, in the host's own process."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def panel_module(request: pytest.FixtureRequest, repository: Path) -> Callable[[str], ModuleType]:
    """`panel_module("shell_line")` imports MambaSegmentPanel/shell_line.py; the next test gets its own."""
    host = request.getfixturevalue("host")
    host.add_module_folder(repository / "MambaSegment")
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
