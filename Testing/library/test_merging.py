"""Several models, one result: painted by priority, with values and names of their own."""

import json
from dataclasses import replace

import numpy as np
import pytest

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import Channel, write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ConfigError, GeometryError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.merging import channels_of_all, merge_segments, model_names, paint
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import Code, SegmentInfo, Terminology

LIVER = Terminology(Code("SCT", "123037004", "Anatomical Structure"), Code("SCT", "10200004", "Liver"))
RED = (1.0, 0.0, 0.0)


@pytest.fixture
def write_model(tmp_path, a_tiny_bundle):
    """A file of the tiny network; class 1 is where 0.5 < weight x < 1.5, class 2 above."""

    def write(name="tiny", **changes):
        bundle = a_tiny_bundle(name=name, **changes)
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.safetensors"
        write_bundle(path, bundle.manifest, bundle.folds)
        return path

    return write


@pytest.fixture
def an_image(tmp_path):
    array = np.random.default_rng(0).random((9, 10, 11), dtype=np.float32) * 2
    path = tmp_path / "image.nrrd"
    write_volume(ms.Volume(array, spacing_mm=(0.5, 1.0, 2.0)), path)
    return path


def test_later_segments_count_on_and_names_tell_their_model(a_manifest):
    organs = a_manifest(name="organs", segments=(SegmentInfo(1, "Liver", RED, LIVER), SegmentInfo(7, "Spleen", RED)))
    lesions = a_manifest(name="lesions", segments=(SegmentInfo(1, "liver", RED), SegmentInfo(2, "Lesion", RED)))
    apart = a_manifest(name="vessels", segments=(SegmentInfo(20, "Aorta", RED),))
    merged = merge_segments([organs, lesions, apart])
    assert [(s.value, s.name) for s in merged.segments] == [
        (1, "Liver"), (7, "Spleen"), (8, "liver (lesions)"), (9, "Lesion"), (20, "Aorta"),
    ]  # fmt: skip
    assert merged.segments[0].terminology == LIVER
    assert [dict(values) for values in merged.values] == [{1: 1, 7: 7}, {1: 8, 2: 9}, {20: 20}]
    assert merged.owners == {1: 0, 7: 0, 8: 1, 9: 1, 20: 2}


def test_a_name_that_is_taken_twice_over_is_numbered(a_manifest):
    def named(value, *names):
        return a_manifest(name="m", segments=tuple(SegmentInfo(value + n, name, RED) for n, name in enumerate(names)))

    other = replace(named(5, "A"), name="other")
    merged = merge_segments([named(1, "A", "A (other)"), other])
    assert [segment.name for segment in merged.segments] == ["A", "A (other)", "A (other 2)"]


def test_models_of_one_name_are_told_apart(a_manifest):
    one = a_manifest()
    assert model_names([one, replace(one, version="2")]) == ["tiny 1", "tiny 2"]
    alike = [replace(one, sha256=digit * 64) for digit in "ab"]
    assert model_names(alike) == ["tiny 1 aaaaaaaa", "tiny 1 bbbbbbbb"]


def test_more_label_values_than_there_are(a_manifest):
    first = a_manifest(name="a", segments=(SegmentInfo(1, "A", RED), SegmentInfo(65535, "B", RED)))
    with pytest.raises(ConfigError, match=r"1\.\.65535"):
        merge_segments([first, a_manifest(name="b", segments=(SegmentInfo(1, "C", RED),))])


def test_channels_that_are_named_alike_stay_apart(a_manifest):
    spec = PreprocessingSpec((Normalization("none"),) * 2)
    alike = a_manifest(channels=(Channel("MR"), Channel("MR")), preprocessing=spec)
    assert channels_of_all([alike, a_manifest()]) == ["MR", "MR (2)", "T1"]


def test_painting_widens_where_it_must():
    target = np.array([[[0, 1, 2]]], np.uint8)
    over = np.array([[[0, 3, 0]]], np.uint8)
    assert paint(target, over, {3: 9}).tolist() == [[[0, 9, 2]]]
    wide = paint(target, over, {3: 300})
    assert (wide.tolist(), wide.dtype) == ([[[0, 300, 2]]], np.uint16)


def test_the_later_model_is_painted_over_the_earlier(write_model, an_image, tmp_path):
    organ, lesion = write_model("organ", weights=(1.0,)), write_model("lesion", weights=(0.5,))
    one, other = (ms.segment(an_image, model=model, device="cpu").labels.array for model in (organ, lesion))
    extras = ms.Extras(statistics=True, uncertainty=tmp_path / "u.nrrd", sidecar=tmp_path / "s.json")
    result = ms.segment(an_image, models=[organ, lesion], device="cpu", output=tmp_path / "o.seg.nrrd", extras=extras)
    np.testing.assert_array_equal(result.labels.array, np.where(other > 0, other + 5, one))
    assert [(s.value, s.name) for s in result.segments] == [
        (1, "Anterior"), (5, "Posterior"), (6, "Anterior (lesion)"), (10, "Posterior (lesion)"),
    ]  # fmt: skip
    assert {value: measures["model"] for value, measures in result.measures.items()} == {
        1: "organ", 5: "organ", 6: "lesion", 10: "lesion",
    }  # fmt: skip
    assert result.measures[6]["voxels"] == int((result.labels.array == 6).sum()) > 0
    unsure = []
    for model in (organ, lesion):
        ms.segment(an_image, model=model, device="cpu", extras=ms.Extras(uncertainty=tmp_path / "one.nrrd"))
        unsure.append(read_volume(tmp_path / "one.nrrd").array)
    np.testing.assert_array_equal(read_volume(tmp_path / "u.nrrd").array, np.maximum(*unsure))
    told = json.loads((tmp_path / "s.json").read_text())
    assert [model["name"] for model in told["models"]] == ["organ", "lesion"]
    assert [row["model"] for row in told["segments"]] == ["organ", "organ", "lesion", "lesion"]


