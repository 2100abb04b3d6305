import numpy as np
import pytest

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import Channel, write_bundle
from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError, ImageError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec


@pytest.fixture
def a_model_file(tmp_path, a_tiny_bundle):
    def write(**changes):
        bundle = a_tiny_bundle(**changes)
        path = tmp_path / f"{bundle.manifest.name}.safetensors"
        write_bundle(path, bundle.manifest, bundle.folds)
        return path

    return write


@pytest.fixture
def an_image(tmp_path):
    array = np.random.default_rng(0).random((5, 6, 7), dtype=np.float32) * 2
    path = tmp_path / "t1.nii.gz"
    write_volume(ms.Volume(array, spacing_mm=(0.5, 1.0, 2.0)), path)
    return path


def test_a_volume_a_path_and_a_mapping_give_the_same(a_model_file, an_image):
    model = ms.load_model(a_model_file(), device="cpu")
    results = [
        model.segment(images)
        for images in (read_volume(an_image), an_image, str(an_image), [an_image], {"T1": an_image})
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result.labels.array, results[0].labels.array)
    assert set(results[0].labels.array.ravel().tolist()) == {0, 1, 5}
    assert list(results[1].timings) == ["load_model", "read", "preprocess", "network", "restore"]
    assert min(results[1].timings.values()) >= 0


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha"])
def test_the_one_liner_writes(tmp_path, a_model_file, an_image, ending):
    output = tmp_path / f"labels{ending}"
    result = ms.segment(an_image, model=a_model_file(), output=output, device="cpu")
    written = read_volume(output)
    np.testing.assert_array_equal(written.array, result.labels.array)
    assert written.same_grid(read_volume(an_image))
    assert result.timings["write"] > 0


def test_a_mapping_is_put_into_the_models_order(a_model_file, an_image, tmp_path):
    spec = PreprocessingSpec((Normalization("none"), Normalization("rescale_0_1")))
    path = a_model_file(channels=(Channel("T1"), Channel("FLAIR")), preprocessing=spec)
    other = tmp_path / "flair.nii.gz"
    write_volume(read_volume(an_image).with_array(np.arange(210, dtype=np.float32).reshape(5, 6, 7)), other)
    model = ms.load_model(path, device="cpu")
    expected = model.segment([an_image, other]).labels.array
    np.testing.assert_array_equal(model.segment({"FLAIR": other, "T1": an_image}).labels.array, expected)
    assert not np.array_equal(model.segment([other, an_image]).labels.array, expected)
    with pytest.raises(ConfigError, match="takes the channel"):
        model.segment({"T1": an_image, "T2": other})
    with pytest.raises(ConfigError, match=r"2 image\(s\) \(T1, FLAIR, in this order\); 1 given"):
        model.segment(an_image)


def test_the_output_is_checked_before_anything_else(tmp_path, an_image):
    with pytest.raises(ImageError, match="ending"):
        ms.segment(an_image, model=tmp_path / "no such model.safetensors", output=tmp_path / "labels.jpg")
    with pytest.raises(BundleError):
        ms.segment(an_image, model=tmp_path / "no such model.safetensors", output=tmp_path / "labels.nrrd")


def test_progress_names_all_stages_in_order(a_model_file, an_image, tmp_path):
    stages = []

    def collect(report):
        if report.stage not in stages:
            stages.append(report.stage)

    ms.segment(an_image, model=a_model_file(), output=tmp_path / "l.nrrd", device="cpu", progress=collect)
    assert stages == ["read", "preprocess", "network", "restore", "write"]


def test_cancelled_before_it_began_leaves_no_file(a_model_file, an_image, tmp_path):
    token = ms.CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        ms.segment(an_image, model=a_model_file(), output=tmp_path / "l.nrrd", device="cpu", cancel=token)
    assert not (tmp_path / "l.nrrd").exists()


def test_a_constant_image_and_a_missing_one(a_model_file, tmp_path):
    model = ms.load_model(a_model_file(), device="cpu")
    with pytest.raises(ImageError, match="every voxel"):
        model.segment(ms.Volume(np.ones((4, 4, 4))))
    with pytest.raises(ImageError, match="does not exist"):
        model.segment(tmp_path / "none.nii.gz")
