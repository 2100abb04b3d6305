"""Which packages Slicer's Python still lacks; found without importing any of them.

An import would be slow, and on Windows it would lock files that an installation wants to replace.
"""

from importlib import metadata
from pathlib import Path

SLICERS_OWN = ("numpy", "scipy", "SimpleITK")


def missingPackages(requirementsFile: Path) -> list[str]:
    """The requirements, as written, that this Python does not meet, absent or too old."""
    return [text for text in _requirementsOf(requirementsFile) if not _isMet(text)]


def installCommand(missing: list[str]) -> str:
    """A line for Slicer's Python console that installs them and leaves alone what Slicer brings."""
    return f"slicer.util.pip_install({[*missing, *_pins()]!r})"


def _pins() -> list[str]:
    """The versions that Slicer runs on, so that pip cannot replace them for the sake of a new package."""
    return [f"{name}=={version}" for name in SLICERS_OWN if (version := _installedVersion(name)) is not None]


def _requirementsOf(requirementsFile: Path) -> list[str]:
    lines = (line.strip() for line in requirementsFile.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _isMet(text: str) -> bool:
    from packaging.requirements import Requirement  # present in Slicer's Python, but not part of the standard library

    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    installed = _installedVersion(requirement.name)
    return installed is not None and requirement.specifier.contains(installed, prereleases=True)


def _installedVersion(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
