"""The options that bundles and recipes rely on: their names and defaults are a promise."""

import dataclasses

import numpy as np
import pytest
import torch

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import ARCHITECTURES
from Testing.library.models.tiny_networks import TINY, all_outputs

GIVEN = ("in_channels", "num_classes")
PLANNED = (*GIVEN, "features_per_stage", "kernel_sizes", "strides")
DIMS, SWIN_DEPTHS = (96, 192, 384, 768), (2, 2, 9, 2)
UNET = {"spatial_dims": 3, "deep_supervision": False}
BLOCKS = {"encoder_blocks": None, "decoder_blocks": None}
PROMISED = {
    "lightm_unet": (
        GIVEN,
        {
            "spatial_dims": 3,
            "init_filters": 32,
            "blocks_down": (1, 2, 2, 4),
            "blocks_up": (1, 1, 1),
            "mixer": "rvm",
            "spm_shared_scan": True,
            "pooling": "max",
            "adjustment": True,
            "residual": True,
        },
    ),
    "mamba_unet": (GIVEN, {"dims": DIMS, "depths": (2, 2, 2, 2), "d_state": 16, "drop_path": 0.2}),
    "swin_umamba": (
        GIVEN,
        {
            "feature_sizes": (48, *DIMS),
            "hidden_size": 768,
            "encoder_dims": DIMS,
            "encoder_depths": SWIN_DEPTHS,
            "d_state": 16,
            "deep_supervision": False,
            "generation": 2,
        },
    ),
    "swin_umamba_d": (
        GIVEN,
        {
            "dims": DIMS,
            "encoder_depths": SWIN_DEPTHS,
            "decoder_depths": (2, 2, 2),
            "d_state": 16,
            "deep_supervision": False,
        },
    ),
    "mambaclinix": (PLANNED, {**UNET, "stage_mixers": None, "hgcn_orders": None}),
    "umamba_bot": (PLANNED, {**UNET, **BLOCKS}),
    "umamba_enc": ((*PLANNED, "input_size"), {**UNET, **BLOCKS}),
    "resenc_unet": (PLANNED, {**UNET, **BLOCKS}),
}


@pytest.mark.parametrize("name", PROMISED)
def test_names_and_defaults_of_options(name):
    needed, defaults = PROMISED[name]
    fields = dataclasses.fields(ARCHITECTURES[name].config)
    assert {entry.name for entry in fields if entry.default is dataclasses.MISSING} == set(needed)
    assert {entry.name: entry.default for entry in fields if entry.default is not dataclasses.MISSING} == defaults


@pytest.mark.parametrize("case", TINY)
def test_one_output_for_a_single_region(case):
    tiny = TINY[case]
    with torch.inference_mode():
        outputs = all_outputs(tiny.build(num_classes=1).eval(), tiny.image())
    assert {y.shape[1] for y in outputs} == {1}
    assert outputs[0].std() > 0


@pytest.mark.parametrize("case", TINY)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 1.5}, "in_channels is 1.5; expected a whole number"),
        ({"in_channels": True}, "in_channels is True; expected a whole number"),
        ({"num_classes": None}, "num_classes is None; expected a whole number"),
        ({"num_classes": "3"}, "num_classes is '3'; expected a whole number"),
    ],
)
def test_values_of_another_kind_are_refused_by_name(case, options, message):
    with pytest.raises(ConfigError, match=f"{TINY[case].name}: {message}"):
        TINY[case].build(**options)


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("lightm_unet_2d", {"blocks_down": 3}, "blocks_down is 3; expected whole numbers"),
        ("lightm_unet_2d", {"blocks_down": "11"}, "blocks_down is '11'; expected whole numbers"),
        ("lightm_unet_2d", {"residual": "no"}, "residual is 'no'; expected true or false"),
        ("swin_umamba", {"deep_supervision": 1}, "deep_supervision is 1; expected true or false"),
        ("mambaclinix_2d", {"features_per_stage": [8, 16.0, 16]}, r"features_per_stage is \[8, 16.0, 16\]"),
    ],
)
def test_lists_and_switches_of_another_kind_too(case, options, message):
    with pytest.raises(ConfigError, match=message):
        TINY[case].build(**options)


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert TINY["mamba_unet"].build(num_classes=np.int64(4)).head.out_channels == 4
