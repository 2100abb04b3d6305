"""Means over cases, and how far they can be trusted."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Of one measure over cases; cases where it does not exist are not counted.

    Attributes:
        count: of the cases that have it. absent: of those that do not.
        sd: standard deviation of the cases (divided by n - 1); None for one case.
        ci_low, ci_high: bootstrap interval of the mean (percentiles); None for one case or patient.
    """

    count: int
    absent: int
    mean: float
    sd: float | None
    median: float
    lowest: float
    highest: float
    ci_low: float | None
    ci_high: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    values: Sequence[float | None], patients: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Summary | None:
    """Mean, spread and confidence interval.

    Args:
        values: one a case; None where the measure does not exist.
        patients: whose case it is. Cases of one patient are alike, so the bootstrap draws patients, with all their
            cases; None takes each case for a patient of its own.
        seed: of the bootstrap: the same values give the same interval.
    Returns:
        None where no case has a value.
    Raises:
        ConfigError: not as many patients as values.
    """
    owners = range(len(values)) if patients is None else patients
    if len(owners) != len(values):
        raise ConfigError(f"{len(values)} values came with {len(owners)} patients; one patient a value is needed")
    present = [(value, owner) for value, owner in zip(values, owners, strict=True) if value is not None]
    if not present:
        return None
    numbers = np.array([value for value, _ in present], float)
    low, high = _bootstrap(numbers, [owner for _, owner in present], seed)
    return Summary(
        count=len(numbers),
        absent=len(values) - len(numbers),
        mean=float(numbers.mean()),
        sd=float(numbers.std(ddof=1)) if len(numbers) > 1 else None,
        median=float(np.median(numbers)),
        lowest=float(numbers.min()),
        highest=float(numbers.max()),
        ci_low=low,
        ci_high=high,
    )


def _bootstrap(numbers: np.ndarray, owners: Sequence[Hashable], seed: int) -> tuple[float | None, float | None]:
    """Percentile interval of the mean; the unit that is drawn is the patient."""
    numbering: dict[Hashable, int] = {}
    of_patient = np.array([numbering.setdefault(owner, len(numbering)) for owner in owners])
    patients = len(numbering)
    if patients < 2:
        return None, None
    sums, counts = np.bincount(of_patient, numbers, patients), np.bincount(of_patient, minlength=patients)
    drawn = np.random.default_rng(seed).integers(0, patients, (RESAMPLES, patients))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
