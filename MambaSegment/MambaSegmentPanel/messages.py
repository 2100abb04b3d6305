"""What the panel says of an error: what happened, and what to do; never a traceback, which is for the log."""

from __future__ import annotations

from slicer.i18n import tr as _

from MambaSegmentLib.errors import BundleError, MambaSegmentError, ResourceError
from MambaSegmentLib.files import disk_is_full
from MambaSegmentLib.worker.blocking import InternalError


def messageAndAdvice(error: Exception) -> tuple[str, str]:
    """Two texts, the second may be empty. A worker's advice is in the notes of the error."""
    notes = " ".join(getattr(error, "__notes__", ()))
    if isinstance(error, MambaSegmentError):
        return str(error), notes or _adviceFor(error)
    if isinstance(error, InternalError):  # its text ends with what to do
        return str(error), notes
    message = _("A mistake in MambaSegment: {kind}: {text}").format(kind=type(error).__name__, text=error)
    return message, _("Please report it, with the log below.")


def asSentence(text: str) -> str:
    """The library's messages begin small and have no full stop, since a shell puts words before them."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _adviceFor(error: MambaSegmentError) -> str:
    """For errors that come up before the worker; most say in their message what to do."""
    if isinstance(error.__cause__, OSError) and disk_is_full(error.__cause__):
        return ""  # the message says it
    if isinstance(error, ResourceError):
        return _("Crop the image, close other programs, or choose another device.")
    if isinstance(error, BundleError):
        return _("Choose another model, or fetch its file again.")
    return ""
