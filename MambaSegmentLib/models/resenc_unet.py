"""The residual U-Net without Mamba: the control that every claim about Mamba is tested against, in 2 and 3 dimensions.

It is U-Mamba (see umamba.py) with nothing in Mamba's place, block for block, so that a difference in results is
Mamba's. It is not nnU-Net's own ResidualEncoderUNet, whose encoder is deeper and whose decoder has transposed
convolutions and plain blocks. Source of the idea: Isensee et al. 2024, "nnU-Net revisited", arXiv:2404.09556, where
U-Mamba without Mamba is as good as with it.
"""

from collections.abc import Mapping
from typing import Any

from .umamba import PUBLISHED_NAMES, UMambaConfig, UNetWithoutMamba

__all__ = ["PUBLISHED_NAMES", "ResEncUNet", "ResEncUNetConfig", "refuse_other_versions"]


class ResEncUNetConfig(UMambaConfig):
    """As U-Mamba_Bot's."""


class ResEncUNet(UNetWithoutMamba):
    """A residual U-Net of convolutions alone."""


def refuse_other_versions(state_dict: Mapping[str, Any]) -> str | None:
    """Why these weights are not of the network built here, or None."""
    if any(".mamba." in name for name in state_dict):
        return "these weights have Mamba layers; the control has none"
    if any(name.startswith("decoder.transpconvs.") for name in state_dict):
        return "these weights are of a U-Net of stock nnU-Net: its decoder has transposed convolutions, ours has none"
    return None
