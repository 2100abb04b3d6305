"""Whether a segmentation can be begun, and if not, why, in words for a tool tip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError

from .edits import identifiersOf
from .messages import asSentence
from .model_queue import Entry
from .region import Region, regionOf
from .scene_io import modalityOf
from .volume_guess import mayBe
from .volume_out import volumeOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from MambaSegmentLib.manifest import Channel, Manifest
    from MambaSegmentLib.store import StoredModel

_FAR_FROM_SPACING = 2.0  # times larger or smaller than the model's: half the detail, or objects of twice the size


@dataclass(frozen=True)
class Situation:
    """What the panel knows before a click.

    Attributes:
        missing: packages that must be installed first, PyTorch among them.
        volumes: one for each channel of the model, None where none was chosen.
        queue: entries that are run instead of `model` and `volumes`, where there are any.
        named: gives a model of the store by its name, or None.
        region: a markups ROI node, or None for the whole image.
    """

    hasScene: bool
    missing: Sequence[str]
    installing: bool
    model: StoredModel | None
    volumes: Sequence[Any]
    queue: Sequence[Entry] = ()
    named: Callable[[str], StoredModel | None] = lambda _name: None
    region: Any | None = None


def whyNotReady(situation: Situation) -> str:
    """One sentence; empty when all is there."""
    reason = _whyNothingRuns(situation)
    if reason:
        return reason
    if situation.queue:
        reasons = (_whyNotEntry(entry, situation) for entry in situation.queue)
        return next((reason for reason in reasons if reason), "")
    return _whyNotThisRun(situation.model, situation.volumes, situation.region)


def whyNoBatch(situation: Situation) -> str:
    """The same for many cases with the chosen model, whatever is chosen besides."""
    return _whyNothingRuns(situation) or _whyNotThisModel(situation.model)


def spacingWarning(manifest: Manifest | None, volumes: Sequence[Any]) -> str:
    """A sentence where a volume's voxels are of quite another size than those the model was trained with."""
    wanted = None if manifest is None else manifest.preprocessing.spacing_mm
    if manifest is None or wanted is None:
        return ""
    for volume in volumes:
        found = _preparedSpacing(manifest, volume)
        ratios = [have / want for have, want in zip(found, wanted, strict=False) if want]
        if any(not 1 / _FAR_FROM_SPACING <= ratio <= _FAR_FROM_SPACING for ratio in ratios):
            sizes = [_sizeText(volume.GetSpacing()), _sizeText([want for want in reversed(wanted) if want])]
            return _("“{volume}” has voxels of {found} mm; the model was trained with {wanted} mm.").format(
                volume=volume.GetName(), found=sizes[0], wanted=sizes[1]
            )
    return ""


def regionHint(regionNode: Any, volumes: Sequence[Any]) -> str:
    """A sentence where the box that is segmented is not quite the one that was drawn."""
    region = _regionOrNone(regionNode, volumes)
    if region is None or not region.isOblique:
        return ""
    return _("“{region}” is turned against the voxels: the box of voxels around it is segmented.").format(
        region=regionNode.GetName()
    )


def modalityWarning(channels: Sequence[Channel], volumes: Sequence[Any]) -> str:
    """A sentence where a volume is known to be of another modality than the model was trained with."""
    for channel, volume in zip(channels, volumes, strict=False):
        modality = modalityOf(volume) if volume is not None else ""
        if not mayBe(channel.modality, modality):
            return _("“{volume}” is {modality}; the model was trained with {wanted}.").format(
                volume=volume.GetName(), modality=modality, wanted=channel.modality
            )
    return ""


def outputHint(segmentationNode: Any, models: Sequence[str]) -> str:
    """A sentence about what becomes of what the output holds."""
    if segmentationNode is None:
        return ""
    name = segmentationNode.GetName()
    earlier = [identifier for model in dict.fromkeys(models) for identifier in identifiersOf(segmentationNode, model)]
    if not earlier:
        return _("New segments are added to “{name}”; what it holds is not changed.").format(name=name)
    return _(
        "The {count} segments that “{name}” has of this model are replaced, after asking where they were edited; "
        "everything else in it stays."
    ).format(count=len(earlier), name=name)


def _whyNotEntry(entry: Entry, situation: Situation) -> str:
    model = situation.named(entry.model)
    if model is None:
        reason = _("it is not installed here.")
    elif model.manifest is not None and len(entry.volumes) != len(model.manifest.channels):
        reason = _("one of its volumes was removed.")
    else:
        reason = _whyNotThisRun(model, entry.volumes, situation.region)
    return _("On the list, {model}: {reason}").format(model=entry.model, reason=reason) if reason else ""


def _whyNothingRuns(situation: Situation) -> str:
    if not situation.hasScene:
        return _("There is no scene to put a segmentation into.")
    if situation.installing:
        return _("Packages are being installed.")
    if situation.missing:
        return _("Install what is missing first: {names}.").format(names=", ".join(situation.missing))
    return ""


def _whyNotThisModel(model: StoredModel | None) -> str:
    if model is None:
        return _("Choose a model.")
    return "" if model.manifest is not None else _("The file of this model cannot be used; the model card says why.")


def _whyNotThisRun(model: StoredModel | None, volumes: Sequence[Any], regionNode: Any) -> str:
    if model is None or model.manifest is None:
        return _whyNotThisModel(model)
    return _whyNotTheseVolumes(model.manifest.channels, volumes) or _whyNotThisRegion(regionNode, volumes[0])


def _whyNotThisRegion(regionNode: Any, volume: Any) -> str:
    if regionNode is None:
        return ""
    try:
        regionOf(regionNode, volume)
    except MambaSegmentError as problem:
        return asSentence(str(problem))
    return ""


def _regionOrNone(regionNode: Any, volumes: Sequence[Any]) -> Region | None:
    if regionNode is None or not volumes or volumes[0] is None or volumes[0].GetImageData() is None:
        return None
    try:
        return regionOf(regionNode, volumes[0])
    except MambaSegmentError:  # said by `whyNotReady`
        return None


def _preparedSpacing(manifest: Manifest, volume: Any) -> tuple[float, ...]:
    """Of a volume, along the axes that the model's own is given for; empty where that cannot be told."""
    if volume is None:
        return ()
    from MambaSegmentLib.orientation import turn_towards

    spec = manifest.preprocessing
    try:
        grid = volumeOf(volume)
    except MambaSegmentError:  # the run says what is wrong with it
        return ()
    turn = turn_towards(grid.direction, spec.orientation, spec.axis_order)
    return turn.permute(grid.spacing_mm[::-1])


def _sizeText(spacing_mm: Sequence[float]) -> str:
    return " × ".join(f"{size:.3g}" for size in spacing_mm)


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
