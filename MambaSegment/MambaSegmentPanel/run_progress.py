"""One bar for all stages of a segmentation, and the words beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from MambaSegmentLib.progress import Progress

BAR_END = 1000
# The part of the bar that belongs to each stage: a stage that is new or left out does no harm, it only moves faster.
_SHARES = {
    "export": 50,
    "read": 30,
    "load_model": 150,
    "preprocess": 50,
    "network": 600,
    "restore": 50,
    "write": 30,
    "import": 40,
}
_COUNTED = "network"  # whose units are worth telling


class RunProgress:
    """Takes the reports of one segmentation in their order; the bar never goes back.

    Attributes:
        value: 0 to `BAR_END`.
        text: the stage, how far it is, and the time left where it is known.
    """

    def __init__(self) -> None:
        self.value = 0
        self.text = _("Starting…")

    def add(self, progress: Progress) -> None:
        self.value = max(self.value, _valueOf(progress))
        self.text = _textOf(progress)


def timeText(seconds: float) -> str:
    """As a person says it: "8 s", "2 min 5 s", "1 h 3 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return _("{seconds} s").format(seconds=whole)
    if whole < 3600:
        return _("{minutes} min {seconds} s").format(minutes=whole // 60, seconds=whole % 60)
    return _("{hours} h {minutes} min").format(hours=whole // 3600, minutes=whole % 3600 // 60)


def secondsText(seconds: float) -> str:
    """What something took: with a decimal as long as it is short."""
    return _("{seconds} s").format(seconds=f"{seconds:.1f}") if seconds < 60 else timeText(seconds)


def _valueOf(progress: Progress) -> int:
    stages = list(_SHARES)
    if progress.stage not in _SHARES:
        return 0
    before = sum(_SHARES[stage] for stage in stages[: stages.index(progress.stage)])
    fraction = progress.done / progress.total if progress.total else 0.0
    return round(before + _SHARES[progress.stage] * fraction)


def _textOf(progress: Progress) -> str:
    parts = [_stageNames().get(progress.stage, progress.stage)]
    if progress.stage == _COUNTED and progress.total > 1:
        parts.append(_("{done} of {total}").format(done=progress.done, total=progress.total))
    if progress.seconds_left is not None and progress.seconds_left >= 1:
        parts.append(_("about {time} left").format(time=timeText(progress.seconds_left)))
    return " · ".join(parts)


def _stageNames() -> dict[str, str]:
    return {
        "export": _("Handing over the image"),
        "read": _("Reading the image"),
        "load_model": _("Loading the model"),
        "preprocess": _("Preparing the image"),
        "network": _("Network"),
        "restore": _("Back onto the image's grid"),
        "write": _("Writing the labels"),
        "import": _("Bringing in the segments"),
    }