def test_each_model_sees_its_own_channels_and_the_rest_is_left_alone(write_model, an_image, tmp_path):
    spec = PreprocessingSpec((Normalization("none"),) * 2)
    both = write_model("both", channels=(Channel("T1"), Channel("T2")), preprocessing=spec)
    single = write_model("single")
    zeros = read_volume(an_image).array * 0
    zeros[0, 0, 0] = 1e-6
    write_volume(read_volume(an_image).with_array(zeros), tmp_path / "t2.nrrd")
    images = {"T2": tmp_path / "t2.nrrd", "T1": an_image}
    result = ms.segment(images, models=[single, both], device="cpu")
    alone = ms.segment(an_image, model=single, device="cpu").labels.array
    np.testing.assert_array_equal(result.labels.array, np.where(alone > 0, alone + 5, 0))
    with pytest.raises(ConfigError, match=r"different images.*--channel NAME=FILE"):
        ms.segment([an_image, an_image], models=[single, both], device="cpu")
    with pytest.raises(ConfigError, match=r"take the channel\(s\) T1, T2; given: T1"):
        ms.segment({"T1": an_image}, models=[single, both], device="cpu")


def test_a_model_without_a_wanted_segment_is_not_even_loaded(write_model, an_image, monkeypatch):
    organ, lesion = write_model("organ"), write_model("lesion", weights=(0.5,))
    loaded = []
    monkeypatch.setattr("MambaSegmentLib.api.load_model", _recording(loaded))
    result = ms.segment(an_image, models=[organ, lesion], labels=["anterior (LESION)"], device="cpu")
    assert [path.name for path in loaded] == [lesion.name]
    assert set(np.unique(result.labels.array)) == {0, 6}
    assert [segment.name for segment in result.segments] == ["Anterior (lesion)"]


def _recording(paths):
    from MambaSegmentLib.api import load_model

    def load(path, *args, **keywords):
        paths.append(path)
        return load_model(path, *args, **keywords)

    return load


def test_quality_and_folds_for_all_or_for_each(write_model, an_image, tmp_path):
    organ, lesion = write_model("organ", weights=(1.0, 3.0)), write_model("lesion", weights=(0.5, 0.7))
    sidecar = tmp_path / "s.json"

    def used(**how):
        ms.segment(an_image, models=[organ, lesion], device="cpu", extras=ms.Extras(sidecar=sidecar), **how)
        options = [model["options"] for model in json.loads(sidecar.read_text())["models"]]
        return [(one["quality"], one["folds"]) for one in options]

    assert used(quality=["fast", "best"]) == [("fast", [0]), ("best", [0, 1])]
    assert used(folds=[1]) == [("best", [1]), ("best", [1])]
    assert used(folds=[None, [1, 0]], quality="fast") == [("fast", [0]), ("fast", [1, 0])]
    with pytest.raises(ConfigError, match=r"3 values of quality for 2 model\(s\)"):
        used(quality=["fast", "best", "fast"])


def test_what_cannot_be_merged_is_refused_before_any_work(write_model, an_image, tmp_path, capsys):
    model, other = write_model("organ"), write_model("lesion", weights=(0.5,))

    def said(*arguments):
        code = main(["segment", str(an_image), *map(str, arguments), "-o", str(tmp_path / "o.nrrd"), "--quiet"])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    assert "'organ' 1 is given twice" in said("-m", model, "-m", model)
    assert "several models" in said("-m", model, "-m", other, "--probabilities", tmp_path / "p.nrrd")
    assert "3 values of quality for 2" in said("-m", model, "-m", other, *["--quality", "fast"] * 3)
    assert "did you mean" in said("-m", model, "-m", other, "--labels", "Anterior (lesions)")
    assert "the model has fold 0 alone" in said("-m", model, "-m", other, "--folds", "0", "--folds", "1")
    with pytest.raises(ConfigError, match="either one model, or several"):
        ms.segment(an_image, model=model, models=[other])
    with pytest.raises(ConfigError, match="either one model, or several"):
        ms.segment(an_image)


def test_the_shell_says_which_segment_is_whose(write_model, an_image, tmp_path, capsys):
    models = ["-m", str(write_model("organ")), "-m", str(write_model("lesion", weights=(0.5,)))]
    command = ["segment", str(an_image), *models, "-o", str(tmp_path / "o.nrrd"), "--quiet", "--device", "cpu"]
    assert main([*command, "--json", "--quality", "fast", "--quality", "best"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["name"] == "organ + lesion"
    assert [row["model"] for row in report["segments"]] == ["organ", "organ", "lesion", "lesion"]


def test_images_on_two_grids_are_refused_as_for_one_model(write_model, an_image, tmp_path):
    write_volume(ms.Volume(np.ones((3, 3, 3), np.float32), origin_mm=(900.0, 0.0, 0.0)), tmp_path / "far.nrrd")
    other = write_model("other", channels=(Channel("T2"),))
    images = {"T1": an_image, "T2": tmp_path / "far.nrrd"}
    with pytest.raises(GeometryError, match="does not overlap"):
        ms.segment(images, models=[write_model("one"), other], device="cpu")
