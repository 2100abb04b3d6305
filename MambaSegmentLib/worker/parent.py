"""Whether the process that started this one is still there."""

import os
from typing import Any


class Parent:
    """The parent as it was when this object was made."""

    def __init__(self) -> None:
        self._pid = os.getppid()
        self._process: Any = None

    def is_gone(self) -> bool:
        """POSIX gives an orphan another parent; Windows does not, so there the process itself is looked at."""
        return os.getppid() != self._pid if os.name != "nt" else not self._is_running()

    def _is_running(self) -> bool:
        import psutil

        try:
            self._process = self._process or psutil.Process(self._pid)
            return bool(self._process.is_running())  # compares start times: numbers are used again
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
