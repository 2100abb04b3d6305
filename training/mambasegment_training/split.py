"""Which cases train and which validate: no patient on both sides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MambaSegmentLib.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Case identifiers of each side, sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def split_by_patient(patient_of: Mapping[str, str], validation_fraction: float, seed: int) -> Split:
    """Draw patients until their cases reach the fraction, all cases of a patient together.

    Args:
        patient_of: case -> patient.
        validation_fraction: of the cases, above 0 and below 1; at least one patient stays on each side.
        seed: the same cases and seed give the same split, in whatever order the cases come.
    Raises:
        ConfigError: a fraction outside 0..1, or fewer than two patients.
    """
    if not 0 < validation_fraction < 1:
        raise ConfigError(f"the validation fraction is {validation_fraction}; expected a number between 0 and 1")
    patients = sorted(set(patient_of.values()))
    if len(patients) < 2:
        raise ConfigError(f"{len(patients)} patient(s) cannot be split into training and validation; 2 are needed")
    wanted = max(1, math.floor(validation_fraction * len(patient_of) + 0.5))
    validation: list[str] = []
    for index in np.random.default_rng(seed).permutation(len(patients))[:-1]:
        if len(validation) >= wanted:
            break
        validation += [case for case, patient in patient_of.items() if patient == patients[index]]
    return _split(patient_of, validation)


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
    torn = sorted({patient_of[case] for case in split.train} & {patient_of[case] for case in split.validation})
    if torn:
        raise ConfigError(f"patient {torn[0]!r} has cases in training and in validation; name all of them or none")
    return split


def _split(cases: Mapping[str, str], validation: Sequence[str]) -> Split:
    return Split(tuple(sorted(set(cases) - set(validation))), tuple(sorted(set(validation))))
