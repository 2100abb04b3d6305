"""Paired statistics against answers worked out by hand and by other means."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mambasegment_training.study.paired import compare_all, holm, rank_biserial, wilcoxon_p

PATIENTS = {f"c{number}": f"p{number}" for number in range(6)}


def values(*numbers: float | None) -> dict[str, float | None]:
    return {f"c{number}": value for number, value in enumerate(numbers)}


def test_wilcoxon_by_counting_all_signs():
    differences = np.array([0.1, -0.2, 0.35, 0.4, 0.55, 0.6])
    ranks = np.arange(1, 7)  # of the absolute values, which ascend
    observed = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) for signs in product([0, 1], repeat=6)]
    expected = min(1.0, 2 * sum(value <= observed for value in sums) / 64)
    assert wilcoxon_p(differences) == pytest.approx(expected)
    assert wilcoxon_p(np.zeros(4)) == 1


def test_rank_biserial_by_hand():
    assert rank_biserial(np.array([0.1, 0.2, -0.3])) == pytest.approx((1 + 2 - 3) / 6)
    assert rank_biserial(np.array([0.2, 0.1, 0.0])) == 1
    assert rank_biserial(np.zeros(3)) is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_only_raises_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)


def test_every_pair_is_tested_and_the_sign_says_who_is_better():
    dice = {
        "a": values(0.8, 0.81, 0.82, 0.83, 0.84, 0.85),
        "b": values(0.7, 0.72, 0.74, 0.7, 0.75, 0.7),
        "c": values(0.8, 0.81, 0.82, 0.83, 0.84, 0.85),
    }
    tests = {(t.first, t.second): t for t in compare_all(dice, PATIENTS, metric="dice")}
    assert set(tests) == {("a", "b"), ("a", "c"), ("b", "c")}
    ab = tests["a", "b"]
    assert (ab.effect, ab.patients, ab.p, ab.p_holm) == (1, 6, 2 / 64, pytest.approx(3 * 2 / 64))
    assert ab.mean_difference == pytest.approx(np.mean([0.1, 0.09, 0.08, 0.13, 0.09, 0.15]))
    assert ab.ci_low < ab.mean_difference < ab.ci_high
    assert ab.smallest_p == 2 / 64
    assert (tests["a", "c"].p, tests["a", "c"].effect) == (1, None)
    turned = compare_all(dice, PATIENTS, metric="hd95_mm", lower_is_better=True)[0]
    assert turned.effect == -1


def test_cases_of_one_patient_count_once_and_missing_values_are_left_out():
    patients = {**PATIENTS, "c1": "p0"}
    (test,) = compare_all({"a": values(0.9, 0.7, 0.5, None), "b": values(0.6, 0.6, 0.4, 0.9)}, patients, metric="dice")
    assert test.patients == 2  # p0 with two cases, p2; c3 has a value on one side alone
    assert test.mean_difference == pytest.approx((0.2 + 0.1) / 2)
