"""The options that bundles and recipes rely on: their names and defaults are a promise."""

import dataclasses

import pytest
import torch

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
