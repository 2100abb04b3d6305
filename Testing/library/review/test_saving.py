"""All files of a review, or none: names, contents, and what is left after a failure."""

import sys
from pathlib import Path

import numpy as np
import pytest
import slicerio

from MambaSegmentLib.errors import ConfigError, ImageError, ResourceError
from MambaSegmentLib.review import saving
from MambaSegmentLib.review.document import read_review
from MambaSegmentLib.review.saving import LabelFile, ReviewFiles, save_review
from MambaSegmentLib.segments import SegmentInfo
from Testing.library.review.test_document import a_document, a_volume

SEGMENTS = (SegmentInfo(1, "Anterior", (1.0, 0.0, 0.0)), SegmentInfo(5, "Posterior", (0.0, 1.0, 0.0)))
TAGS = {1: {"Segmentation.Status": "completed", "MambaSegment.Reviewer": "A. Mü|ller\n"}}


def label_file(value=1, tags=TAGS):
    volume = a_volume()
    volume.array[1, 1, 1:3] = value
    return LabelFile(volume, SEGMENTS, tags)


def save(folder, *, case="patient 7", replace=False, value=1, predicted=True, **changes):
    files = ReviewFiles(folder, case)
    document = a_document(case=case, prediction_file=files.prediction.name if predicted else None, **changes)
    save_review(document, label_file(value), label_file(5, {}) if predicted else None, files, replace=replace)
    return files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_three_files_hold_what_was_given(tmp_path):
    files = save(tmp_path)
    assert set(contents(tmp_path)) == {"patient 7.review.json", "patient 7.seg.nrrd", "patient 7.ai.seg.nrrd"}
    assert read_review(files.document) == a_document()
    corrected, predicted = (slicerio.read_segmentation(str(path)) for path in (files.segmentation, files.prediction))
    np.testing.assert_array_equal(corrected["voxels"].transpose(2, 1, 0), label_file(1).labels.array)
    np.testing.assert_array_equal(predicted["voxels"].transpose(2, 1, 0), label_file(5).labels.array)
    assert [segment["name"] for segment in corrected["segments"]] == ["Anterior", "Posterior"]
    assert corrected["segments"][0]["status"] == "completed"
    assert corrected["segments"][0]["tags"] == {"MambaSegment.Reviewer": "A. Mü ller "}
    assert "tags" not in corrected["segments"][1]


def test_without_the_models_labels_there_is_no_file_for_them(tmp_path):
    files = save(tmp_path, predicted=False)
    assert not files.prediction.exists()
    assert read_review(files.document).prediction_file is None


def test_nothing_is_overwritten_unless_asked_for(tmp_path):
    save(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"patient 7\.review\.json, patient 7\.seg\.nrrd, .* would be overwritten"):
        save(tmp_path, comment="other")
    assert contents(tmp_path) == before
    save(tmp_path, comment="other", replace=True)
    assert read_review(tmp_path / "patient 7.review.json").comment == "other"


def test_one_foreign_file_is_enough_to_refuse(tmp_path):
    (tmp_path / "patient 7.seg.nrrd").write_text("somebody's work")
    with pytest.raises(ConfigError, match=r"^patient 7\.seg\.nrrd in "):
        save(tmp_path)
    assert contents(tmp_path) == {"patient 7.seg.nrrd": b"somebody's work"}


def test_a_free_name_is_found(tmp_path):
    assert ReviewFiles(tmp_path, "a").free().case == "a"
    (tmp_path / "a.seg.nrrd").touch()
    (tmp_path / "a-2.review.json").touch()
    assert ReviewFiles(tmp_path, "a").free().case == "a-3"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        save(tmp_path / "none")


@pytest.mark.parametrize("broken", [0, 1])
def test_a_failure_while_either_file_is_written_leaves_the_earlier_review_whole(tmp_path, monkeypatch, broken):
    save(tmp_path)
    before = contents(tmp_path)
    calls, real = [], saving.write_segmentation

    def full_disk(*args, **kwargs):  # the disk of a test that is full at the n-th file
        calls.append(args)
        if len(calls) == broken + 1:
            raise OSError(28, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(saving, "write_segmentation", full_disk)
    with pytest.raises(ResourceError, match="the disk is full"):
        save(tmp_path, comment="other", value=5, replace=True)
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="the folder that not even root may write to is Linux'")
def test_a_folder_that_may_not_be_written(tmp_path):
    with pytest.raises(ImageError, match="cannot write"):
        save(Path("/sys/kernel"))
