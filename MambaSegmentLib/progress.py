"""How a long task says where it is, and how it is told to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """One report of a long task.

    Attributes:
        stage: what is being done, a short phrase such as "network".
        done, total: units finished and units in all, of this stage.
        seconds_left: estimate for this stage; None while it cannot be known.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None = None


ProgressCallback = Callable[[Progress], None]


class CancelToken:
    """Set from any thread; the working thread looks at it between tiles and layers."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises: Cancelled, once `cancel` was called."""
        if self._event.is_set():
            raise Cancelled("cancelled on request")
