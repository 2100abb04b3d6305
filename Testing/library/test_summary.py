"""Means and their confidence intervals."""

import numpy as np
import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.summary import summarise


def test_mean_and_spread_leave_out_what_does_not_exist():
    summary = summarise([0.5, None, 0.7, 0.9])
    assert (summary.count, summary.absent) == (3, 1)
    assert summary.mean == pytest.approx(0.7)
    assert summary.sd == pytest.approx(0.2)
    assert (summary.median, summary.lowest, summary.highest) == (0.7, 0.5, 0.9)
    assert summarise([None, None]) is None


def test_the_interval_of_two_values_by_hand():
    summary = summarise([0.0, 1.0])  # of 4 equally likely draws one is (0, 0) and one (1, 1): both ends are reached
    assert (summary.ci_low, summary.ci_high) == (0, 1)
    assert summarise([0.4]).ci_low is None
    assert summarise([0.4]).sd is None


def test_the_interval_repeats_itself_and_narrows_as_theory_says():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400).tolist()
    summary = summarise(values, seed=1)
    assert summary == summarise(values, seed=1)
    standard_error = summary.sd / 20
    assert summary.ci_high - summary.ci_low == pytest.approx(2 * 1.96 * standard_error, rel=0.08)


def test_cases_of_one_patient_are_no_independent_witnesses():
    values = np.random.default_rng(0).normal(0.8, 0.1, 10).repeat(20).tolist()
    patients = [number // 20 for number in range(200)]
    alone, together = summarise(values), summarise(values, patients)
    assert alone.mean == together.mean
    width = together.ci_high - together.ci_low
    assert width > 3 * (alone.ci_high - alone.ci_low)  # 10 witnesses instead of 200: the square root of 20
    assert summarise([0.1, 0.9], ["one", "one"]).ci_low is None
    with pytest.raises(ConfigError, match="patients"):
        summarise([0.1], ["a", "b"])
