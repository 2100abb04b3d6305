"""Waiting in the application's own thread while its event loop goes on, and Ctrl-C meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import qt

from MambaSegmentLib.errors import Cancelled, ConfigError

_LOOK_EVERY_MS = 10


def waitUntil(isOver: Callable[[], bool], cancel: Callable[[], None]) -> None:
    """Run the event loop until `isOver`; Ctrl-C calls `cancel` and is raised once that made an end.

    Raises:
        KeyboardInterrupt: see above. Cancelled: the application ends. ConfigError: called from another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("only the application's main thread can wait for a segmentation; use segmentAsync there")
    with _interrupts() as interrupted:
        _runLoop(isOver, cancel, interrupted)
        if interrupted.is_set():
            raise KeyboardInterrupt


def _runLoop(isOver: Callable[[], bool], cancel: Callable[[], None], interrupted: threading.Event) -> None:
    loop: Any = qt.QEventLoop()
    timer: Any = qt.QTimer()
    asked = False

    def look() -> None:
        nonlocal asked
        if interrupted.is_set() and not asked:
            asked = True
            cancel()
        if isOver():
            loop.quit()

    timer.connect("timeout()", look)
    timer.start(_LOOK_EVERY_MS)
    try:
        if not isOver():
            loop.exec_()
    finally:
        timer.stop()
        timer.disconnect("timeout()", look)
    if not isOver():  # somebody ended all event loops
        cancel()
        raise Cancelled("the application ends")


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by Ctrl-C, which in a callback of Qt would be printed and forgotten."""
    interrupted = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)
