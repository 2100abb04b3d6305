"""Which volume of the scene is meant for which channel of a model, as far as names and modalities tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Channel

_WHOLE_WORD, _BEGINNING = 2, 1


@dataclass(frozen=True)
class Candidate:
    """A volume as far as it can be judged; `modality` is DICOM's, empty where it is not known."""

    name: str
    modality: str = ""


def guessed(
    channels: Sequence[Channel], candidates: Sequence[Candidate], chosen: Sequence[int | None]
) -> list[int | None]:
    """For each channel the index of a candidate, or None where nothing tells.

    A choice that was made stays, and no candidate is taken twice. For the only channel of a model, any volume that
    its modality does not rule out is better than none; for one of several it is not, since a wrong one goes unseen.

    Args:
        chosen: for each channel what is chosen already, or None.
    """
    result = [*chosen, *[None] * len(channels)][: len(channels)]
    scores = sorted(
        (-_score(channel.name, candidate.name), row, column)
        for row, channel in enumerate(channels)
        for column, candidate in enumerate(candidates)
        if mayBe(channel.modality, candidate.modality)
    )
    for negative, row, column in scores:
        if result[row] is None and column not in result and (negative < 0 or len(channels) == 1):
            result[row] = column
    return result


def withoutChannel(channel: Channel, candidate: Candidate) -> str | None:
    """The name of a volume without that of its channel ("case7_T1" for T1: "case7"); None if it is of no such channel.

    Volumes of one case, named alike, are found by what remains.
    """
    if not mayBe(channel.modality, candidate.modality) or not _score(channel.name, candidate.name):
        return None
    wanted = _words(channel.name)
    return " ".join(word for word in _words(candidate.name) if not any(word.startswith(part) for part in wanted))


def mayBe(wanted: str, modality: str) -> bool:
    """Whether an image of this modality can be what a channel wants; what is not known may be anything."""
    return not wanted or not modality or wanted.upper()[:2] == modality.upper()[:2]  # MR, MRI


def _score(channel: str, volume: str) -> int:
    """2 where the volume's name has the channel's as whole words, 1 where a word begins with it ("T1w"), else 0."""
    wanted, words = _words(channel), _words(volume)
    if not wanted:
        return 0
    if set(wanted) <= set(words):
        return _WHOLE_WORD
    return _BEGINNING if all(any(word.startswith(part) for word in words) for part in wanted) else 0


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.lower()) if word]
