"""The diagram of a model's calibration, drawn from its file alone."""

import numpy as np
import pytest
from PIL import Image

from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.reliability import draw_reliability_diagram

BAR = (66, 118, 184)


def bins(accuracy: float) -> list[dict[str, float]]:
    return [{"from": 0.8, "to": 0.9, "fraction": 1.0, "confidence": 0.85, "accuracy": accuracy}]


CALIBRATION = {
    "temperature": 1.6,
    "cases": 3,
    "voxels": 12345,
    "ece_before": 0.25,
    "ece_after": 0.0,
    "bins_before": bins(0.6),
    "bins": bins(0.85),
}


def test_a_bar_is_as_high_as_the_accuracy(a_manifest):
    picture = np.asarray(draw_reliability_diagram(a_manifest(calibration=CALIBRATION)))
    blue = (picture == BAR).all(axis=2)[118:638]  # the rows of the panels
    left, right = blue[:, :640].any(axis=1), blue[:, 640:].any(axis=1)
    assert left.sum() == pytest.approx(0.6 * 520, abs=6)
    assert right.sum() == pytest.approx(0.85 * 520, abs=6)


def test_the_shell_draws_it_and_tells_the_temperature(a_tiny_bundle, tmp_path, capsys):
    bundle = a_tiny_bundle(calibration=CALIBRATION, quality_modes={"fast": {"dice_difference": -0.0123}})
    model, png = tmp_path / "tiny.safetensors", tmp_path / "r.png"
    write_bundle(model, bundle.manifest, bundle.folds)
    assert main(["models", "info", str(model), "--no-counts", "--reliability", str(png)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "temperature 1.6, cases 3" in said
    assert "bins" not in said
    assert "quality fast dice difference -0.0123" in said
    with Image.open(png) as picture:
        assert picture.format == "PNG"
    assert main(["models", "info", str(model), "--no-counts", "--reliability", str(tmp_path / "r.jpg")]) == 2
    assert "ending" in capsys.readouterr().err
    assert main(["models", "info", "--architecture", "tiny", "--reliability", str(png)]) == 2
    assert "belongs to a MODEL" in capsys.readouterr().err


@pytest.mark.parametrize("calibration", [{}, {"temperature": 2.0}, {"bins": bins(1), "bins_before": [3]}])
def test_a_model_without_measured_bins(a_manifest, calibration):
    with pytest.raises(ConfigError, match="was not measured"):
        draw_reliability_diagram(a_manifest(calibration=calibration))
