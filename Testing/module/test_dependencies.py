"""Missing packages are found by their metadata, and installing them cannot replace what Slicer brings."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

NUMPY = metadata.version("numpy")


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        (f"numpy=={NUMPY}", False),
        ("numpy>=9999", True),  # there, but too old
        ("no-such-package-at-all", True),
        ("no-such-package-at-all; python_version < '3'", False),  # not for this Python
        ("# numpy>=9999", False),
        ("", False),
    ],
)
def test_requirements_are_checked_by_version_and_marker(panel_module, tmp_path, line, missing):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{line}\n", encoding="utf-8")
    assert panel_module("dependencies").missingPackages(requirements) == ([line] if missing else [])


def test_the_install_command_pins_what_slicer_brings(panel_module):
    command = panel_module("dependencies").installCommand(["numba>=0.60"])
    assert command.startswith("slicer.util.pip_install(['numba>=0.60', ")
    assert f"'numpy=={NUMPY}'" in command


def test_slicer_installs_what_the_library_declares(repository):
    """Less torch, which an extension brings, and what Slicer has; plus the CPU kernel's compiler."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    provided = {"torch", "numpy", "scipy", "SimpleITK"}
    declared = [*project["dependencies"], *project["optional-dependencies"]["numba"]]
    expected = {line for line in declared if Requirement(line).name not in provided}
    assert expected == set(requirement_lines(repository / "MambaSegment" / "Resources" / "requirements.txt"))


def requirement_lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
