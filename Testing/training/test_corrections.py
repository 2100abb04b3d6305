"""Corrected voxels are drawn as centres of patches beside the labels."""

import numpy as np
from mambasegment_training.case_files import RawCase
from mambasegment_training.corrections import CORRECTED, corrected_voxels
from mambasegment_training.data import Case, cut_patch

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import preprocess
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.volume import Volume


def prepared_case(tmp_path, mask):
    """A case of 1 mm that is prepared at 2 mm, turned along I."""
    image = Volume(np.random.default_rng(0).normal(size=mask.shape).astype(np.float32))
    case = RawCase("case", "case", (tmp_path / "imagesTr" / "case_0000.nii.gz",), tmp_path / "labelsTr" / "case.nii.gz")
    (tmp_path / "correctionsTr").mkdir()
    write_volume(image.with_array(mask), tmp_path / "correctionsTr" / "case.nii.gz")
    spec = PreprocessingSpec((Normalization("zscore"),), orientation="RPS", spacing_mm=(2.0, 2.0, 2.0))
    return case, image, preprocess([image], spec)


def test_they_follow_the_case_onto_the_prepared_grid(tmp_path):
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[0:2, 2:4, 0:2] = 1  # one voxel of 2 mm, at the far end after turning
    case, image, prepared = prepared_case(tmp_path, mask)
    assert corrected_voxels(case, image, prepared, 100, seed=1).tolist() == [[CORRECTED, 0, 1, 3]]


def test_no_more_than_asked_and_the_same_for_the_same_seed(tmp_path):
    case, image, prepared = prepared_case(tmp_path, np.ones((8, 8, 8), np.uint8))
    rows = corrected_voxels(case, image, prepared, 10, seed=1)
    assert rows.shape == (10, 4)
    np.testing.assert_array_equal(rows, corrected_voxels(case, image, prepared, 10, seed=1))
    assert len(corrected_voxels(case, image, prepared, 100, seed=1)) == 64


def test_none_without_a_mask(tmp_path):
    case, image, prepared = prepared_case(tmp_path, np.zeros((8, 8, 8), np.uint8))
    assert corrected_voxels(case, image, prepared, 10, seed=1).shape == (0, 4)
    (tmp_path / "correctionsTr" / "case.nii.gz").unlink()
    assert corrected_voxels(case, image, prepared, 10, seed=1).shape == (0, 4)


def test_a_patch_shows_them_as_often_as_each_label():
    """Two labels and the corrected voxels, each in a corner of its own: a third of the centres each."""
    labels = np.zeros((32, 32, 32), np.uint8)
    rows = [(CORRECTED, 4, 4, 4), (1, 4, 4, 28), (2, 28, 28, 28)]
    for value, k, j, i in rows:
        labels[k, j, i] = 9 if value == CORRECTED else value
    case = Case(labels[None].astype(np.float32), labels, np.array(rows, np.int32))
    rng = np.random.default_rng(0)
    seen = [int(cut_patch(case, (4, 4, 4), rng, 1.0)[1].max()) for _ in range(600)]
    for value in (9, 1, 2):  # 200 expected, with a standard deviation of 12
        assert 150 < seen.count(value) < 250
