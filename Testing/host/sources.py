"""Chooses between the host's stand-ins and Slicer's own Python modules, by the variable SLICER_PYTHON_SOURCES."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import slicer

VARIABLE = "SLICER_PYTHON_SOURCES"
_STAND_INS = Path(__file__).resolve().parent / "standins" / "slicer"


def activate() -> bool:
    """Append the chosen folder to the package `slicer`, whose `util` stays the one of slicer-core.

    Returns: whether these are Slicer's own modules.
    Raises: FileNotFoundError, when the variable names a folder without them; there is no fallback.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named) / "slicer" if named else _STAND_INS
    if not (folder / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(
            f"{VARIABLE} is {named!r}, but {folder / 'ScriptedLoadableModule.py'} does not exist; it must name the "
            "folder Base/Python of a Slicer checkout, or be unset for the host's own stand-ins"
        )
    slicer.__path__.append(str(folder))
    print(description(), file=sys.stderr)
    return bool(named)


def description() -> str:
    """Which of the two is active, for people."""
    named = os.environ.get(VARIABLE)
    kind = f"Slicer's own Python modules in {named}" if named else "its stand-ins of Slicer's Python modules"
    return f"stand-in Slicer host: uses {kind}"
