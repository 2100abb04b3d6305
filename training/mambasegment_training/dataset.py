"""Find the cases of a data set on disk: a folder with images/ and labels/, or an nnU-Net raw data set.

A case's image is a volume, a picture, or a folder with a DICOM series; its labels are a volume, a mask, a Slicer
segmentation, or a DICOM SEG or RT structure set, alone or in a folder of its own.

Nothing but file names and dataset.json is read here; voxels are `prepare`'s business.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.manifest import Region

from .case_files import AS_STORED, RawCase, Reading
from .pictures import COLOURS, PICTURE_ENDINGS, is_picture
from .storage import read_json

VOLUME_ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".mhd")
ENDINGS = (*VOLUME_ENDINGS, *PICTURE_ENDINGS, ".dcm")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_LAYOUTS = "expected images/ and labels/ with equal file names, or dataset.json with imagesTr/ and labelsTr/ (nnU-Net)"


@dataclass(frozen=True)
class RawDataset:
    """Attributes:
    channels: one name per image file of a case.
    label_names: value -> name without background; None where the data set does not say.
    ignore_label: value of voxels that nobody labelled, if any.
    regions: what the network shall mark instead of single labels, each for itself; empty where there are none.
    reading: what the files' channels and labels mean.
    """

    name: str
    channels: tuple[str, ...]
    label_names: Mapping[int, str] | None
    ignore_label: int | None
    cases: tuple[RawCase, ...]
    regions: tuple[Region, ...] = ()
    reading: Reading = AS_STORED


def find_dataset(folder: Path, patient_pattern: str | None = None) -> RawDataset:
    """List the cases of a data set.

    Args:
        folder: the data set, in one of the two layouts.
        patient_pattern: regular expression whose first group, searched in a case's name, names the patient;
            None takes every case for a patient of its own.
    Raises:
        ConfigError: no such folder, an unknown layout, or a pattern that does not fit.
        ImageError: images without labels, labels without images, missing channels.
    """
    folder = Path(folder)
    if (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir():
        return _find_nnunet(folder, patient_pattern)
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        images = _group_channels(_images_in(folder / "images"))
        cases = _match(images, _labels_in(folder / "labels"), patient_pattern)
        channel_count = len(cases[0].images)
        return RawDataset(folder.resolve().name, default_channels(channel_count), None, None, cases)
    raise ConfigError(f"{folder} is no data set: {_LAYOUTS}")


def _find_nnunet(folder: Path, patient_pattern: str | None) -> RawDataset:
    path = folder / "dataset.json"
    content = read_json(path, "see nnU-Net's page on the dataset format")
    if not isinstance(content, dict) or "labels" not in content:
        raise ConfigError(f"{path} has no 'labels'; expected an nnU-Net dataset.json")
    images = _group_channels(_images_in(folder / "imagesTr"))
    cases = _match(images, _labels_in(folder / "labelsTr"), patient_pattern)
    named = content.get("channel_names") or content.get("modality") or {}
    if not isinstance(named, Mapping) or not all(str(key).isdigit() for key in named):
        raise ConfigError(f"{path}: channel_names is {named!r}; expected an object such as {{'0': 'T1'}}")
    files = cases[0].images
    channels = tuple(str(named[key]) for key in sorted(named, key=int)) or default_channels(len(files))
    coloured = len(files) == 1 and is_picture(files[0]) and len(channels) == len(COLOURS)  # one file of three channels
    if len(channels) != len(files) and not coloured:
        raise ConfigError(f"{path} names {len(channels)} channels, but cases have {len(cases[0].images)} image files")
    groups = _nnunet_labels(content["labels"], path)
    ignored = groups.pop("ignore", (None,))
    regions = _nnunet_regions(groups, content.get("regions_class_order"), path)
    name = str(content.get("name") or re.sub(r"^Dataset\d+_", "", folder.resolve().name))
    return RawDataset(name, channels, _label_names(groups), ignored[0], cases, regions)


def _nnunet_labels(content: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> its values, without background; {"liver": 1}, {"whole": [1, 2]} or the decathlon's {"1": "liver"}."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: labels is {content!r}; expected an object such as {{'background': 0, 'liver': 1}}")
    groups: dict[str, tuple[int, ...]] = {}
    for key, value in content.items():
        turned = str(key).isdigit() and isinstance(value, str) and not value.isdigit()
        name, numbers = (value, key) if turned else (key, value)
        try:
            group = tuple(int(number) for number in (numbers if isinstance(numbers, list) else [numbers]))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: label {key!r}: {value!r} has no number") from error
        if group != (0,):
            groups[str(name)] = group
    return groups


def _nnunet_regions(groups: Mapping[str, tuple[int, ...]], order: Any, path: Path) -> tuple[Region, ...]:
    """Empty unless a label unites several values; then each label is a region, painted in the order of the file."""
    if all(len(group) == 1 for group in groups.values()):
        return ()
    if not isinstance(order, list) or len(order) != len(groups) or not all(type(value) is int for value in order):
        raise ConfigError(
            f"{path}: regions_class_order is {order!r}; expected a label value for each of {len(groups)} regions, "
            f"which paints {', '.join(groups)}"
        )
    return tuple(Region(name, group, value) for (name, group), value in zip(groups.items(), order, strict=True))


def _label_names(groups: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Each value by the smallest group that holds it, as a region of several values has no value of its own."""
    largest_first = sorted(groups.items(), key=lambda entry: -len(entry[1]))
    return dict(sorted({value: name for name, group in largest_first for value in group}.items()))


