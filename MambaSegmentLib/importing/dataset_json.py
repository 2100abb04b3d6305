"""nnU-Net's dataset.json: channels, labels, regions."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BundleError
from ..manifest import Channel, Region
from ..segments import SegmentInfo
from .json_file import entry

_GOLDEN_RATIO = 0.618033988749895  # steps that keep neighbouring hues apart
_CT = ("ct", "hu", "ctnorm")
_FILE = "dataset.json"


@dataclass(frozen=True)
class DatasetFacts:
    """What a network's inputs and outputs mean.

    Attributes:
        segments: label values with their names.
        regions: empty where each output is one label, the background first.
    """

    channels: tuple[Channel, ...]
    segments: tuple[SegmentInfo, ...]
    regions: tuple[Region, ...] = ()
    ignore_label: int | None = None
    file_ending: str = ""

    @property
    def outputs(self) -> int:
        return len(self.regions) or len(self.segments) + 1


def read_dataset(content: Mapping[str, Any]) -> DatasetFacts:
    """Raises: BundleError, for what nnU-Net could not have trained with."""
    labels = _label_lists(entry(content, "labels", Mapping, _FILE))
    ignore = labels.pop("ignore", None)
    if ignore is not None and len(ignore) != 1:
        raise BundleError(f"{_FILE}: the ignore label is {ignore}; expected one number")
    ignore_label = None if ignore is None else ignore[0]
    values = sorted({value for group in labels.values() for value in group})
    if values != list(range(len(values))) or len(values) < 2 or labels.get("background") != (0,):
        raise BundleError(f"{_FILE}: the labels are {values}; expected the background 0, then 1, 2, … without a gap")
    if ignore_label is not None and ignore_label != len(values):
        raise BundleError(
            f"{_FILE}: the ignore label is {ignore_label}; expected {len(values)}, the one after the last"
        )
    ending = str(content.get("file_ending", ""))
    if any(len(group) > 1 for group in labels.values()):
        regions = _regions(labels, content.get("regions_class_order"))
        return DatasetFacts(_channels(content), _region_segments(regions), regions, ignore_label, ending)
    named = {group[0]: name for name, group in labels.items()}
    segments = segments_of({value: named[value] for value in values[1:]})
    return DatasetFacts(_channels(content), segments, (), ignore_label, ending)


def segments_of(names: Mapping[int, str]) -> tuple[SegmentInfo, ...]:
    """Label values with names, in colours that can be told apart."""
    return tuple(
        SegmentInfo(value, _clean(name, value), colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1.0, 0.6, 0.9))
        for index, (value, name) in enumerate(sorted(names.items()))
    )


def channel(name: str) -> Channel:
    """A channel with its modality, where nnU-Net's name says it."""
    return Channel(name, "CT" if name.casefold() in _CT else "")


def _clean(name: str, value: int) -> str:
    text = "".join(" " if mark == "|" or not mark.isprintable() else mark for mark in name).strip()
    return text or f"label {value}"


def _label_lists(labels: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> its label values; very old files have value -> name."""
    if labels and all(isinstance(value, str) and str(key).isdigit() for key, value in labels.items()):
        labels = {name: int(value) for value, name in labels.items()}
    lists = {}
    for name, value in labels.items():
        group = [
            int(number) if isinstance(number, str) and number.isdecimal() else number  # nnU-Net takes both
            for number in (value if isinstance(value, list) else [value])
        ]
        if not group or not all(type(number) is int and number >= 0 for number in group):
            raise BundleError(f"{_FILE}: the label {name!r} is {value!r:.200}; expected a whole number, or several")
        lists[str(name)] = tuple(sorted(set(group)))
    return lists


def _regions(labels: Mapping[str, tuple[int, ...]], order: Any) -> tuple[Region, ...]:
    """In the order of the file, which is the network's; each is painted with its entry of regions_class_order."""
    groups = [(name, group) for name, group in labels.items() if group != (0,)]
    if not isinstance(order, Sequence) or len(order) != len(groups) or not all(type(value) is int for value in order):
        raise BundleError(
            f"{_FILE}: regions_class_order is {order!r:.200}; expected a label value for each of {len(groups)} regions"
        )
    return tuple(Region(name, group, value) for (name, group), value in zip(groups, order, strict=True))


def _region_segments(regions: Sequence[Region]) -> tuple[SegmentInfo, ...]:
    """What the label map holds in the end: of each region what no later one is painted over."""
    names: dict[int, str] = {}
    for index, region in enumerate(regions):
        over = [later.name for later in regions[index + 1 :] if set(later.labels) & set(region.labels)]
        names[region.value] = f"{region.name} without {', '.join(over)}" if over else region.name
    return segments_of(names)


def _channels(content: Mapping[str, Any]) -> tuple[Channel, ...]:
    key = "channel_names" if "channel_names" in content else "modality"
    names = entry(content, key, (Mapping, list), _FILE)
    if isinstance(names, Mapping):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise BundleError(f"{_FILE}: {key} is {dict(names)!r:.200}; expected the numbers 0, 1, … as keys")
        names = [names[key] for key in sorted(names, key=lambda number: int(number))]
    if not names:
        raise BundleError(f"{_FILE}: {key} is empty; a network needs at least one channel")
    texts = [str(name).strip() or f"channel {index}" for index, name in enumerate(names)]
    repeated = {name for name in texts if texts.count(name) > 1}  # images are asked for by these names
    return tuple(channel(f"{name} {index}" if name in repeated else name) for index, name in enumerate(texts))
