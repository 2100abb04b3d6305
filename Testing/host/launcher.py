"""`PythonSlicer` on PATH: starts the interpreter as a child, as Slicer's does; killing it leaves the child alive.

It does not let tests change the environment: `-m pip` runs a program that a test gives, or fails.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

_POSIX = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then
  shift 2
  if [ ! -f "{pip}" ]; then echo "tests install nothing: give the host a pip with set_pip" >&2; exit 97; fi
  set -- "{pip}" "$@"
fi
"{python}" "$@"
exit $?
"""
_WINDOWS = """@echo off
if not "%1 %2"=="-m pip" goto run
if exist "{pip}" goto pip
echo tests install nothing: give the host a pip with set_pip>&2
exit /b 97
:pip
"{python}" "{pip}" %3 %4 %5 %6 %7 %8 %9
exit /b %errorlevel%
:run
"{python}" %*
"""


class Launcher:
    """The script in a folder of its own, which is put in front of PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._pip = folder / "pip_of_the_test.py"
        windows = os.name == "nt"
        text = (_WINDOWS if windows else _POSIX).format(pip=self._pip, python=sys.executable)
        file = folder / ("PythonSlicer.bat" if windows else "PythonSlicer")
        file.write_text(text, encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        os.environ["PATH"] = str(folder) + os.pathsep + os.environ["PATH"]

    def setPip(self, program: str) -> None:
        self._pip.write_text(program, encoding="utf-8")

    def forgetPip(self) -> None:
        self._pip.unlink(missing_ok=True)
