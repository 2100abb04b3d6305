import numpy as np
import pytest

from MambaSegmentLib.errors import Cancelled, GeometryError, ImageError, ShapeError
from MambaSegmentLib.label_maps import preprocess_labels, restore_labels
from MambaSegmentLib.preprocess import preprocess
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.volume import Volume
from Testing.library.test_preprocess import ZSCORE, a_volume, one_hot


def test_class_values_and_wide_labels():
    prepared = preprocess([a_volume((1, 1, 3))], PreprocessingSpec(ZSCORE))
    scores = one_hot(np.array([[[2, 0, 1]]]), 3)
    labels = restore_labels(scores, prepared.undo, values=(0, 7, 300)).array
    assert labels.dtype == np.uint16
    assert labels.ravel().tolist() == [300, 0, 7]


def test_equal_scores_are_background():
    prepared = preprocess([a_volume((1, 1, 3))], PreprocessingSpec(ZSCORE))
    assert not restore_labels(np.zeros((3, 1, 1, 3), np.float32), prepared.undo).array.any()


def test_the_best_class_is_the_first_of_the_largest_and_never_one_without_a_number():
    prepared = preprocess([a_volume((1, 1, 5))], PreprocessingSpec(ZSCORE))
    nan, inf = np.nan, np.inf
    voxels = [(1, 3, 3), (nan, -5, -6), (2, nan, 1), (-inf, -inf, -1e30), (nan, nan, nan)]
    scores = np.array(voxels, np.float32).T.reshape(3, 1, 1, 5)
    before = scores.copy()
    assert restore_labels(scores, prepared.undo).array.ravel().tolist() == [1, 1, 0, 2, 0]
    np.testing.assert_array_equal(scores, before)


def test_restoring_can_be_cancelled_and_checks_shapes():
    prepared = preprocess([a_volume()], PreprocessingSpec(ZSCORE))
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        restore_labels(np.zeros((2, 6, 7, 8), np.float32), prepared.undo, cancel=token)
    with pytest.raises(ShapeError, match="do not fit"):
        restore_labels(np.zeros((2, 6, 7, 9), np.float32), prepared.undo)


@pytest.mark.parametrize("value", [0.5, -1.0, 70000.0, np.nan])
def test_labels_must_be_whole_numbers(value):
    prepared = preprocess([a_volume()], PreprocessingSpec(ZSCORE))
    labels = np.zeros((6, 7, 8))
    labels[0, 0, 0] = value
    with pytest.raises(ImageError, match="whole numbers"):
        preprocess_labels(Volume(labels), prepared)


def test_float_labels_with_whole_numbers_are_taken():
    prepared = preprocess([a_volume()], PreprocessingSpec(ZSCORE))
    labels = preprocess_labels(Volume(np.full((6, 7, 8), 2.0)), prepared)
    assert labels.dtype == np.uint8
    assert (labels == 2).all()


def test_labels_on_another_grid_are_refused():
    prepared = preprocess([a_volume()], PreprocessingSpec(ZSCORE))
    with pytest.raises(GeometryError, match="origin differs"):
        preprocess_labels(a_volume(origin_mm=(5.0, 0.0, 0.0)), prepared)
