"""What a data set's numbers lead to, worked out by hand."""

import numpy as np
import pytest
from mambasegment_training.case_files import RawCase, read_case
from mambasegment_training.dataset import RawDataset
from mambasegment_training.fingerprint import CaseFacts, Wishes, decide_preprocessing, look_at_case

from MambaSegmentLib.errors import ConfigError
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
    assert decide_preprocessing(dataset(), cases, Wishes("LPS")).orientation == "LPS"


def test_spacing_is_the_median_along_the_turned_axes():
    # the sagittal case has K along x, so that its 2.5 mm belong to the I axis of the others
    cases = [facts((1.0, 1.0, 2.0)), facts((1.0, 1.0, 3.0)), facts((2.5, 1.0, 1.0), direction=SAGITTAL)]
    spec = decide_preprocessing(dataset(), cases)
    assert (spec.axis_order, spec.spacing_mm) == ((2, 0, 1), (2.5, 1.0, 1.0))  # slices across the thick axis
    assert decide_preprocessing(dataset(), [facts((1.0, 1.0, 1.005))]).axis_order == (0, 1, 2)


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


def test_channels_with_nnunets_names_for_a_normalisation():
    names = ("noNorm", "rescale_to_0_1", "rgb_to_0_1", "T2")
    cases = [CaseFacts((10, 10, 10), (1.0,) * 3, IDENTITY, {1: 1}, [np.ones(2)] * 4, 0.0)]
    kinds = [entry.kind for entry in decide_preprocessing(dataset(*names), cases).normalization]
    assert kinds == ["none", "rescale_0_1", "rgb", "zscore"]
    wished = decide_preprocessing(dataset(*names), cases, Wishes(normalization="rescale_0_1"))
    assert {entry.kind for entry in wished.normalization} == {"rescale_0_1"}
    with pytest.raises(ConfigError, match="normalization 'zcore' is not known"):
        Wishes(normalization="zcore")


def test_slices_of_one_size():
    spec = decide_preprocessing(dataset(), [facts((5.0, 1.5, 1.5))], Wishes(resize=(224, 224), nearest=True))
    assert (spec.spacing_mm, spec.size, spec.resampling_order) == (None, (None, 224, 224), 0)


def test_statistics_are_those_of_nnunet(shared):
    """Its extractor draws as many voxels from every case; 40,000 each of ten here, where it would take 2,000,000."""
    module = pytest.importorskip("nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor")
    folder = shared / "data" / "hippocampus_mr"
    cases, theirs = [], []
    for path in sorted((folder / "images").glob("*.nii.gz"))[:10]:
        case = RawCase(path.name, path.name, (path,), folder / "labels" / path.name)
        cases.append(look_at_case(case, dataset("CT")))
        (image,), labels = read_case(case)
        drawn, _ = module.DatasetFingerprintExtractor.collect_foreground_intensities(
            labels.array[None], image.array[None], num_samples=40_000
        )
        theirs.append(drawn[0])
    (ours,) = decide_preprocessing(dataset("CT"), cases).normalization
    drawn = np.concatenate(theirs)
    np.testing.assert_allclose([ours.mean, ours.std], [drawn.mean(), drawn.std()], rtol=1e-3)
    # intensities are sparse at the ends, so that draws differ there by a per cent: compare the share of voxels beyond
    for value, share in ((ours.lower, 0.005), (ours.upper, 0.995)):
        assert np.mean(drawn < value) - 5e-4 < share < np.mean(drawn <= value) + 5e-4
