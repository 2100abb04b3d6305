"""The temperature that is fitted, against one that is known; bins against a hand-made answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mambasegment_training.calibration import (
    Answers,
    calibration_error,
    calibration_of,
    fit_temperature,
    gather_answers,
    negative_log_likelihood,
    reliability,
)
from mambasegment_training.data import CaseStore
from scipy.special import expit, softmax
from torch import nn


def honest_answers(temperature: float, *, regions: bool = False, count: int = 20_000) -> Answers:
    """Truth drawn from the probabilities that scores have at this temperature."""
    generator = np.random.default_rng(0)
    scores = 3 * generator.standard_normal((count, 3)).astype(np.float32)
    if regions:
        truth = generator.random(scores.shape) < expit(scores / temperature)
    else:
        cumulated = softmax(scores / temperature, axis=1).cumsum(axis=1)
        truth = (generator.random((count, 1)) > cumulated).sum(axis=1).clip(0, 2)
    return Answers(scores, truth, 4)


@pytest.mark.parametrize("regions", [False, True])
@settings(max_examples=8)
@given(temperature=st.floats(0.4, 4.0))
def test_the_temperature_that_made_the_truth_is_found(regions, temperature):
    answers = honest_answers(temperature, regions=regions)
    assert fit_temperature(answers) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("regions", [False, True])
def test_the_record_tells_before_and_after(regions):
    found = calibration_of(honest_answers(2.5, regions=regions))
    assert (found["cases"], found["voxels"]) == (4, 20_000)
    assert found["nll_after"] < found["nll_before"]
    assert found["ece_after"] < 0.02 < found["ece_before"]
    for bins in (found["bins"], found["bins_before"]):
        assert sum(entry["fraction"] for entry in bins) == pytest.approx(1)
        assert all(entry["from"] <= entry["confidence"] <= entry["to"] for entry in bins)


def test_bins_by_hand():
    """Four answers with 0.9 of which one is wrong, one with 0.58 that is right."""
    scores = np.log(np.array([[0.9, 0.1]] * 4 + [[0.42, 0.58]])).astype(np.float32)
    answers = Answers(scores, np.array([0, 0, 0, 1, 1]), 1)
    low, high = reliability(answers, 1.0)
    assert (low["from"], low["to"]) == pytest.approx((8 / 15, 9 / 15))
    assert (low["fraction"], low["confidence"], low["accuracy"]) == pytest.approx((0.2, 0.58, 1.0))
    assert (high["fraction"], high["confidence"], high["accuracy"]) == pytest.approx((0.8, 0.9, 0.75))
    assert calibration_error([low, high]) == pytest.approx(0.2 * 0.42 + 0.8 * 0.15)
    expected = -(3 * np.log(0.9) + np.log(0.1) + np.log(0.58)) / 5
    assert negative_log_likelihood(answers, 1.0) == pytest.approx(expected, rel=1e-5)


class Threshold(nn.Module):
    """Scores 0 and x, so that class 1 is where the image is positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0 * x, x], dim=1)


@pytest.fixture
def a_store(tmp_path):
    """One case: a plane of label 1 that the network finds, beside voxels to ignore."""
    labels = np.zeros((24, 8, 8), np.uint8)
    labels[4] = 1
    labels[6] = 9
    image = np.where(labels == 1, 2.0, -2.0).astype(np.float32)[None]
    for kind, array in (("image", image), ("labels", labels), ("foreground", np.zeros((0, 4), np.int32))):
        np.save(tmp_path / f"a.{kind}.npy", array)
    return CaseStore(tmp_path, ("a",), 2**30)


@pytest.mark.parametrize("regions", [(), ((7,), (1,))])
def test_only_voxels_near_what_is_there_are_asked(a_store, regions):
    how = {"regions": regions, "ignore_label": 9}
    answers = gather_answers([Threshold()], a_store, [1], (8, 8, 8), torch.device("cpu"), **how)
    assert len(answers.scores) == (10 - 1) * 64  # rows 0 to 9, less the one to ignore
    assert answers.truth.sum() == 64
    assert answers.regions == bool(regions)
    again = gather_answers([Threshold()], a_store, [1], (8, 8, 8), torch.device("cpu"), **how)
    np.testing.assert_array_equal(answers.scores, again.scores)


def test_nothing_to_ask_about_is_no_calibration(tmp_path):
    zeros = np.zeros((8, 8, 8), np.uint8)
    for kind, array in (
        ("image", zeros[None] - 1.0),
        ("labels", zeros),
        ("foreground", np.zeros((0, 4), np.int32)),
    ):
        np.save(tmp_path / f"a.{kind}.npy", array)
    store = CaseStore(tmp_path, ("a",), 2**30)
    assert calibration_of(gather_answers([Threshold()], store, [1], (8, 8, 8), torch.device("cpu"))) == {}
