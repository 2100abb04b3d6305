"""Signals that end a training after the step under way, with its state saved."""

import signal
import sys

from MambaSegmentLib.progress import CancelToken


class StopRequests:
    """What Ctrl-C and a cluster ask for, while this object is alive.

    A second Ctrl-C ends the program at once. SIGTERM, as a cluster sends it before it takes the machine away, and its
    twin on Windows, Ctrl-Break or the closing of the console, may come more than once while the state is saved.

    Attributes:
        cancel: set by the first of them.
        interrupted: it was the user, here; another process of a training on several may have been asked instead.
    """

    def __init__(self) -> None:
        self.cancel = CancelToken()
        self.interrupted = False
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._terminate)
        if sys.platform == "win32":
            signal.signal(signal.SIGBREAK, self._terminate)

    def _interrupt(self, _number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.interrupted = not self.cancel.cancelled  # after SIGTERM the state is being saved already
        self._stop()

    def _terminate(self, _number: int, _frame: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if not self.cancel.cancelled:
            sys.stderr.write("mambatrain: stopping after this step …\n")
        self.cancel.cancel()