def _images_in(folder: Path) -> dict[str, Path]:
    """Name without ending -> path, for each image file, and each folder of a DICOM series, of a folder."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} does not exist: {_LAYOUTS}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = "" if path.is_dir() else next((e for e in ENDINGS if path.name.lower().endswith(e)), None)
        if ending is None or path.name.startswith("."):
            continue
        stem = path.name[: len(path.name) - len(ending)]
        if stem in found:
            raise ImageError(f"{found[stem]} and {path} are the same case twice; remove one")
        found[stem] = path
    if not found:
        raise ImageError(f"{folder} holds no image; expected files ending in {', '.join(ENDINGS)}, or DICOM folders")
    return found


def _labels_in(folder: Path) -> dict[str, Path]:
    """As `_images_in`; a folder stands for the one DICOM file in it."""
    return {stem: _only_file(path) if path.is_dir() else path for stem, path in _images_in(folder).items()}


def _only_file(folder: Path) -> Path:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    if len(files) != 1:
        raise ImageError(f"{folder} holds {len(files)} files; expected one, a DICOM SEG or RT structure set")
    return files[0]


def _group_channels(files: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Collect CASE_0000, CASE_0001 … into one case; without such endings each file is a case of one channel."""
    matches = {stem: _CHANNEL.fullmatch(stem) for stem in files}
    if not all(matches.values()):
        return {stem: (path,) for stem, path in files.items()}
    grouped: dict[str, dict[int, Path]] = {}
    for stem, match in matches.items():
        if match is not None:
            grouped.setdefault(match[1], {})[int(match[2])] = files[stem]
    count = max(len(channels) for channels in grouped.values())
    for case, channels in grouped.items():
        if sorted(channels) != list(range(count)):
            raise ImageError(
                f"case {case} has the channels {sorted(channels)}; expected 0 to {count - 1} as in the others"
            )
    return {case: tuple(channels[index] for index in range(count)) for case, channels in grouped.items()}


def _match(
    images: Mapping[str, tuple[Path, ...]], labels: Mapping[str, Path], patient_pattern: str | None
) -> tuple[RawCase, ...]:
    without_labels, without_image = sorted(set(images) - set(labels)), sorted(set(labels) - set(images))
    if without_labels or without_image:
        raise ImageError(
            f"images and labels do not match: {_some(without_labels)} without labels, "
            f"{_some(without_image)} without image; give both files the same name"
        )
    return tuple(RawCase(case, _patient(case, patient_pattern), images[case], labels[case]) for case in sorted(images))


def _patient(case: str, pattern: str | None) -> str:
    if pattern is None:
        return case
    try:
        match = re.search(pattern, case)
    except re.error as error:
        raise ConfigError(f"the patient pattern {pattern!r} is no regular expression: {error}") from error
    if match is None or not match.groups() or match[1] is None:
        raise ConfigError(f"the patient pattern {pattern!r} finds no first group in the case name {case!r}")
    return str(match[1])


def default_channels(count: int) -> tuple[str, ...]:
    return ("image",) if count == 1 else tuple(f"channel {index}" for index in range(count))


def _some(names: Iterable[str], shown: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) + more) or "none"
