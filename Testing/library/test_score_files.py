"""Uncertainty and probabilities as files: against the formula on the whole volume, whatever the way back."""

import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st

from MambaSegmentLib.api import Model
from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError, ImageError, ResourceError
from MambaSegmentLib.extras import Extras
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.inference.score_files import class_entropy, region_entropy
from MambaSegmentLib.manifest import Region
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.volume import Volume
from Testing.library.test_predictor import a_volume


@pytest.fixture
def a_model(a_tiny_bundle, tmp_path):
    def make(**changes) -> Model:
        bundle = a_tiny_bundle(**changes)
        return Model(tmp_path / "m.safetensors", bundle.manifest, Predictor(bundle, "cpu"), 0.0)

    return make


def tiny_probabilities(array: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of TinyNet's scores 0, x - 0.5, 2 x - 2: (3, K, J, I)."""
    x = array.astype(np.float64)
    odds = np.exp(np.stack([0 * x, x - 0.5, 2 * x - 2]) / temperature)
    return odds / odds.sum(axis=0)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(probabilities)).sum(axis=0) / math.log(len(probabilities))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_files_hold_the_formula_on_the_grid_of_the_image(a_model, tmp_path, temperature):
    direction = (0, 1, 0, 0, 0, -1, -1, 0, 0)
    volume = a_volume((5, 9, 7), spacing_mm=(0.5, 0.7, 3.0), origin_mm=(1.0, 2.0, 3.0), direction=direction)
    model = a_model(calibration={"temperature": temperature} if temperature != 1 else {})
    extras = Extras(uncertainty=tmp_path / "u.nrrd", probabilities=tmp_path / "p.nrrd")
    result = model.segment(volume, extras=extras)
    expected = tiny_probabilities(volume.array, temperature)
    found = read_volume(tmp_path / "u.nrrd")
    assert found.same_grid(volume, 1e-9)
    np.testing.assert_allclose(found.array, entropy(expected), atol=1e-6)
    voxels, header = nrrd.read(str(tmp_path / "p.nrrd"))
    np.testing.assert_allclose(voxels.transpose(3, 2, 1, 0), expected, atol=1e-6)
    assert [header[f"class {n}"] for n in range(3)] == ["background", "Anterior", "Posterior"]
    for value in (1, 5):
        mean = float(entropy(expected)[result.labels.array == value].mean())
        assert result.measures[value]["mean_uncertainty"] == pytest.approx(mean, abs=1e-6)


def test_itk_reads_the_probabilities_in_place(a_model, tmp_path):
    volume = a_volume((5, 9, 7), spacing_mm=(0.5, 0.7, 3.0), origin_mm=(1.0, 2.0, 3.0))
    a_model().segment(volume, extras=Extras(probabilities=tmp_path / "p.nrrd"))
    image = sitk.ReadImage(str(tmp_path / "p.nrrd"))
    assert (image.GetSize(), image.GetNumberOfComponentsPerPixel()) == ((7, 9, 5), 3)
    assert (image.GetSpacing(), image.GetOrigin()) == ((0.5, 0.7, 3.0), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(
        np.moveaxis(sitk.GetArrayFromImage(image), -1, 0), tiny_probabilities(volume.array), atol=1e-6
    )


@pytest.mark.parametrize("score_orders", [(1, None), (0, None), (3, None)])
def test_labels_are_those_of_the_largest_probability(a_model, a_turned_crop, tmp_path, score_orders):
    """Scores are resampled once and both answers made of them; outside the crop the background is sure."""
    volume, preprocessing = a_turned_crop
    preprocessing = replace(preprocessing, score_orders=score_orders)
    extras = Extras(uncertainty=tmp_path / "u.nrrd", probabilities=tmp_path / "p.nrrd")
    result = a_model(preprocessing=preprocessing).segment(volume, extras=extras)
    probabilities = nrrd.read(str(tmp_path / "p.nrrd"))[0].transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(np.array([0, 1, 5])[probabilities.argmax(axis=0)], result.labels.array)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    outside = volume.array == 0
    assert outside.any()
    assert (probabilities[0][outside] == 1).all()
    uncertainty = read_volume(tmp_path / "u.nrrd").array
    assert (uncertainty[outside] == 0).all()
    assert (uncertainty[~outside] > 0).all()


def test_regions_have_sigmoids_and_the_mean_of_their_entropies(a_model, tmp_path):
    regions = (Region("zero", (0, 1), 1), Region("one", (1, 5), 1), Region("two", (5,), 5))
    volume = a_volume((4, 4, 4))
    extras = Extras(uncertainty=tmp_path / "u.nrrd", probabilities=tmp_path / "p.nrrd")
    a_model(regions=regions).segment(volume, extras=extras)
    x = volume.array.astype(np.float64)
    yes = 1 / (1 + np.exp(-np.stack([0 * x, x - 0.5, 2 * x - 2])))
    bits = -(yes * np.log2(yes) + (1 - yes) * np.log2(1 - yes))
    np.testing.assert_allclose(nrrd.read(str(tmp_path / "p.nrrd"))[0].transpose(3, 2, 1, 0), yes, atol=1e-6)
    np.testing.assert_allclose(read_volume(tmp_path / "u.nrrd").array, bits.mean(axis=0), atol=1e-5)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=9))
