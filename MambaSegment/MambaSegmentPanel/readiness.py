"""Whether a segmentation can be begun, and if not, why, in words for a tool tip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from .scene_io import modalityOf
from .volume_guess import mayBe

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Channel
    from MambaSegmentLib.store import StoredModel


@dataclass(frozen=True)
class Situation:
    """What the panel knows before a click.

    Attributes:
        missing: packages that must be installed first, PyTorch among them.
        volumes: one for each channel of the model, None where none was chosen.
    """

    hasScene: bool
    missing: Sequence[str]
    installing: bool
    model: StoredModel | None
    volumes: Sequence[Any]


def whyNotReady(situation: Situation) -> str:
    """One sentence; empty when all is there."""
    why = whyNoModel(situation)
    if why or situation.model is None or situation.model.manifest is None:
        return why
    return _whyNotTheseVolumes(situation.model.manifest.channels, situation.volumes)


def whyNoModel(situation: Situation) -> str:
    """The same, whatever the volumes: why nothing at all could be segmented with the chosen model."""
    if not situation.hasScene:
        return _("There is no scene to put a segmentation into.")
    if situation.installing:
        return _("Packages are being installed.")
    if situation.missing:
        return _("Install what is missing first: {names}.").format(names=", ".join(situation.missing))
    if situation.model is None:
        return _("Choose a model.")
    if situation.model.manifest is None:
        return _("The file of this model cannot be used; the model card says why.")
    return ""


def modalityWarning(channels: Sequence[Channel], volumes: Sequence[Any]) -> str:
    """A sentence where a volume is known to be of another modality than the model was trained with."""
    for channel, volume in zip(channels, volumes, strict=False):
        modality = modalityOf(volume) if volume is not None else ""
        if not mayBe(channel.modality, modality):
            return _("“{volume}” is {modality}; the model was trained with {wanted}.").format(
                volume=volume.GetName(), modality=modality, wanted=channel.modality
            )
    return ""


def _whyNotTheseVolumes(channels: Sequence[Channel], volumes: Sequence[Any]) -> str:
    for channel, volume in zip(channels, volumes, strict=True):
        if volume is None:
            return _("Choose a volume for {channel}.").format(channel=channel.name)
        if volume.GetImageData() is None:
            return _("The volume “{name}” holds no voxels.").format(name=volume.GetName())
    for index, volume in enumerate(volumes):
        if volume in volumes[:index]:
            return _("“{name}” is chosen for {one} and for {other}; each channel needs its own volume.").format(
                name=volume.GetName(), one=channels[list(volumes).index(volume)].name, other=channels[index].name
            )
    return ""
