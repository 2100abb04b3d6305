"""Models that one click runs after each other into one segmentation, each with its volumes; saved with the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A model's name and the volumes for its channels, None where one was removed from the scene."""

    model: str
    volumes: tuple[Any, ...]

    @property
    def isComplete(self) -> bool:
        return bool(self.volumes) and all(volume is not None for volume in self.volumes)


def entriesOf(node: Any) -> list[Entry]:
    """What is queued, in its order."""
    return [Entry(model, _volumesAt(node, place)) for place, model in enumerate(node.queuedModels)]


def setEntries(node: Any, entries: Sequence[Entry]) -> None:
    """Node references keep the volumes, so that Slicer keeps them right when a scene is loaded."""
    raw = node.parameterNode
    wasModified = raw.StartModify()
    for place in range(max(len(entries), len(node.queuedModels))):
        raw.RemoveNodeReferenceIDs(_role(place))
    node.queuedModels = [entry.model for entry in entries]
    for place, entry in enumerate(entries):
        for volume in entry.volumes:
            raw.AddNodeReferenceID(_role(place), volume.GetID())
    raw.EndModify(wasModified)


def _volumesAt(node: Any, place: int) -> tuple[Any, ...]:
    raw, role = node.parameterNode, _role(place)
    return tuple(raw.GetNthNodeReference(role, number) for number in range(raw.GetNumberOfNodeReferences(role)))


def _role(place: int) -> str:
    return f"queuedVolumes{place + 1}"
