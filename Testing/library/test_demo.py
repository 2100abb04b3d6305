"""The demo with a tiny model that thresholds; `test_the_shipped_model` uses the real one."""

import json

import numpy as np
import pytest
from PIL import Image

from MambaSegmentLib import demo
from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.errors import BundleError, Cancelled, ImageError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.phantom import hippocampus_phantom
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume


@pytest.fixture
def a_model_file(tmp_path, a_tiny_bundle):
    segments = (SegmentInfo(1, "Head", (1.0, 0.5, 0.2)), SegmentInfo(2, "Body and tail", (0.2, 0.7, 0.9)))
    spec = PreprocessingSpec((Normalization("zscore"),))
    bundle = a_tiny_bundle(segments=segments, preprocessing=spec, patch_size=(40, 56, 40))
    path = tmp_path / "tiny.safetensors"
    write_bundle(path, bundle.manifest, bundle.folds)
    return path


def test_the_phantom_is_segmented_measured_and_shown(tmp_path, a_model_file):
    folder = tmp_path / "new" / "folder"
    stages = []
    summary = demo.run(folder, model=a_model_file, device="cpu", progress=lambda report: stages.append(report.stage))
    names = ["phantom-overlay.png", "phantom-segmentation.nii.gz", "phantom-segmentation.seg.nrrd", "phantom.nii.gz"]
    assert sorted(path.name for path in summary.files) == names
    assert sorted(path.name for path in folder.iterdir()) == names
    assert list(dict.fromkeys(stages)) == [
        "draw", "read", "preprocess", "network", "restore", "write", "picture",
    ]  # fmt: skip
    assert set(summary.timings_s) == {*stages, "load_model"}
    phantom = hippocampus_phantom(0)
    labels = read_volume(folder / "phantom-segmentation.nii.gz")
    assert labels.same_grid(phantom.truth, tolerance_mm=1e-2)
    for segment in summary.segments:
        assert segment.voxels == np.count_nonzero(labels.array == segment.value)
        assert segment.volume_ml == pytest.approx(segment.voxels / 1000)
        truth = phantom.truth.array == segment.value
        common = np.count_nonzero((labels.array == segment.value) & truth)
        assert segment.dice == pytest.approx(2 * common / (segment.voxels + truth.sum()))
    with Image.open(folder / "phantom-overlay.png") as picture:
        assert picture.size[0] > 1000


def test_a_second_run_replaces_the_first(tmp_path, a_model_file):
    first, second = (demo.run(tmp_path / "out", model=a_model_file, device="cpu") for _ in range(2))
    assert first.files == second.files
    assert first.segments == second.segments


def test_an_image_of_ones_own_has_no_truth_and_is_left_alone(tmp_path, a_model_file):
    image = tmp_path / "out" / "my case.nii.gz"
    image.parent.mkdir()
    write_volume(Volume(hippocampus_phantom(1).image.array, spacing_mm=(1, 1, 2)), image)
    before = image.read_bytes()
    summary = demo.run(tmp_path / "out", image=image, model=a_model_file, device="cpu")
    assert image.read_bytes() == before
    assert {path.name for path in summary.files} == {
        "my case-segmentation.seg.nrrd", "my case-segmentation.nii.gz", "my case-overlay.png",
    }  # fmt: skip
    assert summary.mean_dice is None
    assert summary.segments[0].volume_ml == pytest.approx(summary.segments[0].voxels * 2 / 1000)
    assert not any("Dice" in line for line in summary.lines())


def test_the_summary_says_what_a_person_wants_to_know(tmp_path):
    summary = demo.DemoSummary(
        subject="a synthetic hippocampus (seed 0)",
        model="hippocampus-t1",
        version="1",
        device="cpu",
        segments=(demo.SegmentSummary(1, "Head", 1610, 1.61, 0.871), demo.SegmentSummary(2, "Tail", 0, 0.0, 0.001)),
        timings_s={"load_model": 0.5, "network": 2.25},
        files=(tmp_path / "phantom-overlay.png",),
    )
    text = "\n".join(summary.lines())
    for expected in ("Head", "1.61 mL", "0.871", "0.436", "load model 0.50 s", "together 2.8 s", "phantom-overlay.png"):
        assert expected in text
    assert "Research use only" in text
    assert json.loads(json.dumps(summary.to_json()))["mean_dice"] == pytest.approx(0.436)


def test_a_cancelled_demo_stops(tmp_path, a_model_file):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        demo.run(tmp_path / "out", model=a_model_file, cancel=token)


def test_what_cannot_be_used_is_refused(tmp_path, a_model_file):
    with pytest.raises(BundleError):
        demo.run(tmp_path / "out", model="no-such-model")
    with pytest.raises(ImageError, match="does not exist"):
        demo.run(tmp_path / "out", image=tmp_path / "missing.nii.gz", model=a_model_file)
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    with pytest.raises(ImageError, match="cannot make the folder"):
        demo.run(occupied, model=a_model_file)


def test_the_shipped_model_finds_the_phantoms_hippocampus(tmp_path, repository):
    """The real model, trained on real volumes."""
    path = repository / "MambaSegment" / "Resources" / "Models" / f"{demo.DEFAULT_MODEL}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in this checkout")
    summary = demo.run(tmp_path, model=path, device="cpu")
    assert all(segment.dice is not None and segment.dice >= 0.75 for segment in summary.segments)
    assert summary.mean_dice is not None
    assert summary.mean_dice >= 0.8
