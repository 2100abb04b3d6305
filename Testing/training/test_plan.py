"""Plans against nnU-Net's own planner, and what is planned where nnU-Net is not installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mambasegment_training import plan as plan_module
from mambasegment_training.plan import Plan, plan_networks, plan_patch, plan_topology

from MambaSegmentLib.errors import ConfigError


def nnunet_plan(spacing_mm, median_shape, classes, cases):
    """The configuration that nnU-Net's planner finds; only reading of files is left out of it."""
    module = pytest.importorskip("nnunetv2.experiment_planning.experiment_planners.default_experiment_planner")
    planner = object.__new__(module.ExperimentPlanner)
    constants = {
        "UNet_base_num_features": 32,
        "UNet_class": module.PlainConvUNet,
        "UNet_reference_val_3d": 560000000,
        "UNet_reference_val_2d": 85000000,
        "UNet_reference_val_corresp_GB": 8,
        "UNet_reference_val_corresp_bs_2d": 12,
        "UNet_reference_val_corresp_bs_3d": 2,
        "UNet_featuremap_min_edge_length": 4,
        "UNet_blocks_per_stage_encoder": (2,) * 14,
        "UNet_blocks_per_stage_decoder": (2,) * 13,
        "UNet_min_batch_size": 2,
        "UNet_max_features_2d": 512,
        "UNet_max_features_3d": 320,
        "max_dataset_covered": 0.05,
        "UNet_vram_target_GB": 8,
        "preprocessor_name": "DefaultPreprocessor",
        "dataset_json": {"channel_names": {"0": "T1"}, "labels": {str(n): n for n in range(classes)}},
        "dataset_fingerprint": {"median_relative_size_after_cropping": 1.0},
    }
    vars(planner).update(constants)
    return planner.get_plans_for_configuration(
        np.array(spacing_mm), np.array(median_shape), "x", float(np.prod(median_shape)) * cases, {}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacing_mm", "median_shape", "classes", "cases"),
    [
        ((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), 3, 260),  # the hippocampus
        ((5.0, 1.5625, 1.5625), (18.0, 237.0, 208.0), 4, 200),  # ACDC
        ((2.5, 0.8, 0.8), (97.0, 512.0, 512.0), 14, 50),  # abdominal CT
        ((1.0, 1.0), (384.0, 640.0), 7, 1800),
    ],
)
def test_plans_are_those_of_nnunet(spacing_mm, median_shape, classes, cases):
    expected = nnunet_plan(spacing_mm, median_shape, classes, cases)
    found = plan_topology(spacing_mm, median_shape, classes, float(np.prod(median_shape)) * cases)
    architecture = expected["architecture"]["arch_kwargs"]
    assert found.patch_size == tuple(expected["patch_size"])
    assert found.batch_size == expected["batch_size"]
    for name in ("features_per_stage", "kernel_sizes", "strides"):
        assert getattr(found, name) == tuple(architecture[name])


def test_the_known_plan_of_the_hippocampus():
    """As nnU-Net's papers and forums quote it: patch 40 x 56 x 40, three poolings."""
    found = plan_topology((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), 3, 36 * 50 * 35 * 260.0)
    assert (found.patch_size, found.batch_size) == ((40, 56, 40), 9)
    assert found.features_per_stage == (32, 64, 128, 256)
    assert found.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert found.kernel_sizes == ((3, 3, 3),) * 4


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.2, 8.0), min_size=2, max_size=3),
    st.lists(st.integers(1, 700), min_size=3, max_size=3),
    st.integers(1, 20),
)
def test_every_plan_can_be_built(spacing_mm, shape, classes):
    shape = shape[: len(spacing_mm)]
    found = plan_topology(spacing_mm, shape, classes, float(np.prod(shape)) * 50)
    multiples = np.prod(found.strides, axis=0)
    assert not np.any(np.array(found.patch_size) % multiples)
    assert found.strides[0] == (1,) * len(shape)
    assert len(found.strides) == len(found.kernel_sizes) == len(found.features_per_stage)
    assert found.batch_size >= 2


def test_slices_are_planned_in_two_dimensions():
    plan = plan_networks([(1, 256, 320)] * 5, (1.0, 1.0, 1.0), 2)
    assert plan.flat
    assert set(plan.topologies) == {2}
    assert plan.patch_size == (1, *plan.topologies[2].patch_size) == (1, 256, 320)


def test_volumes_are_planned_in_both():
    plan = plan_networks([(30, 50, 33), (34, 51, 36), (36, 52, 37)], (1.0, 1.0, 1.0), 3)
    assert set(plan.topologies) == {2, 3}
    assert plan.topologies[2].patch_size == (56, 40)
    assert plan.patch_size == plan.topologies[3].patch_size == (40, 56, 40)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_patch_of_ones_own_has_its_own_stages():
    plan = plan_networks([(100, 200, 200)], (1.0, 1.0, 1.0), 3, given_patches={3: (32, 60, 64)})
    assert plan.topologies[3].patch_size == (32, 64, 64)
    assert np.prod(plan.topologies[3].strides, axis=0).tolist() == [8, 16, 16]
    with pytest.raises(ConfigError, match="single slices"):
        plan_networks([(1, 200, 200)], (1.0, 1.0, 1.0), 3, given_patches={3: (32, 64, 64)})


def test_plans_from_before_there_were_topologies_are_read():
    plan = Plan.from_json({"patch_size": [40, 56, 40], "size_multiple": 8})
    assert (plan.patch_size, plan.topologies, plan.planner) == ((40, 56, 40), {}, "built-in")


def test_without_nnunet_there_is_a_patch_alone(monkeypatch):
    monkeypatch.setattr(plan_module, "nnunet_version", lambda: None)
    plan = plan_networks([(30, 50, 33), (34, 51, 36), (36, 52, 37)], (1.0, 1.0, 1.0), 3)
    assert (plan.patch_size, plan.planner, plan.topologies) == ((40, 56, 40), "built-in", {})
    assert plan_networks([(1, 250, 33)], (1.0, 1.0, 1.0), 3).patch_size == (1, 256, 40)


def test_the_longest_edges_give_way_to_the_limit():
    assert plan_patch((512, 512, 64), 8) == (176, 184, 64)  # 184 * 184 * 64 is above 128 ** 3
    assert plan_patch((1000, 1000, 1000), 32) == (128, 128, 128)


@pytest.mark.parametrize("multiple", [0, -8])
def test_a_multiple_that_makes_no_sense(multiple):
    with pytest.raises(ConfigError, match="expected 1 or more"):
        plan_networks([(10, 10, 10)], (1.0, 1.0, 1.0), 2, multiple)
