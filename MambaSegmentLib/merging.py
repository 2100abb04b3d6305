"""Several models, one result: whose label value is whose, and labels painted over labels.

The models' order is their priority: what a later one finds is painted over what those before it found, so that a lesion
lies in its organ. No torch here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import ConfigError
from .label_maps import label_dtype
from .manifest import Manifest
from .segments import SegmentInfo


@dataclass(frozen=True)
class MergedSegments:
    """The segments of several models in one list.

    Attributes:
        segments: each value and each name once, whatever the case of letters; colours and codes are the models'.
        values: for each model, from its own label values to those of `segments`.
        owners: by label value, the number of the model that it comes from.
    """

    segments: tuple[SegmentInfo, ...]
    values: tuple[Mapping[int, int], ...]
    owners: Mapping[int, int]


def merge_segments(manifests: Sequence[Manifest]) -> MergedSegments:
    """Give the segments of all models values and names of their own.

    The first model's stay as they are. Those of a later one keep their values if all are free, else they are counted on
    from the largest so far; a name that is taken gets the model's in brackets.

    Raises:
        ConfigError: one model twice, or more label values than there are.
    """
    _refuse_doubles(manifests)
    labels = model_names(manifests)
    segments: list[SegmentInfo] = []
    values: list[dict[int, int]] = []
    owners: dict[int, int] = {}
    names: set[str] = set()
    for number, manifest in enumerate(manifests):
        clash = any(segment.value in owners for segment in manifest.segments)
        shift = max(owners) if clash else 0
        values.append({segment.value: segment.value + shift for segment in manifest.segments})
        for segment in manifest.segments:
            name = _free_name(segment.name, labels[number], names)
            names.add(name.casefold())
            owners[segment.value + shift] = number
            segments.append(replace(segment, value=segment.value + shift, name=name))
    return MergedSegments(tuple(segments), tuple(values), owners)


def model_names(manifests: Sequence[Manifest]) -> list[str]:
    """What to call each model: its name, with version or checksum where others have the same."""
    ways = (
        lambda manifest: manifest.name,
        lambda manifest: f"{manifest.name} {manifest.version}",
        lambda manifest: f"{manifest.name} {manifest.version} {(manifest.sha256 or 'unknown')[:8]}",
    )
    for way in ways:
        names = [way(manifest) for manifest in manifests]
        if len(set(names)) == len(names):
            break
    return names


def channel_names(manifest: Manifest) -> list[str]:
    """The names of a model's channels; where imported ones are alike, the later are numbered."""
    names: list[str] = []
    for channel in manifest.channels:
        before = sum(other.name == channel.name for other in manifest.channels[: len(names)])
        names.append(f"{channel.name} ({before + 1})" if before else channel.name)
    return names


def channels_of_all(manifests: Sequence[Manifest]) -> list[str]:
    """The channels that the models take, each name once, in the order in which they come first."""
    return list(dict.fromkeys(name for manifest in manifests for name in channel_names(manifest)))


def paint(target: np.ndarray, labels: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Labels of one model over those that are there already.

    Args:
        target: (K, J, I), changed in place where its dtype holds the new values.
        labels: the same shape; 0 leaves what is below.
        values: from those of `labels` to those of `target`.
    Returns:
        `target`, or a copy of a larger dtype.
    """
    dtype = np.promote_types(target.dtype, label_dtype(max(values.values())))
    target = target.astype(dtype, copy=False)
    table = np.zeros(max(values) + 1, dtype)
    table[list(values)] = list(values.values())
    for below, above in zip(target, labels, strict=True):  # a plane fits into the cache
        new = table[above]
        np.copyto(below, new, where=new != 0)
    return target


def _refuse_doubles(manifests: Sequence[Manifest]) -> None:
    for number, manifest in enumerate(manifests):
        before = manifests[:number]
        if any(manifest is other or (manifest.sha256 and manifest.sha256 == other.sha256) for other in before):
            raise ConfigError(
                f"the model {manifest.name!r} {manifest.version} is given twice; it would only paint over itself"
            )


def _free_name(name: str, model: str, taken: set[str]) -> str:
    candidates = [name, f"{name} ({model})", *(f"{name} ({model} {number})" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate.casefold() not in taken)
