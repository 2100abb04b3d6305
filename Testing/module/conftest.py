"""Every test of this folder runs on the stand-in Slicer host, in the host's own process."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def panel_module(request: pytest.FixtureRequest, repository: Path) -> Callable[[str], ModuleType]:
    """`panel_module("shell_line")` imports MambaSegmentPanel/shell_line.py; the next test gets its own."""
    host = request.getfixturevalue("host")
    host.add_module_folder(repository / "MambaSegment")
    return lambda name: importlib.import_module(f"MambaSegmentPanel.{name}")
