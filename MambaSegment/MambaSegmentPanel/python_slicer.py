"""The Python that the worker runs on: Slicer's own."""

import shutil
import sys
from pathlib import Path

from MambaSegmentLib.errors import ResourceError

_LAUNCHER = "PythonSlicer"  # starts the real interpreter as a child, with Slicer's libraries on its paths


def pythonExecutable() -> str:
    """The launcher where there is one, else the interpreter that this process is.

    Raises:
        ResourceError: neither is there.
    """
    launcher = shutil.which(_LAUNCHER)
    if launcher is not None:
        return launcher
    if sys.executable and "python" in Path(sys.executable).name.lower():
        return sys.executable
    raise ResourceError(
        f"{_LAUNCHER} is not in the PATH of {sys.executable or 'this application'}, so no network can be run; "
        "it lies in the folder bin of Slicer: install Slicer again"
    )
