"""Disagreement of members: against the formula, and through a whole prediction."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import MambaSegmentLib as ms
from MambaSegmentLib.api import Model
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.inference.entropy import Disagreement
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.manifest import Region
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from Testing.library.test_predictor import a_volume


def by_definition(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Entropy of the mean less the mean of entropies, over log(classes); (members, classes, ...) -> (...)."""
    odds = np.exp(logits.astype(np.float64) / temperature)
    members = odds / odds.sum(axis=1, keepdims=True)
    total = -(members.mean(0) * np.log(members.mean(0))).sum(0)
    each = -(members * np.log(members)).sum(1).mean(0)
    return (total - each) / math.log(logits.shape[1])


def measured(logits: np.ndarray, **how) -> np.ndarray:
    disagreement = Disagreement(**how)
    for member in logits:
        disagreement.add(torch.from_numpy(member)[None])
    return disagreement.result()[0, 0].numpy()


@given(members=st.integers(1, 5), classes=st.integers(2, 6), seed=st.integers(0, 99))
def test_it_is_the_mutual_information(members, classes, seed):
    logits = 3 * np.random.default_rng(seed).standard_normal((members, classes, 2, 3, 4)).astype(np.float32)
    found = measured(logits, temperature=1.7)
    np.testing.assert_allclose(found, by_definition(logits, 1.7), atol=2e-6)


def test_members_that_agree_and_members_that_are_sure_of_different_things():
    unsure = np.zeros((2, 2, 1, 1, 1), np.float32)
    assert measured(unsure).item() == pytest.approx(0, abs=1e-6)  # both say half and half: nothing to disagree about
    opposed = np.array([[80.0, -80.0], [-80.0, 80.0]], np.float32).reshape(2, 2, 1, 1, 1)
    assert measured(opposed).item() == pytest.approx(1)
    assert measured(opposed[:, :1], regions=True).item() == pytest.approx(1)
    assert measured(opposed, regions=True).item() == pytest.approx(1)


def test_one_tile_does_not_leak_into_the_next():
    disagreement = Disagreement()
    for member in (40.0, -40.0):
        disagreement.add(torch.tensor([member, 0.0]).reshape(1, 2, 1, 1, 1))
    assert disagreement.result().item() == pytest.approx(1)
    disagreement.clear()
    disagreement.add(torch.tensor([40.0, 0.0]).reshape(1, 2, 1, 1, 1))
    assert disagreement.result().item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def a_model(a_tiny_bundle, tmp_path):
    def make(quality="best", folds=None, **changes) -> Model:
        bundle = a_tiny_bundle(**changes)
        predictor = Predictor(bundle, "cpu", quality=quality, folds=folds)
        return Model(tmp_path / "m.safetensors", bundle.manifest, predictor, 0.0)

    return make


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 9, 7), (20, 9, 9)])
def test_a_volume_of_it_and_a_mean_for_each_segment(a_model, tmp_path, shape, regions):
    """Two folds of the tiny network, whose answers do not depend on where a tile lies; labels stay what they were."""
    outputs = (Region("never", (7,), 1), Region("whole", (1, 5), 1), Region("core", (5,), 5)) if regions else ()
    model = a_model(weights=(0.6, 1.6), calibration={"temperature": 0.5}, regions=outputs)
    volume = a_volume(shape, spacing_mm=(0.5, 0.7, 3.0))
    extras = ms.Extras(disagreement=tmp_path / "d.nrrd", uncertainty=tmp_path / "u.nrrd")
    result = model.segment(volume, extras=extras)
    x = volume.array[None]
    logits = np.stack([np.stack([0 * x[0], w * x[0] - 0.5, 2 * w * x[0] - 2]) for w in (0.6, 1.6)])
    if regions:
        each = [by_definition(np.stack([z, 0 * z], axis=1), 0.5) for z in logits.transpose(1, 0, 2, 3, 4)]
        expected = np.mean(each, axis=0)
    else:
        expected = by_definition(logits, 0.5)
    found = read_volume(tmp_path / "d.nrrd")
    assert found.same_grid(volume, 1e-9)
    np.testing.assert_allclose(found.array, expected, atol=1e-5)
    assert expected.max() > 0.02
    np.testing.assert_array_equal(result.labels.array, model.segment(volume).labels.array)
    for value in {*np.unique(result.labels.array).tolist()} - {0}:
        mean = expected[result.labels.array == value].mean()
        assert result.measures[value]["mean_disagreement"] == pytest.approx(mean, abs=1e-5)
        assert result.measures[value]["mean_uncertainty"] > 0


def test_scores_restored_by_a_spline_bring_it_back_too(a_model, tmp_path):
    spec = PreprocessingSpec((Normalization("none"),), spacing_mm=(1.4, 1.0, 1.7), score_orders=(3, None))
    model, volume = a_model(weights=(0.6, 1.6), preprocessing=spec), a_volume((11, 12, 13))
    result = model.segment(volume, extras=ms.Extras(disagreement=tmp_path / "d.nrrd"))
    found = read_volume(tmp_path / "d.nrrd").array
    assert 0 <= found.min() < found.max() <= 1
    np.testing.assert_array_equal(result.labels.array, model.segment(volume).labels.array)


def test_a_single_answer_has_nothing_to_disagree_with(a_model, tmp_path):
    extras = ms.Extras(disagreement=tmp_path / "d.nrrd")
    with pytest.raises(ConfigError, match=r"several answers.*gives one"):
        a_model().segment(a_volume(), extras=extras)
    assert not (tmp_path / "d.nrrd").exists()
    a_model(mirror_axes=(0,)).segment(a_volume(), extras=extras)
    a_model("balanced", mirror_axes=(0,)).segment(a_volume(), extras=extras)
    with pytest.raises(ConfigError, match="several answers"):
        a_model("fast", mirror_axes=(0,)).segment(a_volume(), extras=extras)
