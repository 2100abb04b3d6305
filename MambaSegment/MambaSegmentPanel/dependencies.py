"""Which packages Slicer's Python still lacks; found without importing any of them.

An import would be slow, and on Windows it would lock files that an installation wants to replace.
"""

import re
from importlib import metadata, util
from pathlib import Path

from slicer.i18n import tr as _

SLICERS_OWN = ("numpy", "scipy", "SimpleITK")
# Megabytes once installed, with what each brings along; measured on Linux, Python 3.11, newest versions of 2026.
_INSTALLED_MB = {
    "safetensors": 1.4,
    "slicerio": 1.2,
    "pynrrd": 0.1,
    "platformdirs": 0.4,
    "psutil": 0.9,
    "tqdm": 0.5,
    "Pillow": 21.9,
    "numba": 212.9,
}


def torchIsInstalled() -> bool:
    """Whether the worker will find PyTorch; found without importing it."""
    return util.find_spec("torch") is not None


def nameOf(requirement: str) -> str:
    """ "numba>=0.60" -> "numba"."""
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]


def reasonFor(requirement: str) -> str:
    """What a package is for, in a few words; empty for one that speaks for itself."""
    return {
        "safetensors": _("reads model files"),
        "slicerio": _("names, colours and codes in .seg.nrrd files"),
        "pynrrd": _("reads and writes .nrrd files"),
        "platformdirs": _("knows where this system keeps models and logs"),
        "psutil": _("tells how much memory is free"),
        "tqdm": _("progress in a shell"),
        "Pillow": _("pictures of results"),
        "numba": _("fast networks on a CPU"),
    }.get(nameOf(requirement), "")


def installedMb(requirements: list[str]) -> float | None:
    """Space that these take once installed, in megabytes; None where one was never measured."""
    sizes = [_INSTALLED_MB.get(nameOf(text)) for text in requirements]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def missingPackages(requirementsFile: Path) -> list[str]:
    """The requirements, as written, that this Python does not meet, absent or too old."""
    return [text for text in _requirementsOf(requirementsFile) if not _isMet(text)]


def installCommand(missing: list[str]) -> str:
    """A line for Slicer's Python console that installs them and leaves alone what Slicer brings."""
    return f"slicer.util.pip_install({[*missing, *pins()]!r})"


def pins() -> list[str]:
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
