"""Which models a search means: every word of it must be in what a model says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel


def matching(models: Sequence[StoredModel], text: str) -> list[StoredModel]:
    """In their order; all of them for an empty text."""
    words = text.casefold().split()
    return [model for model in models if all(word in _wordsOf(model) for word in words)]


def _wordsOf(model: StoredModel) -> str:
    manifest = model.manifest
    if manifest is None:
        return model.name.casefold()
    channels = (part for channel in manifest.channels for part in (channel.name, channel.modality))
    segments = (segment.name for segment in manifest.segments)
    parts = [model.name, manifest.description, manifest.intended_use, manifest.architecture_name, *channels, *segments]
    return "\n".join(parts).casefold()
