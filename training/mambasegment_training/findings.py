"""What may be wrong with a data set that can be read: found before training, from facts of all cases together."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from MambaSegmentLib.orientation import orientation_of

from .dataset import RawDataset
from .fingerprint import CaseFacts
from .split import Split

_OUTLIER = 8.0  # of a robust deviation, the median absolute one times 1.4826
_MANY = 8  # cases from which on a median is one
_OTHER_SPACING = 3.0  # times coarser or finer than the median
_TINY_VOXELS = 8  # a structure that one wrong voxel in eight decides about
_TINY_SHARE = 0.05  # of the label's median volume
# what comes after a patient's name: frame, visit or slice, and their numbers
_REPEAT = re.compile(r"[-_. ]*(?:frame|visit|scan|slice|time|im|img|t|s|v|z)?[-_. ]*\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes:
        severity: an "error" cannot be trained with; a "warning" can, unless the user is strict.
        cases: those that it is about; empty where it is about all.
        message: what was found, what was expected, what to do.
    """

    severity: Literal["error", "warning"]
    kind: str
    cases: tuple[str, ...]
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "kind": self.kind,
            "cases": list(self.cases),
            "message": self.message,
        }


def find_faults(
    dataset: RawDataset, facts: Mapping[str, CaseFacts], labels: Mapping[int, str], folds: Sequence[Split]
) -> list[Finding]:
    """All findings about cases that can be read, errors first.

    Args:
        facts: of each case that can be read.
        labels: value -> name.
    """
    patient_of = {case.identifier: case.patient for case in dataset.cases}
    found = [
        *(_missing_labels(facts, labels, folds) if len(facts) == len(dataset.cases) else ()),  # else others have them
        *_duplicates(facts, patient_of, folds),
        *_torn_patients(patient_of),
        *_empty(facts, labels),
        *_tiny(facts, labels),
        *_other_geometry(facts),
        *_intensities(dataset, facts),
    ]
    return sorted(found, key=lambda finding: finding.severity)  # "error" comes before "warning"


def _missing_labels(
    facts: Mapping[str, CaseFacts], labels: Mapping[int, str], folds: Sequence[Split]
) -> Iterable[Finding]:
    for value, name in labels.items():
        having = {case for case, seen in facts.items() if seen.label_voxels.get(value)}
        if not having:
            message = f"label {value} ({name}) is declared, and no case has a voxel of it; remove it, or add cases"
            yield Finding("error", "missing label", (), message)
            continue
        for number, fold in enumerate(folds):
            for side, cases in (("training", fold.train), ("validation", fold.validation)):
                if not having & set(cases):
                    where = f"in the {side} cases of fold {number}" if len(folds) > 1 else f"in the {side} cases"
                    yield Finding(
                        "error" if side == "training" and number == 0 else "warning",
                        "label missing from a side",
                        tuple(sorted(having)),
                        f"label {value} ({name}) is not {where}; choose another seed or --validation-cases",
                    )


def _duplicates(
    facts: Mapping[str, CaseFacts], patient_of: Mapping[str, str], folds: Sequence[Split]
) -> Iterable[Finding]:
    same = defaultdict(list)
    for case, seen in facts.items():
        same[seen.image_sha256].append(case)
    for cases in same.values():
        if len(cases) < 2:
            continue
        torn = any(set(cases) & set(fold.train) and set(cases) & set(fold.validation) for fold in folds)
        leak = "; they are in training and in validation, whose Dice is then too good" if torn else ""
        named = "" if len({patient_of[case] for case in cases}) == 1 else " under different patients"
        advice = "keep one, or let --patient-pattern give them one patient"
        yield Finding(
            "warning", "duplicate image", tuple(cases), f"{_some(cases)} have the same voxels{named}{leak}; {advice}"
        )


def _torn_patients(patient_of: Mapping[str, str]) -> Iterable[Finding]:
    """Names that look like several images of a patient, where nobody said who the patients are."""
    if len(set(patient_of.values())) < len(patient_of):
        return
    groups = defaultdict(list)
    for case in patient_of:
        groups[_REPEAT.sub("", case)].append(case)
    several = {stem: cases for stem, cases in groups.items() if stem and len(cases) > 1}
    if len(several) < max(2, len(groups) / 2):
        return
    stem, cases = next(iter(several.items()))
    yield Finding(
        "warning",
        "patients may cross the split",
        (),
        f"{len(several)} groups of names look like several images of one patient, such as {_some(cases)} of {stem!r}; "
        "say with --patient-pattern which part of a name is the patient, or validation is too good",
    )


