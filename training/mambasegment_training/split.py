"""Which cases train and which validate: no patient on both sides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.errors import ConfigError

from .storage import read_json


@dataclass(frozen=True)
class Split:
    """Case identifiers of each side, sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def to_json(self) -> dict[str, list[str]]:
        return {"train": list(self.train), "validation": list(self.validation)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Split":
        return cls(tuple(content["train"]), tuple(content["validation"]))


def split_by_patient(patient_of: Mapping[str, str], validation_fraction: float, seed: int) -> Split:
    """Draw patients until their cases reach the fraction, all cases of a patient together.

    Args:
        patient_of: case -> patient.
        validation_fraction: of the cases, above 0 and below 1; at least one patient stays on each side.
        seed: the same cases and seed give the same split, in whatever order the cases come.
    Raises:
        ConfigError: a fraction outside 0..1, or fewer than two patients.
    """
    return folds_by_patient(patient_of, validation_fraction, seed)[0]


def folds_by_patient(patient_of: Mapping[str, str], validation_fraction: float, seed: int) -> tuple[Split, ...]:
    """Splits for a cross-validation: each case validates in one of them, the cases of a patient in the same.

    The first validates on the fraction of the cases; the others, 1 / fraction of them in all, share the rest evenly.

    Args:
        patient_of, validation_fraction, seed: as for `split_by_patient`, which gives the first of these splits.
    Returns:
        5 splits for a fraction of 0.2; fewer where there are fewer patients.
    Raises:
        ConfigError: as `split_by_patient`.
    """
    if not 0 < validation_fraction < 1:
        raise ConfigError(f"the validation fraction is {validation_fraction}; expected a number between 0 and 1")
    patients = sorted(set(patient_of.values()))
    if len(patients) < 2:
        raise ConfigError(f"{len(patients)} patient(s) cannot be split into training and validation; 2 are needed")
    cases_of: dict[str, list[str]] = {patient: [] for patient in patients}
    for case, patient in patient_of.items():
        cases_of[patient].append(case)
    order = [patients[index] for index in np.random.default_rng(seed).permutation(len(patients))]
    wanted = max(1, math.floor(validation_fraction * len(patient_of) + 0.5))
    first: list[str] = []
    while len(order) > 1 and len(first) < wanted:
        first += cases_of[order.pop(0)]
    count = min(max(2, round(1 / validation_fraction)), len(order) + 1)
    others: list[list[str]] = [[] for _ in range(count - 1)]
    for patient in order:  # to the fold that has least
        min(others, key=len).extend(cases_of[patient])
    return tuple(_split(patient_of, validation) for validation in (first, *others))


def split_by_list(patient_of: Mapping[str, str], validation: Sequence[str]) -> Split:
    """Use the validation cases that the user names.

    Raises:
        ConfigError: an unknown case, nothing left on one side, or a patient on both.
    """
    unknown = sorted(set(validation) - set(patient_of))
    if unknown:
        raise ConfigError(f"validation case {unknown[0]!r} is not in the data set")
    split = _split(patient_of, validation)
    if not split.train or not split.validation:
        raise ConfigError("training and validation need at least one case each")
    _refuse_torn_patients(split, patient_of)
    return split


def read_folds(path: Path, patient_of: Mapping[str, str]) -> tuple[Split, ...]:
    """Read the splits of a cross-validation from a file as nnU-Net's splits_final.json.

    Raises:
        ConfigError: no such list, a case that is in none or on both sides, or a patient on both sides.
    """
    content = read_json(path, "expected a list of splits, as nnU-Net's splits_final.json")
    if not isinstance(content, list) or not content:
        raise ConfigError(
            f'{path}: expected a list of {{"train": [...], "val": [...]}}, as nnU-Net\'s splits_final.json'
        )
    return tuple(_fold_from_json(entry, f"{path}: split {number}", patient_of) for number, entry in enumerate(content))


def folds_to_nnunet(folds: Sequence[Split]) -> list[dict[str, list[str]]]:
    """What `read_folds` reads, for nnU-Net to train on the same splits."""
    return [{"train": list(fold.train), "val": list(fold.validation)} for fold in folds]


def _fold_from_json(entry: Any, where: str, patient_of: Mapping[str, str]) -> Split:
    sides = [entry.get(key) if isinstance(entry, Mapping) else None for key in ("train", "val")]
    if any(not isinstance(side, list) or not side or not all(isinstance(case, str) for case in side) for side in sides):
        raise ConfigError(f"{where} is {entry!r:.200}; expected lists of case names as train and val")
    split = Split(*(tuple(sorted(set(side))) for side in sides))  # type: ignore[arg-type]
    unknown = sorted({*split.train, *split.validation} - set(patient_of))
    if unknown:
        raise ConfigError(f"{where} names the case {unknown[0]!r}, which is not in the data set")
    _refuse_torn_patients(split, patient_of, f"{where}: ")
    return split


def _refuse_torn_patients(split: Split, patient_of: Mapping[str, str], where: str = "") -> None:
    torn = sorted({patient_of[case] for case in split.train} & {patient_of[case] for case in split.validation})
    if torn:
        raise ConfigError(
            f"{where}patient {torn[0]!r} has cases in training and in validation; name all of them or none"
        )


def _split(cases: Mapping[str, str], validation: Sequence[str]) -> Split:
    return Split(tuple(sorted(set(cases) - set(validation))), tuple(sorted(set(validation))))
