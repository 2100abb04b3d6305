"""From what the user chose to the runs of one click; asks before something that was edited is replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .edits import earlierSegments
from .model_queue import Entry
from .region import regionOf

REPLACE, KEEP, STOP = "replace", "keep", "stop"  # answers to the question what shall become of edited segments
AskAboutEdited = Callable[[Sequence[str], str], str]


@dataclass(frozen=True)
class Effort:
    """What holds for all runs of a click; `region` is a markups ROI node or None."""

    device: str = "auto"
    quality: str = "best"
    region: Any | None = None


@dataclass(frozen=True)
class RunRequest:
    """What `MambaSegmentLogic.segmentAsync` is asked for.

    Attributes:
        output: a segmentation to add to; None makes a new one, which the runs after this share.
        replace: ids of segments that go once the new ones are there, with the fingerprint of each as it is now.
        options: the worker's.
    """

    volumeNodes: list[Any]
    model: str
    output: Any | None = None
    replace: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def planned(
    entries: Sequence[Entry], output: Any | None, effort: Effort, ask: AskAboutEdited
) -> list[RunRequest] | None:
    """One request for each entry, or None where the user wants nothing to be done after all.

    Args:
        ask: given the names of edited segments and of their segmentation, answers REPLACE, KEEP or STOP.
    Raises:
        ConfigError: the region cannot be used with a volume.
    """
    earlier = {entry.model: [] if output is None else earlierSegments(output, entry.model) for entry in entries}
    edited = [segment.name for segments in earlier.values() for segment in segments if segment.isEdited]
    answer = ask(edited, output.GetName()) if edited and output is not None else KEEP
    if answer == STOP:
        return None
    requests = []
    for entry in entries:
        replace = {
            segment.identifier: segment.fingerprint
            for segment in earlier.pop(entry.model, [])
            if not segment.isEdited or answer == REPLACE
        }
        requests.append(RunRequest(list(entry.volumes), entry.model, output, replace, _options(entry, effort)))
    return requests


def _options(entry: Entry, effort: Effort) -> dict[str, Any]:
    options: dict[str, Any] = {"device": effort.device, "quality": effort.quality, "statistics": True}
    if effort.region is not None:
        options["roi"] = regionOf(effort.region, entry.volumes[0]).text
    return options
