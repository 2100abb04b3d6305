"""The record of a review: what is written, what the schema says of it, and what is refused."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.review import document as review
from MambaSegmentLib.review.document import (
    Grid,
    ReviewDocument,
    ReviewedImage,
    ReviewedModel,
    ReviewedSegment,
    ReviewedSlices,
    ReviewTimes,
    geometry_sha256,
    read_review,
    utc_text,
    write_review,
)
from MambaSegmentLib.volume import Volume

SHA = "0123456789abcdef" * 4


def a_volume():
    return Volume(np.zeros((3, 4, 5), np.uint8), (0.5, 0.75, 2.0), (-10.0, 20.25, 0.0))


def a_document(**changes):
    grid = Grid.of(a_volume())
    facts = {
        "case": "patient 7",
        "images": (ReviewedImage("T1", "patient 7.nii.gz", geometry_sha256(grid)), ReviewedImage("T2", None, SHA)),
        "grid": grid,
        "model": ReviewedModel("hippocampus-t1", "1.0", SHA),
        "options": {"device": "cpu", "overlap": None, "labels": ["Anterior"]},
        "reviewer": "A. Müller",
        "decision": "accept with corrections",
        "comment": "Tail was cut off.\nMended on 3 slices.",
        "signed_off": True,
        "times": ReviewTimes("2026-11-25T10:00:00Z", "2026-11-25T10:01:00Z", "2026-11-25T10:06:30Z", 312.5),
        "segments": (
            ReviewedSegment("Anterior", 1, "completed", 0.93, 1.25, 1.5),
            ReviewedSegment("Posterior", 5, "not started", None, 0.0, 0.0),
        ),
        "segmentation_file": "patient 7.seg.nrrd",
        "prediction_file": "patient 7.ai.seg.nrrd",
        "reviewed_slices": ReviewedSlices("K", ((0, 0), (2, 2))),
    }
    return ReviewDocument(**(facts | changes))


@pytest.fixture(scope="module")
def schema(repository):
    content = json.loads((repository / "MambaSegmentLib/review/review.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def test_what_is_written_is_read_again_and_fits_the_schema(tmp_path, schema):
    path = tmp_path / "patient 7.review.json"
    write_review(a_document(), path)
    schema.validate(json.loads(path.read_text(encoding="utf-8")))
    assert read_review(path) == a_document()
    assert "Müller" in path.read_text(encoding="utf-8")


def test_a_review_that_has_just_begun_fits_the_schema(schema):
    document = a_document(decision=None, signed_off=False, reviewer="", reviewed_slices=None, prediction_file=None)
    content = json.loads(json.dumps(document.to_json()))
    schema.validate(content)
    assert ReviewDocument.from_json(content) == document


def test_the_keys_are_those_that_others_were_promised():
    content = a_document().to_json()
    assert list(content["times"]) == ["segmented_utc", "opened_utc", "saved_utc", "review_s"]
    assert set(content) == {
        *("format", "schema_version", "case", "images", "grid", "model", "options", "reviewer", "decision"),
        *("comment", "signed_off", "times", "segments", "reviewed_slices", "segmentation_file", "prediction_file"),
    }
    assert content["format"] == "mambasegment-review"
    assert content["schema_version"] == 1
    assert list(content["segments"][0]) == ["name", "value", "status", "dice", "volume_ml_before", "volume_ml_after"]


def test_keys_of_a_later_version_are_ignored(schema):
    content = json.loads(json.dumps(a_document().to_json()))
    content["new"] = content["times"]["new"] = content["segments"][0]["new"] = [1]
    schema.validate(content)
    assert ReviewDocument.from_json(content) == a_document()


def set_at(content, path, value):
    *before, last = path
    for key in before:
        content = content[key]
    content[last] = value


WRONG = {  # where, what, words of the message; the schema refuses each as well
    "format": (("format",), "nnunet", "format is 'nnunet'"),
    "version": (("schema_version",), 2, "schema_version is 2"),
    "case leads elsewhere": (("case",), "../../etc/passwd", "the case is named"),
    "no images": (("images",), [], "images is empty"),
    "hash": (("images", 1, "geometry_sha256"), "abc", "geometry_sha256 is 'abc'"),
    "folder": (("images", 0, "file"), "/home/doctor/p.nii", "images[].file is '/home/doctor/p.nii'"),
    "grid.size": (("grid", "size"), [5, 4, 0], "grid.size is (5, 4, 0)"),
    "spacing": (("grid", "spacing_mm"), [1.0, 1.0, -1.0], "grid.spacing_mm"),
    "direction": (("grid", "direction"), [1.0] * 8, "grid.direction is [1.0"),
    "model sha": (("model", "sha256"), "ABC", "model.sha256 is 'ABC'"),
    "decision": (("decision",), "maybe", "decision is 'maybe'"),
    "signed_off": (("signed_off",), "yes", "signed_off is 'yes'"),
    "signed without decision": (("decision",), None, "signed_off is true, but decision is null"),
    "signed by nobody": (("reviewer",), " ", "signed_off is true, but reviewer is empty"),
    "signed with a flag": (("segments", 0, "status"), "flagged", "flagged: Anterior"),
    "moment": (("times", "saved_utc"), "yesterday", "times.saved_utc is 'yesterday'"),
    "moment without Z": (("times", "saved_utc"), "2026-11-25T10:06:30", "times.saved_utc is"),
    "seconds": (("times", "review_s"), -1, "times.review_s is -1"),
    "status": (("segments", 1, "status"), "done", "segments[1].status is 'done'"),
    "value 0": (("segments", 1, "value"), 0, "the value of segment 'Posterior' is 0"),
    "value true": (("segments", 1, "value"), True, "segments[1].value is True"),
    "dice": (("segments", 1, "dice"), 1.5, "the dice of segment 'Posterior' is 1.5"),
    "volume": (("segments", 1, "volume_ml_after"), "1", "segments[1].volume_ml_after is '1'"),
    "axis": (("reviewed_slices", "axis"), "X", "reviewed_slices.axis is 'X'"),
    "range": (("reviewed_slices", "ranges"), [[-1, 2]], "reviewed_slices.ranges holds (-1, 2)"),
    "half a range": (("reviewed_slices", "ranges"), [[1]], "reviewed_slices.ranges holds (1,)"),
    "file": (("segmentation_file",), "..", "segmentation_file is '..'"),
    "file elsewhere": (("prediction_file",), "a\\b.seg.nrrd", "prediction_file is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_refused_by_the_schema_too(name, schema):
    path, value, words = WRONG[name]
    content = json.loads(json.dumps(a_document().to_json()))
    set_at(content, path, value)
    with pytest.raises(ConfigError) as caught:
        ReviewDocument.from_json(content)
    assert words in str(caught.value)
    assert not schema.is_valid(content)


def every_key(content, path=()):
    for key, value in content.items():
        yield (*path, key)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and key != "options":
            yield from every_key(first, (*path, key, 0) if isinstance(value, list) else (*path, key))


@pytest.mark.parametrize("path", list(every_key(a_document().to_json())), ids=str)
def test_a_missing_key_is_named_and_refused_by_the_schema_too(path, schema):
    content = json.loads(json.dumps(a_document().to_json()))
    *before, last = path
    inner = content
    for key in before:
        inner = inner[key]
    del inner[last]
    with pytest.raises(ConfigError, match=f"{last} is missing"):
        ReviewDocument.from_json(content)
    assert not schema.is_valid(content)


def test_two_segments_of_one_value_are_refused():
    twice = (ReviewedSegment("a", 1, "completed", 1.0, 1.0, 1.0), ReviewedSegment("b", 1, "completed", 1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="'a' and 'b' both have the value 1"):
        a_document(segments=twice)


def test_slices_beyond_the_image_are_refused():
    with pytest.raises(ConfigError, match=r"holds \[2, 3\], but the image has 3 slices along K"):
        a_document(reviewed_slices=ReviewedSlices("K", ((2, 3),)))
    a_document(reviewed_slices=ReviewedSlices("I", ((2, 4),)))


def test_slices_as_a_mask():
    np.testing.assert_array_equal(ReviewedSlices("K", ((0, 1), (3, 3))).mask(5), [True, True, False, True, False])
    assert not ReviewedSlices("J", ()).mask(3).any()


@pytest.mark.parametrize("case", ["", " ", "a/b", "a\\b", "a:b", "..", ".hidden", "end.", " a", "a\nb", 'a"b', 7])
def test_a_case_that_names_no_files_is_refused(case):
    with pytest.raises(ConfigError, match="the case is named"):
        a_document(case=case)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"format": NaN}'])
def test_files_that_hold_no_review_are_refused_with_their_name(tmp_path, text):
    path = tmp_path / "x.review.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"x\.review\.json"):
        read_review(path)


def test_a_number_that_is_none_is_refused(tmp_path):
    """Python's json reads NaN, which no JSON has."""
    path = tmp_path / "x.review.json"
    path.write_text(json.dumps(a_document().to_json()).replace("312.5", "NaN"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"times\.review_s is nan"):
        read_review(path)


def test_files_that_are_missing_no_text_or_absurdly_large_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_review(tmp_path / "none.review.json")
    (tmp_path / "binary.review.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no JSON"):
        read_review(tmp_path / "binary.review.json")
    (tmp_path / "large.review.json").write_bytes(b" " * ((1 << 24) + 1))
    with pytest.raises(ConfigError, match="which no review needs"):
        read_review(tmp_path / "large.review.json")


def test_writing_into_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        write_review(a_document(), tmp_path / "none" / "x.review.json")


def test_options_and_statuses_cannot_be_changed_from_outside():
    options = {"device": "cpu"}
    document = a_document(options=options)
    options["device"] = "cuda"
    assert document.options == {"device": "cpu"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.signed_off = False


# --- geometry


def test_the_hash_of_a_geometry_is_that_of_the_agreed_text():
    """Worked out here from the agreement between Slicer's module and the training package."""
    text = (
        '{"direction":[1.0,0.0,0.0,0.0,1.0,0.0,0.0,0.0,1.0],"origin_mm":[-10.0,20.25,0.0],"size":[5,4,3],'
        '"spacing_mm":[0.5,0.75,2.0]}'
    )
    assert geometry_sha256(a_volume()) == hashlib.sha256(text.encode()).hexdigest()
    assert geometry_sha256(Grid.of(a_volume())) == geometry_sha256(a_volume())


def test_what_file_formats_lose_does_not_change_the_hash_but_a_shift_does():
    volume = a_volume()
    near = dataclasses.replace(volume, origin_mm=(-10.00004, 20.25, -0.0), spacing_mm=(0.50002, 0.75, 2.0))
    assert geometry_sha256(near) == geometry_sha256(volume)
    for changes in ({"origin_mm": (-10.001, 20.25, 0.0)}, {"array": np.zeros((3, 4, 6), np.uint8)}):
        assert geometry_sha256(dataclasses.replace(volume, **changes)) != geometry_sha256(volume)


@given(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3))
def test_numbers_of_any_kind_of_float_hash_alike(origin):
    """A grid that went through JSON, float32-free, is the same grid."""
    grid = Grid((5, 4, 3), (1.0, 1.0, 1.0), tuple(np.asarray(origin)), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    again = Grid((5, 4, 3), (1.0, 1.0, 1.0), tuple(json.loads(json.dumps(origin))), tuple(map(float, grid.direction)))
    assert geometry_sha256(grid) == geometry_sha256(again)


def test_moments_are_written_in_utc_with_z():
    assert utc_text(datetime(2026, 1, 31, 12, 0, 5, 999, tzinfo=UTC)) == "2026-01-31T12:00:05Z"
    assert utc_text(datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-31T10:00:00Z"


def test_statuses_are_in_the_order_of_slicers_numbers():
    assert review.STATUSES == ("not started", "in progress", "completed", "flagged")
