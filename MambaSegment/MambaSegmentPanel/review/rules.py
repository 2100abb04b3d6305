"""What a review demands and what follows from what: no nodes, no widgets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.changes import LabelChange
from MambaSegmentLib.review.document import (
    ACCEPT,
    ACCEPT_WITH_CORRECTIONS,
    COMPLETED,
    FLAGGED,
    IN_PROGRESS,
    NOT_STARTED,
    ReviewedSlices,
)

_NOT_IN_FILE_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
_IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_NAMES_SHOWN = 3


def statusAfterEdit(before: str, now: str) -> str:
    """The status of a segment whose voxels were changed.

    Args:
        before: the last one known. now: the one it has; an undo brings back that of its moment.
    """
    if FLAGGED in (before, now):
        return FLAGGED  # who flagged it decides when that is over
    return IN_PROGRESS


@dataclass(frozen=True)
class SignOff:
    """What matters for a signature.

    Attributes:
        statuses: name of each segment and its status.
        changed: names of the segments that differ from the model's; None where nobody has looked.
    """

    decision: str | None
    reviewer: str
    statuses: Sequence[tuple[str, str]]
    changed: Sequence[str] | None


def whyNotSignedOff(review: SignOff) -> str:
    """What to do first, in words; empty where nothing stands against a signature."""
    flagged = [name for name, status in review.statuses if status == FLAGGED]
    if flagged:
        return _("Resolve what is flagged first: {names}.").format(names=listed(flagged))
    if review.decision is None:
        return _("Choose a decision first.")
    if not review.reviewer.strip():
        return _("Enter the reviewer's name first.")
    if review.decision == ACCEPT and review.changed:
        return _("These segments were changed: {names}. Choose “Accept with corrections”, or restore them.").format(
            names=listed(review.changed)
        )
    if review.decision == ACCEPT_WITH_CORRECTIONS and review.changed is not None and not review.changed:
        return _("No segment differs from the model's result. Choose “Accept” or “Reject”.")
    return ""


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return _("{names} and {count} more").format(names=shown, count=more) if more > 0 else shown


def progressText(statuses: Sequence[str]) -> str:
    """As "3 of 14 completed, 1 flagged"."""
    text = _("{done} of {count} completed").format(done=statuses.count(COMPLETED), count=len(statuses))
    flagged = statuses.count(FLAGGED)
    return _("{text}, {count} flagged").format(text=text, count=flagged) if flagged else text


def nextSegment(statuses: Mapping[str, str], current: str) -> str:
    """The next one that is not done, in the order of the table and from its top again; else the current one."""
    identifiers = list(statuses)
    start = identifiers.index(current) + 1 if current in statuses else 0
    for identifier in identifiers[start:] + identifiers[:start]:
        if identifier != current and statuses[identifier] in (NOT_STARTED, IN_PROGRESS):
            return identifier
    return current


def caseNameOf(text: str) -> str:
    """A name for files from that of an image: without endings and what no file system takes."""
    name = text.strip()
    for ending in _IMAGE_ENDINGS:
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    name = _NOT_IN_FILE_NAMES.sub("_", name).strip(". ")
    return name or "case"


def slicesFromText(text: str, count: int) -> ReviewedSlices | None:
    """Slices of the image as a user writes them: "10-20, 35"; nothing means all.

    Args:
        count: slices of the image along K; they are numbered from 0, as Slicer's data probe shows them.
    Raises:
        ConfigError: no such list, or slices that the image does not have.
    """
    if not text.strip():
        return None
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:[-–]\s*(\d+)\s*)?", part)
        if found is None:
            raise ConfigError(_("“{part}” is no slice; write for example 10-20, 35").format(part=part.strip()))
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last or last >= count:
            raise ConfigError(
                _("there are no slices {first} to {last}; the image has 0 to {end}").format(
                    first=first, last=last, end=count - 1
                )
            )
        ranges.append((first, last))
    return ReviewedSlices("K", tuple(sorted(ranges)))


def slicesAsText(slices: ReviewedSlices | None) -> str:
    if slices is None:
        return ""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in slices.ranges)


def changeText(name: str, change: LabelChange | None, voxel_ml: float) -> str:
    """How a segment differs from the model's; its name alone where that cannot be told."""
    if change is None:
        return name
    before, after = (f"{count * voxel_ml:.3f}" for count in (change.before, change.after))
    if not change.is_changed:
        return _("{name}: {volume} mL, unchanged").format(name=name, volume=after)
    dice = "–" if change.dice is None else f"{change.dice:.3f}"
    return _("{name}: {before} → {after} mL, Dice {dice}").format(name=name, before=before, after=after, dice=dice)