def test_entropy_is_between_0_and_1_for_any_scores(scores):
    column = torch.tensor(scores)[:, None, None]
    for value in (class_entropy(column), region_entropy(column)):
        assert 0 <= value.item() <= 1


def test_entropy_at_its_ends():
    alike, sure = torch.zeros(4, 1, 1), torch.tensor([100.0, 0, 0, 0])[:, None, None]
    assert class_entropy(alike).item() == pytest.approx(1)
    assert class_entropy(sure).item() == pytest.approx(0, abs=1e-6)
    assert region_entropy(alike).item() == pytest.approx(1)
    assert region_entropy(torch.full((2, 1, 1), -100.0)).item() == pytest.approx(0, abs=1e-6)


def test_a_disk_that_is_too_small_is_refused_before_work(a_model, tmp_path, monkeypatch):
    """A stand-in for a full disk: the system says that 65 MB are free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=65_000_000))
    with pytest.raises(ResourceError, match=r"need 6\.14e-06 GB in .*, and 0\.065 GB are free"):
        a_model().segment(a_volume(), extras=Extras(probabilities=tmp_path / "p.nrrd"))
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_is_cancelled_leaves_no_file(a_model, tmp_path):
    cancel = CancelToken()
    extras = Extras(uncertainty=tmp_path / "u.nrrd", probabilities=tmp_path / "p.nrrd")
    with pytest.raises(Cancelled):
        a_model().segment(
            a_volume((30, 8, 8)),
            extras=extras,
            cancel=cancel,
            progress=lambda p: cancel.cancel() if p.stage == "network" else None,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("temperature", [0, -1, True, "2", float("nan"), None])
def test_a_temperature_that_makes_no_sense_is_refused(a_model, tmp_path, temperature):
    model = a_model(calibration={"temperature": temperature})
    with pytest.raises(BundleError, match="temperature"):
        model.segment(a_volume(), extras=Extras(uncertainty=tmp_path / "u.nrrd"))


def test_wrong_names_are_refused(tmp_path):
    image = tmp_path / "i.nrrd"
    image.touch()
    with pytest.raises(ImageError, match="input image"):
        Extras(uncertainty=image).check(None, [image])
    with pytest.raises(ImageError, match=r"supported ones, \.nrrd"):
        Extras(probabilities=tmp_path / "p.nii.gz").check(None, [])
    with pytest.raises(ConfigError, match="two different outputs"):
        Extras(uncertainty=tmp_path / "o.nrrd").check(tmp_path / "o.nrrd", [])


@pytest.fixture
def a_turned_crop(a_manifest):
    """A volume whose axes are turned before the network, cropped to what is not 0, and resampled."""
    array = np.zeros((6, 10, 8), np.float32)
    array[1:5, 2:9, 3:7] = np.random.default_rng(3).random((4, 7, 4), dtype=np.float32) + 0.7
    volume = Volume(array, spacing_mm=(1.0, 1.0, 2.0))
    spec = a_manifest().preprocessing
    return volume, replace(spec, axis_order=(2, 0, 1), spacing_mm=(1.3, 1.5, 0.8), crop="nonzero")
