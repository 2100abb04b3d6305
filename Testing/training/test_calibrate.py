"""A temperature for a model file on cases of one's own: that of the export on its cases, and what is written."""

import dataclasses
from pathlib import Path

import pytest
from mambasegment_training.cli import main
from mambasegment_training.evaluation import calibrate as calibrating
from mambasegment_training.evaluation.calibrate import calibrate
from mambasegment_training.evaluation.subject import read_subject
from mambasegment_training.export import export

from MambaSegmentLib.bundle import read_bundle, write_bundle
from MambaSegmentLib.calibration import read_calibration, temperature
from MambaSegmentLib.cli import main as mambasegment
from MambaSegmentLib.errors import ConfigError, ImageError

from .evaluation_runs import two_runs  # noqa: F401  (a fixture)

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def model(two_runs, tmp_path_factory) -> Path:  # noqa: F811
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    export(two_runs[0], path, device="cpu", with_cost=False)
    return path


def test_on_the_validation_cases_it_is_what_the_export_found(model, prepared, tmp_path):
    found = calibrate(read_subject(model, data=prepared.folder), tmp_path / "c.json", device="cpu")
    expected = dict(read_bundle(model).manifest.calibration)
    assert found["cases"] == 2
    assert found.pop("measured_on") != expected.pop("measured_on")
    assert found.pop("dataset") == "boxes"
    assert found.keys() == expected.keys()
    for key in ("cases", "voxels", "bins", "bins_before"):
        assert found[key] == expected[key], key
    for key in ("temperature", "nll_after", "ece_before", "ece_after"):
        assert found[key] == pytest.approx(expected[key], rel=1e-9), key


def test_the_file_and_its_picture_are_written_and_used(model, prepared, tmp_path, capsys):
    raw = prepared.sources["case_000"][0].parent.parent
    output = tmp_path / "mine.json"
    assert main(["calibrate", str(model), str(raw), "-o", str(output), "--device", "cpu", "--quiet"]) == 0
    document, manifest = read_calibration(output), read_bundle(model).manifest
    found = document["calibration"]
    assert (found["cases"], document["model"]["sha256"]) == (6, manifest.sha256)
    assert temperature(manifest, [output]) == found["temperature"] != manifest.calibration["temperature"]
    said = capsys.readouterr().out
    assert f"temperature {found['temperature']:.4g} (in the model file: " in said
    assert f"error {found['ece_before']:.4f} without it, {found['ece_after']:.4f} with it" in said
    assert output.with_suffix(".png").read_bytes()[:4] == PNG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.png"]
    image, unsure = str(prepared.sources["case_000"][0]), tmp_path / "u.nrrd"
    how = ["-m", str(model), "-o", str(tmp_path / "o.nrrd"), "--uncertainty", str(unsure), "--device", "cpu"]
    assert mambasegment(["segment", image, *how, "--calibration", str(output), "--quiet"]) == 0


def test_folds_answer_together(model, prepared, tmp_path):
    """Two equal folds are as sure as one; each alone would be asked twice as often."""
    bundle = read_bundle(model)
    twice = tmp_path / "twice.safetensors"
    write_bundle(twice, dataclasses.replace(bundle.manifest, sha256=None), [*bundle.folds, *bundle.folds])
    one, two = (
        calibrate(read_subject(path, data=prepared.folder), tmp_path / f"{path.stem}.json", device="cpu")
        for path in (model, twice)
    )
    assert two["voxels"] == one["voxels"]
    assert two["temperature"] == pytest.approx(one["temperature"], rel=1e-4)


def test_cases_that_were_trained_on_are_told(model, prepared, tmp_path, capsys):
    how = ["-o", str(tmp_path / "c.json"), "--device", "cpu", "--cases", "all"]
    assert main(["calibrate", str(model), str(prepared.folder), *how]) == 0
    told = capsys.readouterr().err
    assert "warning: 4 of these cases are for training" in told
    assert "calibrate 0/6" in told


def test_what_cannot_be_is_refused_before_it_predicts(model, two_runs, prepared, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(calibrating, "_answers", lambda *_: pytest.fail("it predicts"))
    subject = read_subject(model, data=prepared.folder)
    with pytest.raises(ConfigError, match=r"is a run.*`mambatrain export`"):
        calibrate(read_subject(two_runs[0]), tmp_path / "c.json")
    with pytest.raises(ConfigError, match=r"must end in \.json"):
        calibrate(subject, tmp_path / "c.png")
    with pytest.raises(ConfigError, match="create it first"):
        calibrate(subject, tmp_path / "absent" / "c.json")


def test_nothing_to_ask_about_is_told_and_writes_nothing(model, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrating, "calibration_of", lambda _: {})  # as test_calibration.py shows it to be then
    with pytest.raises(ConfigError, match=r"none of the 2 cases .* nothing to fit"):
        calibrate(read_subject(model, data=prepared.folder), tmp_path / "c.json", device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_damaged_case_names_its_file(model, prepared, tmp_path):
    raw = prepared.sources["case_000"][0].parent.parent
    boxes = tmp_path / "boxes"
    for kind in ("images", "labels"):
        (boxes / kind).mkdir(parents=True)
        for path in (raw / kind).iterdir():
            (boxes / kind / path.name).write_bytes(path.read_bytes())
    (boxes / "images" / "case_001.nii.gz").write_bytes(b"no image")
    with pytest.raises(ImageError, match="case_001"):
        calibrate(read_subject(model, data=boxes), tmp_path / "c.json", device="cpu")
    assert not (tmp_path / "c.json").exists()
