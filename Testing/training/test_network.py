"""The network of a run, the patch it sees, and what is held still at first."""

from dataclasses import replace

import pytest
import torch
from mambasegment_training.network import HeldStill, build_network, patch_size_of, planned_patch_size
from mambasegment_training.plan import plan_networks
from torch import nn

from MambaSegmentLib.errors import ConfigError, ShapeError

VSS = {"name": "swin_umamba_d", "options": {"dims": [4, 8, 16, 32], "encoder_depths": [1, 1, 1, 1]}}
FLAT = {"name": "lightm_unet", "options": {"spatial_dims": 2, "init_filters": 8}}


@pytest.fixture
def patch_of(prepared, tiny_config):
    """The patch of a configuration; the planned one is (16, 16, 16)."""
    assert prepared.patch_size == (16, 16, 16)
    return lambda **changes: planned_patch_size(prepared, tiny_config(**({"augment": {}} | changes)))


def test_the_planned_patch_is_enlarged_to_what_the_network_needs(patch_of):
    assert patch_of() == (16, 16, 16)
    assert patch_of(network=FLAT) == (16, 16)
    assert patch_of(network=VSS) == (32, 32)


def test_umamba_enc_is_built_for_the_patch_that_it_sees(prepared, tiny_config):
    """Its input_size need not be written into a recipe; one that is written is kept."""
    plan = {"features_per_stage": [4, 8, 8], "kernel_sizes": 3, "strides": [1, 2, [1, 4, 4]]}

    def sizes(data=None, **options):
        network = {"name": "umamba_enc", "options": plan | options}
        config = tiny_config(network=network, augment={}, data=data or {})
        built = build_network(prepared, config)
        assert planned_patch_size(prepared, config) == patch_size_of(built, prepared, config)
        return built.config.input_size, patch_size_of(built, prepared, config)

    assert sizes() == ((16, 16, 16), (16, 16, 16))
    assert sizes({"patch_size": [8, 16, 24]}) == ((8, 16, 24), (8, 16, 24))
    assert sizes(spatial_dims=2, strides=[1, 3, 2]) == ((18, 12), (18, 12))  # the slices are 14 x 10
    assert sizes(input_size=[16, 16, 16]) == ((16, 16, 16), (16, 16, 16))


@pytest.mark.parametrize("name", ["umamba_bot", "umamba_enc", "resenc_unet", "mambaclinix"])
@pytest.mark.parametrize("dims", [2, 3])
def test_stages_that_a_recipe_leaves_open_come_from_the_plan(prepared, tiny_config, name, dims):
    config = tiny_config(network={"name": name, "options": {"spatial_dims": dims}}, augment={})
    built = build_network(prepared, config)
    topology = prepared.plan.topologies[dims]
    assert built.config.features_per_stage == topology.features_per_stage == (32, 64)
    assert built.config.strides == topology.strides
    assert patch_size_of(built, prepared, config) == topology.patch_size == (12, 14, 10)[-dims:]
    assert built(torch.zeros(1, 1, *topology.patch_size)).shape == (1, 3, *topology.patch_size)


def test_stages_of_the_recipe_win(prepared, tiny_config):
    network = {"name": "resenc_unet", "options": {"features_per_stage": [8, 16]}}
    built = build_network(prepared, tiny_config(network=network, augment={}))
    assert built.config.features_per_stage == (8, 16)
    assert built.config.strides == prepared.plan.topologies[3].strides


def test_data_that_were_prepared_without_nnunet(prepared, tiny_config):
    """Networks with stages of their own train; the others say what to do."""
    bare = replace(prepared, plan=replace(prepared.plan, topologies={}, planner="built-in"))
    assert planned_patch_size(bare, tiny_config()) == (16, 16, 16)
    with pytest.raises(ConfigError, match=r"umamba_bot takes features_per_stage.* pip install --no-deps"):
        build_network(bare, tiny_config(network={"name": "umamba_bot", "options": {}}))


def test_single_slices(prepared, tiny_config):
    """Networks of either dimension are built for two; one that was set to three is refused."""
    flat = replace(prepared, patch_size=(1, 16, 16), plan=plan_networks([(1, 14, 10)], (1.0, 1.0, 1.0), 3))
    assert planned_patch_size(flat, tiny_config(network={"name": "resenc_unet", "options": {}}, augment={})) == (14, 10)
    light = {"name": "lightm_unet", "options": {"init_filters": 8}}
    assert planned_patch_size(flat, tiny_config(network=light, augment={})) == (16, 16)
    for network in ({"name": "resenc_unet", "options": {"spatial_dims": 3}}, tiny_config().network.__dict__):
        with pytest.raises(ConfigError, match="holds single slices"):
            planned_patch_size(flat, tiny_config(network=network, augment={}))


def test_a_given_patch_is_kept(patch_of):
    assert patch_of(data={"patch_size": [8, 16, 24]}) == (8, 16, 24)
    assert patch_of(network=VSS, data={"patch_size": [32, 64]}) == (32, 64)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": {"patch_size": [16, 16]}}, ConfigError, r"\(16, 16\); lightm_unet here takes 3: \(K, J, I\)"),
        ({"network": VSS, "data": {"patch_size": [1, 32, 32]}}, ConfigError, r"takes 2: \(J, I\), of a slice"),
        ({"network": VSS, "augment": {"mirror_axes": [2]}}, ConfigError, "holds 2; the axes of this patch are 0 to 1"),
        ({"network": VSS, "data": {"patch_size": [32, 48]}}, ShapeError, "each must be a multiple of 32"),
        ({"data": {"patch_size": [16, 15, 16]}}, ShapeError, "each must be a multiple of 2"),
        (
            {"network": {"name": "resenc_unet", "options": {}}, "data": {"patch_size": [16, 15, 16]}},
            ShapeError,
            "a multiple of .* or let `mambatrain prepare --patch-size 16,15,16` plan the network for it",
        ),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(patch_of, changes, error, message):
    with pytest.raises(error, match=message):
        patch_of(**changes)


def test_the_patch_is_the_same_for_the_network_itself(prepared, tiny_config):
    config = tiny_config(network=FLAT, augment={})
    assert patch_size_of(build_network(prepared, config), prepared, config) == (16, 16)


def test_what_is_held_gets_no_gradient_until_its_step():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    held = HeldStill(network, ["0.weight"], 3)
    for step in (0, 2, 3, 1, 4):  # in any order: a resumed run begins anywhere
        held.at(step)
        network.zero_grad()
        network(torch.ones(1, 2)).sum().backward()
        assert (network[0].weight.grad is None) == (step < 3)
        assert network[0].bias.grad is not None


def test_nothing_is_held_without_steps():
    network = nn.Linear(2, 2)
    network.weight.requires_grad_(False)  # for a reason of its own
    HeldStill(network, ["weight"], 0).at(0)
    assert not network.weight.requires_grad
