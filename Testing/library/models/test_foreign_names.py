"""The authors' names that tests of importing make files with, against the authors' own lists of names."""

import pytest
import torch

from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.registry import architecture_named
from MambaSegmentLib.models.renaming import renamed
from Testing.foreign_models import AUTHORS_NAMES, aliases_of
from Testing.library.models.published_sizes import options_of

VSS = {"in_channels": 1, "num_classes": 14}


@pytest.mark.parametrize(
    ("architecture", "file", "options"),
    [
        ("lightm_unet", "lightm_unet_3d/state_dict", {"in_channels": 1, "num_classes": 3}),
        ("lightm_unet", "lightm_unet_2d/state_dict", {"spatial_dims": 2, "in_channels": 1, "num_classes": 2}),
        ("mambaclinix", "mambaclinix/state_dict", None),
        ("umamba_bot", "umamba_bot/state_dict", None),
        ("umamba_enc", "umamba_enc/state_dict", None),
        ("umamba_enc", "umamba_enc/state_dict_2d", None),
        ("swin_umamba", "swin_umamba/state_dict", VSS),
        ("swin_umamba_d", "swin_umamba_d/state_dict", VSS),
        ("mamba_unet", "mamba_unet/state_dict", {"in_channels": 1, "num_classes": 4}),
    ],
)
def test_names_and_shapes_are_the_authors(described, architecture, file, options):
    theirs = described(*file.split("/"))
    options = options_of(theirs["config"]) if options is None else options
    with torch.device("meta"):
        net = build_model(architecture, options)
    made = {}
    for name, tensor in net.state_dict().items():
        name = AUTHORS_NAMES[architecture](name)
        residual = architecture in ("mambaclinix", "umamba_bot", "umamba_enc")
        made |= {key: list(tensor.shape) for key in [name, *(aliases_of(name) if residual else [])]}
    assert made == {name: shape for name, shape, _ in theirs["state_dict"]}


@pytest.mark.parametrize("architecture", AUTHORS_NAMES)
def test_the_library_undoes_them(architecture):
    planned = {"features_per_stage": [8, 16, 16, 16], "kernel_sizes": 3, "strides": [1, 2, 2, 2]}
    options = {"in_channels": 1, "num_classes": 3}
    if architecture in ("mambaclinix", "umamba_bot", "umamba_enc"):
        options |= planned
    elif architecture.endswith("conv_unet") or architecture.startswith("residual"):
        options |= planned | {"encoder_blocks": [1] * 4, "decoder_blocks": [1] * 3}
    if architecture == "umamba_enc":
        options["input_size"] = [16, 16, 16]
    with torch.device("meta"):
        names = list(build_model(architecture, options).state_dict())
    table = architecture_named(architecture).published_names
    assert [renamed(AUTHORS_NAMES[architecture](name), table) for name in names] == names
