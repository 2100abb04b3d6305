"""What went wrong without reaching the caller: exceptions that Qt or VTK swallowed, and VTK's error output.

Slicer prints such things to its log and goes on. A test must not go on: the fixture `host` fails when anything is
left here at its end.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import vtk


@dataclass(frozen=True)
class Swallowed:
    """An exception that ended inside a signal handler, a VTK observer or an overridden C++ method."""

    where: str
    error: BaseException

    def __str__(self) -> str:
        return f"in {self.where}:\n" + "".join(traceback.format_exception(self.error))


class Failures:
    """Both lists; one object a process, `Testing.host.failures.failures`."""

    def __init__(self) -> None:
        self.swallowed: list[Swallowed] = []
        self.vtk_errors: list[str] = []

    def swallow(self, where: str, error: BaseException) -> None:
        """Print as the application would, and remember."""
        self.swallowed.append(Swallowed(where, error))
        print(f"exception swallowed {self.swallowed[-1]}", file=sys.stderr)

    def guarded(self, call: Callable[..., Any], where: str) -> Callable[..., Any]:
        """`call`, whose exceptions end here."""

        def guardedCall(*args: Any) -> Any:
            try:
                return call(*args)
            except Exception as error:
                self.swallow(where, error)
                return None

        return guardedCall

    def forget(self) -> None:
        """For a test that made something fail on purpose and has looked at it."""
        self.swallowed.clear()
        self.vtk_errors.clear()

    @contextmanager
    def expected(self) -> Iterator[Failures]:
        """`with failures.expected() as seen:` what fails in the block goes to `seen`, which must not stay empty."""
        before_swallowed, before_errors = len(self.swallowed), len(self.vtk_errors)
        seen = Failures()
        yield seen
        seen.swallowed += self.swallowed[before_swallowed:]
        seen.vtk_errors += self.vtk_errors[before_errors:]
        del self.swallowed[before_swallowed:], self.vtk_errors[before_errors:]
        assert seen, "the block was expected to make something fail, and nothing did"

    def __bool__(self) -> bool:
        return bool(self.swallowed or self.vtk_errors)

    def __str__(self) -> str:
        parts = [f"exception swallowed {each}" for each in self.swallowed]
        return "\n".join(parts + [f"VTK error: {each.strip()}" for each in self.vtk_errors])

    def install(self) -> None:
        """Catch what PySide and VTK hand to `sys.excepthook`, and VTK's error messages."""
        # both print unhandled exceptions of Python code they called through this hook; Python itself comes here only
        # at its very end
        sys.excepthook = self._excepthook
        window = vtk.vtkOutputWindow.GetInstance()
        window.SetDisplayModeToAlwaysStdErr()
        for event in ("ErrorEvent", "WarningEvent"):
            window.AddObserver(event, self._onVtkError)

    def _excepthook(self, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        self.swallow("a call from C++", error)

    @vtk.calldata_type(vtk.VTK_STRING)
    def _onVtkError(self, _window: vtk.vtkObject, event: str, text: str) -> None:
        if event == "ErrorEvent":
            self.vtk_errors.append(text)


failures = Failures()
