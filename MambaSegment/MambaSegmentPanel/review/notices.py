"""What the section Review says to the user: a line below the buttons, and what went wrong to the log as well."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from MambaSegmentLib.errors import MambaSegmentError

from ..messages import asSentence, messageAndAdvice

_log = logging.getLogger("MambaSegment")


class Notices:
    """Says one thing at a time.

    Args:
        label: shows it; hidden while there is nothing to say.
    """

    def __init__(self, label: Any) -> None:
        self._label = label

    def say(self, text: str) -> None:
        self._label.text = escape(asSentence(text), quote=False) if text else ""
        self._label.visible = bool(text)

    def sayError(self, error: Exception) -> None:
        message, advice = messageAndAdvice(error)
        _log.error("review: %s %s", asSentence(message), advice)
        self.say(f"{asSentence(message)} {advice}".strip())

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """What goes wrong within is said; a mistake of the program goes to the log with its traceback."""
        self.say("")
        try:
            yield
        except MambaSegmentError as error:
            self.sayError(error)
        except Exception as error:
            _log.exception("the review failed")
            self.sayError(error)
