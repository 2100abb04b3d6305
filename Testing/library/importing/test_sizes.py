"""Options that follow from the shapes of the authors' weights: for their canonical files, the published defaults."""

import dataclasses
import json

import pytest
import torch

from MambaSegmentLib.importing.networks import architecture_of
from MambaSegmentLib.importing.sizes import SIZES_FROM_WEIGHTS, inputs_of, outputs_of
from MambaSegmentLib.models import ARCHITECTURES


@pytest.mark.parametrize(
    ("architecture", "file", "inputs", "outputs", "changes"),
    [
        ("lightm_unet", "lightm_unet_3d/state_dict", 1, 3, {}),
        ("lightm_unet", "lightm_unet_2d/state_dict", 1, 2, {}),
        ("mamba_unet", "mamba_unet/state_dict", 3, 4, {}),
        ("swin_umamba", "swin_umamba/state_dict", 1, 14, {}),
        ("swin_umamba", "swin_umamba/state_dict_first_release", 1, 14, {"generation": 1}),
        ("swin_umamba_d", "swin_umamba_d/state_dict", 1, 14, {}),
        ("mambaclinix", "mambaclinix/state_dict", 1, 2, None),
        ("umamba_bot", "umamba_bot/state_dict", 1, 14, None),
        ("umamba_enc", "umamba_enc/state_dict_2d", 1, 14, None),
    ],
)
def test_published_files(shared, architecture, file, inputs, outputs, changes):
    described = json.loads((shared / "reference" / f"{file}.json").read_text())
    weights = {name: torch.empty(shape, device="meta") for name, shape, _ in described["state_dict"]}
    assert architecture_of("nnUNetTrainerOfAUser", weights) == architecture
    assert inputs_of(weights) == inputs
    assert outputs_of(architecture, weights) == outputs
    if changes is None:
        assert architecture not in SIZES_FROM_WEIGHTS
        return
    sizes = SIZES_FROM_WEIGHTS[architecture](weights)
    defaults = {entry.name: entry.default for entry in dataclasses.fields(ARCHITECTURES[architecture].config)}
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    assert found == {name: defaults[name] for name in sizes} | changes
