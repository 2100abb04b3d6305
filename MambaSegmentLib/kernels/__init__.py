"""The selective scan: one function, several ways to compute it.

`selective_scan` checks its arguments once, picks a backend for the device and dtype, and calls it. Every backend is
judged by `reference`. docs/scan.md has the notation, the derivation of the backward pass and the
numerical limits.
"""

from .api import selective_scan
from .backends import BackendInfo, available_backends, choose_backend, explain_choice
from .causal_conv import causal_conv_silu, tail_after
from .directions import Direction, all_directions, directional_scan, row_major
from .mamba_layer import GroupNormWeights, MambaLayerWeights, is_one_step, residual_mamba_layer

__all__ = [
    "BackendInfo",
    "Direction",
    "GroupNormWeights",
    "MambaLayerWeights",
    "all_directions",
    "available_backends",
    "causal_conv_silu",
    "choose_backend",
    "directional_scan",
    "explain_choice",
    "is_one_step",
    "residual_mamba_layer",
    "row_major",
    "selective_scan",
    "tail_after",
]
