"""collected.json: what a growing data set was made of, and the fold of each patient, kept as cases are added."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.document import ReviewDocument

from .storage import read_json, write_json

RECORD = "collected.json"
_FORMAT = 1
_DEFAULT_FOLDS = 5
_MOST_LABELS = 253  # labels are bytes, 0 is the background, and one is kept for what nobody looked at


@dataclass
class Collection:
    """Attributes:
    channels: names, in order; empty before the first case.
    labels: name -> value, 1 to N; empty before the first case.
    folds: how many there are to be.
    fold_of: patient -> fold, of every patient that ever was here.
    cases: case -> what it came from: `patient`, checksums of its files, reviewer, decision, model, and so on.
    """

    channels: tuple[str, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)
    folds: int = _DEFAULT_FOLDS
    fold_of: dict[str, int] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ignore_label(self) -> int:
        """Of voxels that nobody looked at."""
        return ignore_label_of(self.labels)

    def labels_with(self, document: ReviewDocument) -> dict[str, int]:
        """Name -> value; the first case decides it."""
        return self.labels if self.cases else {name: value for value, name in enumerate(_names(document), start=1)}

    def take_meaning_of(self, document: ReviewDocument) -> None:
        """Let the first case decide what the data set is about; of no effect for others, which are like it."""
        self.labels = self.labels_with(document)
        self.channels = tuple(image.channel for image in document.images)

    def place(self, patients: Sequence[str]) -> None:
        """Give new patients a fold, the one with the fewest patients; those that are known keep theirs.

        They come in the order of their checksums, so that the fold does not follow their names, which may go by time.
        """
        for patient in sorted(set(patients) - set(self.fold_of), key=_checksum):
            counts = [sum(fold == other for other in self.fold_of.values()) for fold in range(self.folds)]
            self.fold_of[patient] = counts.index(min(counts))

    def splits(self) -> list[dict[str, list[str]]]:
        """As nnU-Net's splits_final.json, fold by fold; empty where the cases are too few for one.

        Last folds that no case fell to yet are left out. One that lost all its cases validates on those of the next,
        so that the numbers of the others, by which runs go on, stay what they were.
        """
        fold_of_case = {case: self.fold_of[entry["patient"]] for case, entry in sorted(self.cases.items())}
        used = sorted(set(fold_of_case.values()))
        if len(used) < 2:
            return []
        splits = []
        for number in range(used[-1] + 1):
            fold = next(one for one in used if one >= number)
            validation = [case for case, other in fold_of_case.items() if other == fold]
            splits.append({"train": [case for case in fold_of_case if case not in validation], "val": validation})
        return splits

    def to_dataset_json(self, name: str) -> dict[str, Any]:
        """dataset.json of a raw nnU-Net data set."""
        ignored = any(entry["ignored_voxels"] for entry in self.cases.values())
        return {
            "name": name,
            "channel_names": {str(index): channel for index, channel in enumerate(self.channels)},
            "labels": {"background": 0, **self.labels, **({"ignore": self.ignore_label} if ignored else {})},
            "numTraining": len(self.cases),
            "file_ending": ".nii.gz",
        }


def ignore_label_of(labels: Mapping[str, int]) -> int:
    """The value after the last, as nnU-Net wants it."""
    return len(labels) + 1


def reason_unlike(document: ReviewDocument, collection: Collection) -> str | None:
    """Why a case cannot stand beside the others; None where it can."""
    names, channels = _names(document), tuple(image.channel for image in document.images)
    if not names:
        return "its review has no segment"
    if len(set(names)) < len(names) or {"background", "ignore"} & set(names) or len(names) > _MOST_LABELS:
        return f"its segments are named {', '.join(names)}; expected different names, none of them background or ignore"
    if collection.cases and channels != collection.channels:
        return f"its images are {', '.join(channels)}, those of the data set {', '.join(collection.channels)}"
    if collection.cases and set(names) != set(collection.labels):
        return f"its segments are {', '.join(names)}, those of the data set {', '.join(collection.labels)}"
    return None


def _names(document: ReviewDocument) -> list[str]:
    """Of the segments, in the order of their values."""
    return [segment.name for segment in sorted(document.segments, key=lambda segment: segment.value)]


def read_collection(dataset: Path, folds: int | None = None) -> Collection:
    """What was collected here before; nothing in a folder that is new or empty.

    Args:
        folds: to begin with; None takes five, or what was begun with.
    Raises:
        ConfigError: fewer than two folds, or not as many as were begun with; the folder holds something else, or a
            damaged record.
    """
    if folds is not None and folds < 2:
        raise ConfigError(f"{folds} fold(s) leave nothing to validate on; expected 2 or more")
    path = dataset / RECORD
    if not path.is_file():
        if dataset.exists() and (not dataset.is_dir() or any(dataset.iterdir())):
            raise ConfigError(f"{dataset} holds something else than collected cases; choose another folder")
        return Collection(folds=folds or _DEFAULT_FOLDS)
    content = read_json(path, "put the file back, or collect into a new folder")
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        raise ConfigError(f"{path} is not of format {_FORMAT}; collect into a new folder")
    try:
        collection = Collection(
            tuple(content["channels"]),
            dict(content["labels"]),
            int(content["folds"]),
            dict(content["fold_of_patient"]),
            {case: dict(entry) for case, entry in content["cases"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise ConfigError(f"{path} is damaged ({problem!r}); put it back, or collect into a new folder") from problem
    if folds not in (None, collection.folds):
        raise ConfigError(
            f"{dataset} was begun with {collection.folds} folds, which cannot change without moving patients; leave "
            f"out --folds {folds}, or collect into a new folder"
        )
    return collection


def write_collection(dataset: Path, collection: Collection) -> None:
    write_json(
        dataset / RECORD,
        {
            "format": _FORMAT,
            "channels": list(collection.channels),
            "labels": collection.labels,
            "folds": collection.folds,
            "fold_of_patient": collection.fold_of,
            "cases": dict(sorted(collection.cases.items())),
        },
    )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
