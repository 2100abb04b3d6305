"""What the module writes to its log, in the panel too, to be copied into a report."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

import qt

_LINES = 2000


class LogSection:
    """Listens to the logger "MambaSegment" until `close`."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        ui.logEdit.maximumBlockCount = _LINES
        ui.copyLogButton.connect("clicked()", self.onCopy)
        self._handler = _Handler(ui.logEdit)
        self._logger = logging.getLogger("MambaSegment")
        self._levelBefore = self._logger.level
        self._logger.setLevel(logging.DEBUG)  # the worker's own lines
        self._logger.addHandler(self._handler)

    def close(self) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._levelBefore)

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(self.ui.logEdit.plainText)


class _Handler(logging.Handler):
    """Lines of other threads wait for the next one of the application's, which alone may touch a widget."""

    def __init__(self, edit: Any) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        self._edit = edit
        self._thread = threading.get_ident()
        self._waiting: deque[str] = deque(maxlen=_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self._waiting.append(self.format(record))
        while threading.get_ident() == self._thread and self._waiting:
            self._edit.appendPlainText(self._waiting.popleft())
