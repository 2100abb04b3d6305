"""The worker's ends of the two pipes, kept away from everything else in its process."""

import os
import sys
import threading
from collections.abc import Callable, Iterator

from .protocol import Event, LineSplitter, encode

_PIECE_BYTES = 1 << 16


def take_standard_streams() -> tuple[int, int]:
    """Keep standard input and output for the protocol alone; returns descriptors of our own for both.

    Afterwards descriptor 1 is stderr, so that no library's print breaks the protocol, and descriptor 0 is empty, so
    that no library takes our commands (on Windows a DLL that looks at standard input while a thread of ours waits
    there would hang).
    """
    commands, messages = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return commands, messages


def lines_of(descriptor: int) -> Iterator[bytes]:
    """The lines that arrive, as `LineSplitter` gives them, until the other side closes or is gone."""
    splitter = LineSplitter()
    while True:
        try:
            data = os.read(descriptor, _PIECE_BYTES)
        except OSError:  # how Windows reports some closed pipes
            return
        if not data:
            return
        yield from splitter.feed(data)


class Outlet:
    """Sends events, from any thread; once nobody reads any more, `on_closed` is called and nothing is sent."""

    def __init__(self, descriptor: int, on_closed: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._open = True

    def send(self, event: Event) -> None:
        rest = memoryview(encode(event))
        with self._lock:
            if not self._open:
                return
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
                return
            except OSError:
                self._open = False
        self._on_closed()