def _empty(facts: Mapping[str, CaseFacts], labels: Mapping[int, str]) -> Iterable[Finding]:
    cases = [case for case, seen in facts.items() if not any(seen.label_voxels.get(value) for value in labels)]
    if cases:
        message = f"{_some(cases)} have no labelled voxel; right if there is nothing to see, else label or remove them"
        yield Finding("warning", "empty labels", tuple(cases), message)


def _tiny(facts: Mapping[str, CaseFacts], labels: Mapping[int, str]) -> Iterable[Finding]:
    for value, name in labels.items():
        sizes = {case: seen.volume_mm3(value) for case, seen in facts.items() if seen.label_voxels.get(value)}
        median = float(np.median(list(sizes.values()))) if sizes else 0.0
        few = [case for case in sizes if facts[case].label_voxels[value] < _TINY_VOXELS]
        small = [case for case, size in sizes.items() if size < _TINY_SHARE * median and len(sizes) >= _MANY]
        cases = list(dict.fromkeys([*few, *small]))
        if cases:
            smallest = min(cases, key=lambda case: sizes[case])
            text = (
                f"label {value} ({name}) is tiny in {_some(cases)}: {facts[smallest].label_voxels[value]} voxels in "
                f"{smallest}, against a median of {median:.3g} mm³; look for stray voxels"
            )
            yield Finding("warning", "tiny structure", tuple(cases), text)


def _other_geometry(facts: Mapping[str, CaseFacts]) -> Iterable[Finding]:
    if not facts:
        return
    spacings = {case: np.array(seen.spacing_mm) for case, seen in facts.items()}
    median = np.median(np.stack(list(spacings.values())), axis=0)
    other = [
        case
        for case, spacing in spacings.items()
        if np.any(np.maximum(spacing / median, median / spacing) > _OTHER_SPACING)
    ]
    if other:
        common, odd = (" x ".join(f"{size:g}" for size in sizes) for sizes in (median, spacings[other[0]]))
        text = (
            f"{_some(other)} have voxels of another size ({odd} mm along K, J, I in {other[0]}) than most "
            f"({common} mm); they will be resampled: check the headers"
        )
        yield Finding("warning", "unusual spacing", tuple(other), text)
    by_orientation = defaultdict(list)
    for case, seen in facts.items():
        by_orientation[orientation_of(seen.direction)].append(case)
    largest = max(by_orientation, key=lambda code: len(by_orientation[code]))
    for code, cases in by_orientation.items():
        if code != largest and len(cases) <= len(facts) // 4:
            turned = "they will be turned: check left and right"
            text = f"{_some(cases)} are stored as {code}, most others as {largest}; {turned}"
            yield Finding("warning", "unusual orientation", tuple(cases), text)


def _intensities(dataset: RawDataset, facts: Mapping[str, CaseFacts]) -> Iterable[Finding]:
    """Of CT as they are; of other images relative to their own mean and deviation, which scale them anyway."""
    for index, channel in enumerate(dataset.channels):
        absolute = channel.strip().lower() == "ct"
        of_channel = {case: seen.intensity_facts[index] for case, seen in facts.items() if seen.intensity_facts}
        labelled = {case: seen.labelled(absolute) for case, seen in of_channel.items()}
        brightest = {case: seen.brightest(absolute) for case, seen in of_channel.items()}
        for what, values in (("mean of the labelled voxels", labelled), ("99.9th percentile", brightest)):
            outliers = _outliers(values)
            if outliers:
                unit = "" if absolute else " (in deviations from the image's own mean)"
                furthest, median = outliers[0], float(np.nanmedian(list(values.values())))
                text = (
                    f"{_some(outliers)}: the {what} in channel {channel!r} is {values[furthest]:.3g} in {furthest}, "
                    f"and {median:.3g} in the median{unit}; look for another sequence, metal, padding or a wrong label"
                )
                yield Finding("warning", "unusual intensities", tuple(outliers), text)


def _outliers(values: Mapping[str, float]) -> list[str]:
    known = {case: value for case, value in values.items() if np.isfinite(value)}
    if len(known) < _MANY:
        return []
    numbers = np.array(list(known.values()))
    median = np.median(numbers)
    deviation = 1.4826 * float(np.median(np.abs(numbers - median)))
    if deviation == 0:
        return []
    far = {case: abs(value - median) / deviation for case, value in known.items()}
    return sorted((case for case in far if far[case] > _OUTLIER), key=lambda case: -far[case])


def _some(cases: Sequence[str], shown: int = 3) -> str:
    return ", ".join(cases[:shown]) + (f" and {len(cases) - shown} more" if len(cases) > shown else "")
