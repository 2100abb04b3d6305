"""Write `Testing/library/data/network_vectors.json` anew:  python -m Testing.library.models.write_vectors

Run it when a case is added, and only then: the values are this project's own, and worth something because they were
computed by code that met the authors' vectors at that moment. So it first runs every test against those (they lie in
shared/reference beside a developer's checkout), and writes nothing unless all of them passed and none was skipped.
Cases of published networks keep their options and names of weights from the file; the others stand in `VARIANTS`.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from Testing.library.models.vectors import FILE, VECTORS, Vector

_LIGHT = {"num_classes": 3, "spatial_dims": 2, "init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]}
_CLINIX = {"num_classes": 2, "spatial_dims": 2, "kernel_sizes": 3, "strides": [1, 2, 2, 2, 2]}
_NARROW = {**_CLINIX, "features_per_stage": [4, 8, 16, 16, 16]}
_WIDE = {**_CLINIX, "features_per_stage": [16, 32, 64, 8, 8]}
_PLAIN = {"num_classes": 2, "spatial_dims": 2, "kernel_sizes": 3, "strides": [1, 2, 2], "features_per_stage": [3, 4, 6]}
_SWIN = {
    "num_classes": 2,
    "feature_sizes": [2, 3, 4, 5, 6],
    "hidden_size": 16,
    "encoder_dims": [4, 8, 12, 16],
    "encoder_depths": [1, 1, 1, 1],
    "d_state": 4,
}
# case -> architecture, options, channels: the switches of the ablations, and other numbers of channels
VARIANTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "lightm_spm_separate": ("lightm_unet", {**_LIGHT, "mixer": "spm", "spm_shared_scan": False}, 3),
    "lightm_conv": ("lightm_unet", {**_LIGHT, "mixer": "conv"}, 1),
    "lightm_attention": ("lightm_unet", {**_LIGHT, "mixer": "attention"}, 2),
    "lightm_no_adjustment": ("lightm_unet", {**_LIGHT, "adjustment": False}, 1),
    "lightm_no_residual": ("lightm_unet", {**_LIGHT, "residual": False}, 1),
    "lightm_max_and_mean": ("lightm_unet", {**_LIGHT, "pooling": "max+avg"}, 1),
    "clinix_baseline": ("mambaclinix", {**_NARROW, "stage_mixers": ["residual"] * 5}, 1),
    "clinix_mamba_alone": ("mambaclinix", {**_NARROW, "stage_mixers": ["mamba"] * 5}, 2),
    "clinix_hgcn_alone": ("mambaclinix", {**_NARROW, "stage_mixers": ["hgcn"] * 5, "hgcn_orders": [2, 3, 4, 4, 1]}, 1),
    "clinix_mamba_in_the_bottleneck": ("mambaclinix", {**_NARROW, "stage_mixers": ["residual"] * 4 + ["mamba"]}, 1),
    "clinix_orders_444": ("mambaclinix", {**_WIDE, "hgcn_orders": [4, 4, 4]}, 1),
    "clinix_orders_456": ("mambaclinix", {**_WIDE, "hgcn_orders": [4, 5, 6]}, 1),
    "mamba_unet_two_channels": ("mamba_unet", {"num_classes": 2, "dims": [4, 8], "depths": [1, 2], "d_state": 4}, 2),
    "swin_umamba_four_channels": ("swin_umamba", _SWIN, 4),
    "swin_umamba_d_other_depths": (
        "swin_umamba_d",
        {"num_classes": 2, "dims": [4, 8, 12], "encoder_depths": [1, 2, 1], "decoder_depths": [2, 1], "d_state": 4},
        3,
    ),
    "umamba_bot_other_blocks": ("umamba_bot", {**_PLAIN, "encoder_blocks": [1, 2, 1], "decoder_blocks": [1, 2]}, 2),
    "umamba_enc_channel_tokens": (
        "umamba_enc",
        {**_PLAIN, "features_per_stage": [3, 4, 32], "input_size": [16, 32]},
        2,
    ),
    "resenc_unet_2d": ("resenc_unet", {**_PLAIN, "deep_supervision": True}, 2),
}


def main() -> int:
    """Exit code 0 when the file was written."""
    met = golden_tests_passed()
    if met == 0:
        print("nothing written: not every golden test passed, or some were skipped", file=sys.stderr)
        return 1
    published = [vector for vector in VECTORS.values() if vector.published_shapes is not None]
    variants = [
        Vector(case, name, {"in_channels": channels, **options}, (1, channels, *_size(name)))
        for case, (name, options, channels) in VARIANTS.items()
    ]
    provenance = (
        "Computed by this project's own code in double precision with PyTorch "
        f"{torch.__version__.partition('+')[0]}, after it had met the vectors of the authors' code ({met} tests). "
        "Weights and inputs follow from their names (Testing/formula_weights.py)."
    )
    cases = {vector.case: _facts(replace(vector, outputs=computed(vector))) for vector in (*published, *variants)}
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(facts)}" for case, facts in cases.items())
    FILE.write_text(f'{{"provenance": {json.dumps(provenance)}, "cases": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{len(cases)} cases, {FILE.stat().st_size} bytes: {FILE}")
    return 0


class _Count:
    """What became of the tests of one session of pytest."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes.append(report.outcome)


def golden_tests_passed() -> int:
    """How many tests there are against the authors' vectors; 0 unless every one passed."""
    count = _Count()
    models = Path(__file__).parent
    code = pytest.main(["-q", "-k", "golden", str(models), str(models.with_name("kernels"))], plugins=[count])
    return len(count.outcomes) if code == 0 and set(count.outcomes) == {"passed"} else 0


def computed(vector: Vector) -> tuple[float, ...]:
    """The outputs to keep, to 12 digits."""
    with torch.inference_mode():
        sample = vector.sample_of(vector.network()(vector.image()))
    return tuple(float(f"{value:.12g}") for value in sample.tolist())


def _size(name: str) -> tuple[int, int]:
    return (32, 64) if name == "swin_umamba" else (16, 32)


def _facts(vector: Vector) -> dict[str, Any]:
    names = ("architecture", "options", "input_shape", "published_shapes", "outputs")
    return {name: getattr(vector, name) for name in names if getattr(vector, name) is not None}


if __name__ == "__main__":
    sys.exit(main())
