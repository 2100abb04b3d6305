"""Every network at a size that takes a fraction of a second, for what must hold for all of them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from MambaSegmentLib.models import build_model

CLASSES = 3


@dataclass(frozen=True)
class Tiny:
    """A network by name and options, and the smallest image that exercises it: (B, C, *spatial)."""

    name: str
    options: dict[str, Any]
    shape: tuple[int, ...]

    def build(self, **more: Any) -> nn.Module:
        """With the same starting values each time."""
        torch.manual_seed(0)
        given = {"in_channels": self.shape[1], "num_classes": CLASSES}
        return build_model(self.name, {**given, **self.options, **more})

    def image(self, seed: int = 1) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))


_VSS = {"dims": [8, 16], "depths": [1, 1], "d_state": 4}
_SWIN = {"feature_sizes": [4, 4, 6, 8, 8], "hidden_size": 16, "encoder_dims": [4, 8, 12, 16], "encoder_depths": [1] * 4}
_DAGGER = {"dims": [8, 16], "encoder_depths": [1, 2], "decoder_depths": [1], "d_state": 4}
_FLAT = {"spatial_dims": 2, "features_per_stage": [8, 16, 16], "kernel_sizes": 3, "strides": [1, 2, 2]}
_DEEP = {"spatial_dims": 3, "features_per_stage": [8, 16, 16], "kernel_sizes": [[1, 3, 3], 3, 3], "strides": [1, 2, 2]}
_LIGHT = {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}

TINY = {
    "lightm_unet_2d": Tiny("lightm_unet", {"spatial_dims": 2, **_LIGHT}, (2, 1, 8, 12)),
    "lightm_unet_3d": Tiny("lightm_unet", {"spatial_dims": 3, **_LIGHT}, (2, 1, 4, 8, 6)),
    "mamba_unet": Tiny("mamba_unet", _VSS, (2, 1, 16, 24)),
    "swin_umamba": Tiny("swin_umamba", {**_SWIN, "d_state": 4, "deep_supervision": True}, (2, 1, 32, 64)),
    "swin_umamba_d": Tiny("swin_umamba_d", {**_DAGGER, "deep_supervision": True}, (2, 1, 16, 24)),
    "mambaclinix_2d": Tiny("mambaclinix", _FLAT, (2, 1, 16, 8)),
    "mambaclinix_3d": Tiny("mambaclinix", _DEEP, (2, 1, 4, 8, 8)),
    "umamba_bot_2d": Tiny("umamba_bot", _FLAT, (2, 1, 16, 8)),
    "umamba_bot_3d": Tiny("umamba_bot", {**_DEEP, "deep_supervision": True}, (2, 1, 4, 8, 8)),
    "umamba_enc_2d": Tiny("umamba_enc", {**_FLAT, "input_size": [16, 8]}, (2, 1, 16, 8)),
    "umamba_enc_3d": Tiny("umamba_enc", {**_DEEP, "input_size": [4, 8, 8]}, (2, 1, 4, 8, 8)),
    "resenc_unet_2d": Tiny("resenc_unet", _FLAT, (2, 1, 16, 8)),
    "resenc_unet_3d": Tiny("resenc_unet", _DEEP, (2, 1, 4, 8, 8)),
}


def all_outputs(net: nn.Module, x: Tensor) -> list[Tensor]:
    """The logits of every resolution that it gives, largest first."""
    y = net(x)
    return y if isinstance(y, list) else [y]
