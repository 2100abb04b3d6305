"""Paired comparison of methods on the same patients.

The unit is the patient: the cases of one are averaged, since they are no independent witnesses. For each pair of
methods: Wilcoxon's signed-rank test (two-sided; equal values are left out), the matched-pairs rank-biserial
correlation as effect size (Kerby 2014, "The simple difference formula"; +1: the first is better on every patient) and
the mean difference with a bootstrap interval. The p-values of all pairs of one measure are adjusted after Holm 1979.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from MambaSegmentLib.review.summary import summarise

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class PairedTest:
    """Of two methods, `first` minus `second`.

    Attributes:
        structure: the label or region; "" for the mean over all of a case.
        patients: that both have a value for.
        effect: rank-biserial correlation, positive where `first` is better; None where no patient differs.
        p, p_holm: of Wilcoxon's test, as it is and adjusted for all pairs of this measure.
        smallest_p: that so few patients could give at all.
    """

    metric: str
    structure: str
    first: str
    second: str
    patients: int
    mean_difference: float | None
    ci_low: float | None
    ci_high: float | None
    effect: float | None
    p: float
    p_holm: float
    smallest_p: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_all(
    values: Mapping[str, Values],
    patients: Mapping[str, str],
    *,
    metric: str,
    structure: str = "",
    lower_is_better: bool = False,
    seed: int = 0,
) -> list[PairedTest]:
    """Test every pair of methods.

    Args:
        values: method -> case -> value, None where it does not exist.
        patients: case -> patient.
        lower_is_better: turns the sign of the effect.
    """
    means = {method: _patient_means(cases, patients) for method, cases in values.items()}
    tests = []
    for first, second in combinations(means, 2):
        shared = sorted(means[first].keys() & means[second].keys())
        differences = np.array([means[first][p] - means[second][p] for p in shared])
        tests.append(_test(metric, structure, first, second, differences, lower_is_better, seed))
    adjusted = holm([test.p for test in tests])
    return [replace(test, p_holm=p) for test, p in zip(tests, adjusted, strict=True)]


def _test(
    metric: str, structure: str, first: str, second: str, differences: np.ndarray, lower_is_better: bool, seed: int
) -> PairedTest:
    summary = summarise([float(d) for d in differences], seed=seed)
    p = wilcoxon_p(differences)
    return PairedTest(
        metric=metric,
        structure=structure,
        first=first,
        second=second,
        patients=len(differences),
        mean_difference=None if summary is None else summary.mean,
        ci_low=None if summary is None else summary.ci_low,
        ci_high=None if summary is None else summary.ci_high,
        effect=rank_biserial(-differences if lower_is_better else differences),
        p=p,
        p_holm=p,
        smallest_p=min(1.0, 2.0 ** (1 - len(differences))),
    )


def wilcoxon_p(differences: np.ndarray) -> float:
    """Two-sided; 1 where nothing differs."""
    from scipy.stats import wilcoxon  # slow to import

    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences, zero_method="wilcox").pvalue)


def rank_biserial(differences: np.ndarray) -> float | None:
    """Ranks of the positive differences less those of the negative ones, over all ranks; equal values are left out."""
    from scipy.stats import rankdata  # slow to import

    nonzero = differences[differences != 0]
    if not len(nonzero):
        return None
    ranks = rankdata(np.abs(nonzero))
    return float((ranks[nonzero > 0].sum() - ranks[nonzero < 0].sum()) / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests, in the same order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _patient_means(cases: Values, patients: Mapping[str, str]) -> dict[str, float]:
    of_patient: dict[str, list[float]] = {}
    for case, value in cases.items():
        if value is not None:
            of_patient.setdefault(patients[case], []).append(value)
    return {patient: sum(values) / len(values) for patient, values in of_patient.items()}
