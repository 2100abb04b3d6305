"""Preparing a case and bringing scores back, compared with nnU-Net's own preprocessor and export (version 2.8)."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from MambaSegmentLib.label_maps import restore_labels
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import preprocess
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.volume import Volume

nnunetv2 = pytest.importorskip("nnunetv2", reason="needs nnU-Net, which only the tests compare with")

CUBIC = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
LINEAR = {**CUBIC, "order": 1}
REGIONS = {"background": 0, "a": [1, 2, 3], "b": [2, 3], "c": 3}
INTENSITIES = {"mean": 40.0, "std": 30.0, "percentile_00_5": -20.0, "percentile_99_5": 130.0}
ZSCORE = Normalization("zscore")
MASKED = Normalization("zscore_nonzero")
CT = Normalization("ct", -20.0, 130.0, 40.0, 30.0)


@dataclass(frozen=True)
class Case:
    """One case: what nnU-Net is told, and the specification that shall mean the same."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]  # (K, J, I)
    wanted_mm: tuple[float, ...]
    scheme: str = "ZScoreNormalization"
    masked: bool = False
    normalization: Normalization = ZSCORE
    transpose: tuple[int, int, int] = (0, 1, 2)
    order: int = 3
    coarse_order: int | None = 0
    function: str = "resample_data_or_seg_to_shape"
    rim: int = 0  # voxels of zeros around the object

    def volume(self) -> Volume:
        generator = np.random.default_rng(4)
        array = generator.normal(60, 40, self.shape).astype(np.float32)
        if self.scheme == "RGBTo01Normalization":
            array = np.clip(np.round(array), 0, 255)
        if self.rim:
            inside = tuple(slice(self.rim, -self.rim) for _ in range(3))
            framed = np.zeros_like(array)
            framed[inside] = array[inside]
            array = framed
        return Volume(array, spacing_mm=self.spacing_mm[::-1])

    def spec(self) -> PreprocessingSpec:
        wanted = (None, *self.wanted_mm) if len(self.wanted_mm) == 2 else self.wanted_mm
        return PreprocessingSpec(
            (self.normalization,),
            axis_order=self.transpose,
            spacing_mm=wanted,
            resampling_order=self.order,
            coarse_axis_order=self.coarse_order,
            crop="nonzero",
        )

    def plans(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
        torch_way = self.function != "resample_data_or_seg_to_shape"
        force = None if self.coarse_order is not None else False
        arguments = {"is_seg": False, "force_separate_z": force} | ({} if torch_way else {"order_z": 0})
        configuration = {
            "spacing": list(self.wanted_mm),
            "patch_size": [8] * len(self.wanted_mm),
            "normalization_schemes": [self.scheme],
            "use_mask_for_norm": [self.masked],
            "resampling_fn_data": self.function,
            "resampling_fn_seg": self.function,
            "resampling_fn_probabilities": self.function,
            "resampling_fn_data_kwargs": arguments | ({} if torch_way else {"order": self.order}),
            "resampling_fn_seg_kwargs": arguments | {"is_seg": True} | ({} if torch_way else {"order": 1}),
            "resampling_fn_probabilities_kwargs": arguments | ({} if torch_way else {"order": 1}),
            "architecture": {},
        }
        return PlansManager(
            {
                "transpose_forward": list(self.transpose),
                "transpose_backward": list(np.argsort(self.transpose)),
                "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
                "configurations": {"c": configuration},
            }
        )


CASES = {
    "larger voxels": Case((12, 14, 16), (1.0, 1.0, 1.0), (1.7, 1.3, 1.1)),
    "smaller voxels": Case((7, 8, 9), (2.0, 1.5, 1.5), (0.9, 0.8, 1.0)),
    "thick slices before": Case((6, 20, 18), (5.0, 0.7, 0.7), (2.0, 1.1, 1.0)),
    "thick slices after": Case((30, 12, 11), (1.0, 1.0, 1.0), (4.0, 1.1, 0.9)),
    "thick slices change axis": Case((6, 20, 18), (5.0, 1.0, 1.0), (1.0, 4.0, 0.9)),
    "thick slices, none wanted": Case((6, 20, 18), (5.0, 0.7, 0.7), (2.0, 1.1, 1.0), coarse_order=None),
    "two coarse axes": Case((8, 9, 24), (4.0, 4.0, 1.0), (2.0, 2.5, 1.3)),
    "ratio of exactly three": Case((8, 20, 20), (3.0, 1.0, 1.0), (2.9, 1.1, 1.0)),
    "half a voxel is rounded alike": Case((5, 7, 11), (1.0, 1.0, 1.0), (0.4, 2.0, 0.4)),
    "CT": Case((9, 10, 11), (1.0, 1.0, 1.0), (1.4, 1.2, 1.0), scheme="CTNormalization", normalization=CT),
    "transposed": Case((9, 12, 15), (1.0, 2.0, 4.5), (4.0, 1.5, 1.0), transpose=(2, 0, 1)),
    "zeros around": Case((14, 15, 16), (1.0, 1.0, 1.0), (1.2, 1.2, 1.2), rim=3),
    "a mask": Case(
        (14, 15, 16), (1.0, 1.0, 1.0), (1.2, 1.2, 1.2), masked=True, normalization=MASKED, rim=2
    ),
    "no scaling": Case((5, 6, 7), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), "NoNormalization", False, Normalization("none")),
    "from zero to one": Case(
        (8, 6, 7), (1.0, 1.0, 1.0), (1.0, 1.3, 1.0), "RescaleTo01Normalization", False, Normalization("rescale_0_1")
    ),
    "colours": Case(
        (8, 6, 7), (1.0, 1.0, 1.0), (1.0, 1.3, 1.0), "RGBTo01Normalization", False, Normalization("rgb")
    ),
    "slices of a 2D model": Case((5, 16, 17), (6.0, 1.0, 1.0), (1.3, 0.8)),
    "slices that are not thick": Case((9, 16, 17), (1.0, 1.0, 1.0), (1.3, 0.8)),
    "a single slice": Case((1, 16, 17), (999.0, 1.0, 1.0), (1.3, 0.8)),
    "linear by torch": Case(
        (9, 16, 17), (1.0, 1.0, 1.0), (1.3, 0.8, 1.1), order=1, function="resample_torch_fornnunet"
    ),
    "linear by torch, thick slices": Case(
        (6, 16, 17), (5.0, 1.0, 1.0), (2.0, 0.8, 1.1), order=1, function="resample_torch_fornnunet"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_prepared_case_is_nnunets(name):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    case = CASES[name]
    plans = case.plans()
    volume = case.volume()
    expected, _, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        volume.array[None].copy(), None, {"spacing": list(case.spacing_mm)}, plans, plans.get_configuration("c"), {}
    )
    prepared = preprocess([volume], case.spec())
    assert prepared.array.shape == expected.shape
    np.testing.assert_allclose(prepared.array, expected, atol=1e-4)


@pytest.mark.parametrize("overlapping", [False, True], ids=["labels", "regions"])
@pytest.mark.parametrize("name", CASES)
def test_scores_come_back_as_nnunets(name, overlapping):
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    case = CASES[name]
    plans = case.plans()
    labels = REGIONS if overlapping else {"background": 0, "a": 1, "b": 2}
    manager = LabelManager(labels, [1, 2, 3] if overlapping else None)
    volume = case.volume()
    _, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        volume.array[None].copy(), None, {"spacing": list(case.spacing_mm)}, plans, plans.get_configuration("c"), {}
    )
    prepared = preprocess([volume], case.spec())
    logits = np.random.default_rng(1).standard_normal((3, *prepared.array.shape[1:])).astype(np.float32)
    expected = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.copy(), plans, plans.get_configuration("c"), manager, properties, num_threads_torch=1
    )
    values = (1, 2, 3) if overlapping else (0, 1, 2)
    found = restore_labels(logits, prepared.undo, values, overlapping=overlapping)
    assert found.array.shape == expected.shape
    assert np.mean(found.array == expected) >= 0.9999
