"""An imported plan prepares real volumes as nnU-Net's own reader and preprocessor do, to 1e-4."""

import json
import warnings

import numpy as np
import pytest

from MambaSegmentLib.errors import BundleError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.importing.plans import resolve
from MambaSegmentLib.importing.preparation import preparation_of
from MambaSegmentLib.preprocess import preprocess
from Testing.foreign_models import newer_form, older_configuration, plans_of

STRIDES = [[1, 1, 1], [2, 2, 2]]
CT = {"mean": 80.0, "std": 120.0, "percentile_00_5": -160.0, "percentile_99_5": 400.0}

REAL = {
    "CT": (
        "ct_torso/ct_slab.nii.gz",
        "SimpleITKIO",
        {"spacing": [2.5, 2.0, 3.4], "normalization_schemes": ["CTNormalization"]},
        {},
    ),
    "thick slices": ("mr_brain_tumor/image.nrrd", "SimpleITKIO", {"spacing": [5.0, 1.3, 1.4]}, {}),
    "permuted axes, turned and transposed": (
        "spinalcord_mr/t2_sagittal_permuted_axes.nii.gz",
        "NibabelIOWithReorient",
        {"spacing": [0.8, 1.2, 0.9], "use_mask_for_norm": [True]},
        {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]},
    ),
    "oblique, turned by ITK": (
        "spinalcord_mr/t2_cord.nii.gz",
        "SimpleITKIOWithReorient",
        {"spacing": [1.5, 0.8, 1.1]},
        {},
    ),
    "oblique, slice by slice": (
        "spinalcord_mr/t2star_oblique_anisotropic.nii.gz",
        "SimpleITKIO",
        {"spacing": [0.9, 0.7], "patch_size": [32, 32]},
        {},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_volumes_are_prepared_as_by_nnunet(shared, name):
    pytest.importorskip("nnunetv2", reason="needs nnU-Net, which only the tests compare with")
    file, reader, configuration, changes = REAL[name]
    content = newer_form(older_configuration([32, 32, 32], STRIDES, **configuration))
    intensities = {"foreground_intensity_properties_per_channel": {"0": CT}}
    plans = json.loads(json.dumps(plans_of({"c": content}, image_reader_writer=reader, **intensities, **changes)))
    path = shared / "data" / file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(plans)
        expected, _, _ = DefaultPreprocessor(verbose=False).run_case(
            [str(path)], None, manager, manager.get_configuration("c"), {}
        )
    prepared = preprocess([read_volume(path)], preparation_of(resolve(plans, "c"), 1))
    assert prepared.array.shape == expected.shape
    np.testing.assert_allclose(prepared.array, expected, atol=1e-4)


def plan_with(**changes):
    return resolve(plans_of({"c": older_configuration([8, 8, 8], STRIDES, **changes)}), "c")


SPLINE = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


@pytest.mark.parametrize(
    ("changes", "orders", "scores"),
    [
        ({}, (3, 0), None),
        ({"resampling_fn_data_kwargs": {**SPLINE, "force_separate_z": False}}, (3, None), (1, 0)),
        ({"resampling_fn_data_kwargs": {"order": 3}}, (3, None), (1, 0)),
        ({"resampling_fn_data_kwargs": {**SPLINE, "order_z": 1}}, (3, 1), (1, 0)),
        ({"resampling_fn_probabilities_kwargs": {**SPLINE, "order": 0}}, (3, 0), (0, 0)),
        (
            {
                f"resampling_fn_{what}": "resample_torch_fornnunet"
                for what in ("data", "probabilities")
            }
            | {f"resampling_fn_{what}_kwargs": {"is_seg": False} for what in ("data", "probabilities")},
            (1, 0),
            None,
        ),
    ],
)  # fmt: skip
def test_orders_of_resampling(changes, orders, scores):
    spec = preparation_of(plan_with(**changes), 1)
    assert (spec.resampling_order, spec.coarse_axis_order) == orders
    assert spec.score_orders == scores


def test_no_resampling_at_all():
    spec = preparation_of(plan_with(resampling_fn_data="no_resampling_hack"), 1)
    assert spec.spacing_mm is None


@pytest.mark.parametrize(
    "changes",
    [
        {"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_data_kwargs": {"mode": "bicubic"}},
        {"resampling_fn_data_kwargs": {**SPLINE, "separate_z_anisotropy_threshold": 2}},
        {"resampling_fn_data_kwargs": {**SPLINE, "order": 5}},
        {"normalization_schemes": ["CTNormalization"]},
        {"spacing": ["1", 1, 1]},
    ],
)
def test_what_is_not_known_is_refused_rather_than_left_out(changes):
    plans = plans_of({"c": older_configuration([8, 8, 8], STRIDES, **changes)})
    plans["foreground_intensity_properties_per_channel"] = {"0": {"mean": 1.0}}
    with pytest.raises(BundleError):
        preparation_of(resolve(plans, "c"), 1)
