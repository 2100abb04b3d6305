"""What the files of a data set mean, where that takes a look into all of them: colours, names of segments, numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from MambaSegmentLib.errors import ConfigError, MambaSegmentError
from MambaSegmentLib.image_io import read_volume

from .case_files import RawCase, Reading
from .dataset import RawDataset, default_channels
from .label_files import comparable, names_segments, segment_names
from .pictures import COLOURS, channels_of, is_picture, read_mask

_WHITE = 255  # of a mask that is black and white


def understand(
    dataset: RawDataset,
    label_names: Mapping[int, str] | None = None,
    *,
    renumber: bool = False,
    ignore_other_segments: bool = False,
) -> RawDataset:
    """The data set with its channels, its labels' names and how to read its files.

    Args:
        label_names: value -> name, instead of what the data set says. Of files to be renumbered, the values as they are
            stored.
        renumber: close gaps between the label values.
        ignore_other_segments: of files that name their segments, take those alone that have one of these names.
    Raises:
        ConfigError: label files of both kinds, or names for values that no file has.
    """
    dataset = replace(dataset, reading=replace(dataset.reading, ignore_other_segments=ignore_other_segments))
    names = label_names if label_names is not None else dataset.label_names
    dataset = replace(dataset, label_names=names)
    if is_picture(dataset.cases[0].images[0]):
        dataset = _with_colours(dataset)
    named = [names_segments(case.labels) for case in dataset.cases]
    if any(named):
        if not all(named):
            plain = dataset.cases[named.index(False)].labels
            raise ConfigError(f"{plain} has numbers, and other label files have names of segments; make them all alike")
        return _with_segments(dataset)
    pictures = all(is_picture(case.labels) for case in dataset.cases)
    if not (renumber or pictures):
        return dataset
    found = _values(dataset.cases, dataset.ignore_label)
    if renumber or found == [_WHITE]:
        return _renumbered(dataset, found)
    return dataset


def _with_colours(dataset: RawDataset) -> RawDataset:
    """Three channels if any picture has colours; the data set may have named them."""
    pictures = [path for case in dataset.cases for path in case.images if is_picture(path)]
    per_case = len(dataset.cases[0].images)
    if len(dataset.channels) == len(COLOURS) and per_case == 1:
        return replace(dataset, reading=replace(dataset.reading, picture_channels=len(COLOURS)))
    channels = channels_of(pictures)
    if channels == 1:
        return dataset
    names = COLOURS if per_case == 1 else default_channels(per_case * channels)
    return replace(dataset, channels=names, reading=replace(dataset.reading, picture_channels=channels))


def _with_segments(dataset: RawDataset) -> RawDataset:
    names = dataset.label_names
    if names is None:  # in the order in which they are met
        met: dict[str, str] = {}
        for case in dataset.cases:
            for name in segment_names(case.labels):
                met.setdefault(comparable(name), name.strip())
        names = dict(enumerate(met.values(), start=1))
    segments = {comparable(name): value for value, name in names.items()}
    if len(segments) < len(names):
        raise ConfigError(f"two labels have the same name: {', '.join(names.values())}; give each a name of its own")
    return replace(dataset, label_names=names, reading=replace(dataset.reading, segments=segments))


def _renumbered(dataset: RawDataset, found: Sequence[int]) -> RawDataset:
    """1, 2, 3, … in the order of the values; names follow their values."""
    names = dataset.label_names
    values = sorted(names) if names is not None else list(found)
    if found == [_WHITE] and values == [1]:  # a mask in white, whose label was named as what it becomes
        values = [_WHITE]
        names = {_WHITE: dict(names or {})[1]}
    missing = [value for value in values if value not in found]
    if missing:
        raise ConfigError(f"label {missing[0]} is named, but no file has it; found: {', '.join(map(str, found))}")
    labels = {value: number for number, value in enumerate(values, start=1)}
    renamed = {labels[value]: name for value, name in names.items()} if names is not None else None
    changed = {value: label for value, label in labels.items() if value != label}
    ignored = dataset.ignore_label
    if ignored is not None:
        changed[ignored] = len(values) + 1
        ignored = len(values) + 1
    reading: Reading = replace(dataset.reading, renumbering=changed)
    return replace(dataset, label_names=renamed, ignore_label=ignored, reading=reading)


def _values(cases: Sequence[RawCase], ignore_label: int | None) -> list[int]:
    """Label values of all files; files that cannot be read are named later, with all other faults."""
    found: set[int] = set()
    for case in cases:
        try:
            labels = read_mask(case.labels) if is_picture(case.labels) else read_volume(case.labels)
        except MambaSegmentError:
            continue
        whole = labels.array[labels.array == np.round(labels.array)]
        found |= {int(value) for value in np.unique(whole)}
    return sorted(found - {0, ignore_label})
