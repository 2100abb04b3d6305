"""From the description of the authors' networks in shared/reference to our options."""

from typing import Any

ARCHITECTURE_OF = {"clinix": "mambaclinix", "bot": "umamba_bot", "enc": "umamba_enc"}


def options_of(described: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Options of `build_model` for the "builder_arguments" or "config" of a reference file."""
    stages = len(described["strides"])
    options = {
        "spatial_dims": described["dim"],
        "in_channels": described["in_ch"],
        "num_classes": described["num_classes"],
        "features_per_stage": [min(described["base"] * 2**stage, described["maxf"]) for stage in range(stages)],
        "kernel_sizes": described.get("kernels", 3),
        "strides": described["strides"],
        **more,
    }
    return options | ({"input_size": described["patch"]} if "patch" in described else {})
