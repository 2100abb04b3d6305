"""The temperature of a model, in its file or in one beside it."""

import json

import numpy as np
import pytest

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.calibration import check_calibrations, read_calibration, temperature, write_calibration
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import BundleError, ConfigError, ImageError
from MambaSegmentLib.image_io import read_volume, write_volume


@pytest.fixture
def a_written_model(a_tiny_bundle, tmp_path):
    def write(name="tiny", **changes):
        bundle = a_tiny_bundle(name=name, **changes)
        path = tmp_path / f"{name}.safetensors"
        return path, write_bundle(path, bundle.manifest, bundle.folds)

    return write


def test_a_file_takes_the_place_of_the_models_own(a_written_model, tmp_path):
    path, manifest = a_written_model(calibration={"temperature": 2.0})
    file = tmp_path / "c.json"
    write_calibration(file, manifest, {"temperature": 3.0, "cases": 4})
    assert read_calibration(file)["calibration"] == {"temperature": 3.0, "cases": 4}
    assert (temperature(manifest), temperature(manifest, [file])) == (2.0, 3.0)
    image = ms.Volume(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32) * 2)
    means = []
    for calibrations in ((), (file,)):
        extras = ms.Extras(uncertainty=tmp_path / "u.nrrd", calibrations=calibrations)
        means.append(ms.segment(image, model=path, device="cpu", extras=extras).measures[1]["mean_uncertainty"])
    assert means[1] > means[0]


def test_a_file_of_another_model_is_refused_by_name(a_written_model, tmp_path, capsys):
    _, other = a_written_model("other", weights=(2.0,))
    path, manifest = a_written_model()
    file, image = tmp_path / "c.json", tmp_path / "i.nrrd"
    write_calibration(file, other, {"temperature": 3.0})
    write_volume(ms.Volume(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32)), image)
    with pytest.raises(ConfigError, match=r"fitted for another model \(other, sha256 [0-9a-f]{12}…\), and tiny 1"):
        ms.segment(image, model=path, device="cpu", extras=ms.Extras(calibrations=(file,)))
    output = tmp_path / "o.nrrd"
    assert main(["segment", str(image), "-m", str(path), "-o", str(output), "--calibration", str(file)]) == 2
    assert "another model" in capsys.readouterr().err
    assert not output.exists()
    write_calibration(file, manifest, {"temperature": 3.0})
    with pytest.raises(ConfigError, match="both calibrate tiny"):
        check_calibrations([file, file], [manifest])
    with pytest.raises(ImageError, match="a calibration that is read"):
        ms.segment(image, model=path, device="cpu", extras=ms.Extras(sidecar=file, calibrations=(file,)))
    write_volume(read_volume(image), output)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no JSON"),
        ("[" * 100_000, "holds no JSON"),
        ("[]", '"format": "mambasegment-calibration"'),
        ({"schema_version": 2}, "schema_version 2"),
        ({"model": {"name": "tiny"}}, "does not say whose"),
        ({"model": 3}, "does not say whose"),
        ({"calibration": {"temperature": 0}}, "no temperature"),
        ({"calibration": {"temperature": True}}, "no temperature"),
        ({"calibration": {"temperature": "1"}}, "no temperature"),
        ({"calibration": []}, "no temperature"),
        (json.dumps({"format": " " * (1 << 21)}), "holds no JSON of at most 1048576 bytes"),
    ],
)
def test_what_is_no_calibration_says_why(tmp_path, text, says):
    good = {
        "format": "mambasegment-calibration",
        "schema_version": 1,
        "model": {"name": "tiny", "sha256": "0" * 64},
        "calibration": {"temperature": 1.5},
    }
    file = tmp_path / "c.json"
    file.write_text(text if isinstance(text, str) else json.dumps({**good, **text}))
    with pytest.raises(ConfigError, match=says):
        read_calibration(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")
    file.write_text(json.dumps(good))
    assert read_calibration(file) == good


def test_a_model_that_was_never_written_has_no_checksum_to_refer_to(a_manifest, tmp_path):
    with pytest.raises(ConfigError, match="no checksum yet"):
        write_calibration(tmp_path / "c.json", a_manifest(), {"temperature": 1.0})
    with pytest.raises(BundleError, match="holds the temperature -1"):
        temperature(a_manifest(calibration={"temperature": -1}))
