"""What a data set's numbers lead to, worked out by hand."""

import numpy as np
import pytest
from mambasegment_training.dataset import RawDataset
from mambasegment_training.fingerprint import CaseFacts, decide_preprocessing

from MambaSegmentLib.normalization import Normalization

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
HEAD_FIRST_PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # I runs along y, J along z, K along x


def facts(spacing_mm=(1.0, 1.0, 1.0), direction=IDENTITY, intensities=(1.0, 2.0), zero_fraction=0.0) -> CaseFacts:
    return CaseFacts((10, 10, 10), spacing_mm, direction, {0: 1, 1: 1}, [np.array(intensities)], zero_fraction)


def dataset(*channels: str) -> RawDataset:
    return RawDataset("set", channels or ("T1",), None, None, ())


def test_the_most_frequent_orientation_wins():
    cases = [facts(), facts(direction=HEAD_FIRST_PRONE), facts(direction=HEAD_FIRST_PRONE)]
    assert decide_preprocessing(dataset(), cases).orientation == "RAS"  # as DICOMOrient names -1, -1, 1
    assert decide_preprocessing(dataset(), cases, "LPS").orientation == "LPS"


def test_spacing_is_the_median_along_the_turned_axes():
    # the sagittal case has K along x, so that its 2.5 mm belong to the I axis of the others
    cases = [facts((1.0, 1.0, 2.0)), facts((1.0, 1.0, 3.0)), facts((2.5, 1.0, 1.0), direction=SAGITTAL)]
    assert decide_preprocessing(dataset(), cases).spacing_mm == (1.0, 1.0, 2.5)


def test_thick_slices_take_the_tenth_percentile():
    spacings = [4.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]  # 10 % of 11 values: the second smallest
    spec = decide_preprocessing(dataset(), [facts((slice_mm, 1.0, 1.0)) for slice_mm in spacings])
    assert spec.spacing_mm == (5.0, 1.0, 1.0)
    spec = decide_preprocessing(dataset(), [facts((slice_mm, 1.0, 1.0)) for slice_mm in [0.5, 0.5, *spacings]])
    assert spec.spacing_mm == (1.2, 1.0, 1.0)  # the 10th percentile of 13 values lies at 1.2: 0.5 + 0.2 * 3.5


def test_never_finer_along_thick_slices_than_across():
    cases = [facts((slice_mm, 1.0, 1.0)) for slice_mm in [0.2, 0.2, 6.0, 6.0, 6.0]]
    assert decide_preprocessing(dataset(), cases).spacing_mm == (1.0, 1.0, 1.0)


def test_ct_is_normalised_by_the_labelled_voxels_of_all_cases():
    cases = [facts(intensities=np.arange(0.0, 500.0)), facts(intensities=np.arange(500.0, 1001.0))]
    (ct,) = decide_preprocessing(dataset("CT"), cases).normalization
    assert (ct.kind, ct.lower, ct.upper, ct.mean) == ("ct", 5.0, 995.0, 500.0)
    assert ct.std == pytest.approx(np.arange(1001).std())


def test_masked_images_are_normalised_within_the_mask():
    assert decide_preprocessing(dataset(), [facts()]).normalization == (Normalization("zscore"),)
    masked = decide_preprocessing(dataset(), [facts(zero_fraction=0.6)])
    assert masked.normalization == (Normalization("zscore_nonzero"),)
