"""The first released version of LightM-UNet (2024-03-17), as far as its size goes: the paper's figures are of it.

It has no weights here and is never run: the library has the second version (2024-03-29). Stem, head and decoder were
full convolutions, the decoder's blocks those of MONAI's SegResNet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.blocks import CONVOLUTIONS, group_norm
from MambaSegmentLib.models.mamba_block import Mamba


class PreactivatedBlock(nn.Module):
    """x + conv(ReLU(GN(conv(ReLU(GN(x)))))), 3-convolutions without bias."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.conv1, self.conv2 = (CONVOLUTIONS[dim](channels, channels, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


def first_lightm_unet(dim: int, in_channels: int, num_classes: int) -> nn.Module:
    """Without data, on the meta device."""
    with torch.device("meta"):
        net = build_model("lightm_unet", {"spatial_dims": dim, "in_channels": in_channels, "num_classes": num_classes})
        width = net.config.init_filters
        net.stem = CONVOLUTIONS[dim](in_channels, width, 3, padding=1, bias=False)
        net.head = CONVOLUTIONS[dim](width, num_classes, 1)
        for level in net.decoder:
            channels = level.reduce.out_channels
            level.blocks = nn.Sequential(PreactivatedBlock(dim, channels))
    return net


def hide_from_a_profiler(net: nn.Module) -> int:
    """Make `net` (without data) what the thop profiler saw of it, and return the parameters that it counted.

    With the fused Mamba kernel it does not come by the layers inside Mamba; it knows no GroupNorm; and it counts the
    parameters of those modules alone whose kind it knows, so that bare ones such as the residual's scale are missing.
    """
    known = (nn.Conv2d, nn.Conv3d, nn.Linear, nn.LayerNorm)
    inside = {part for module in net.modules() if isinstance(module, Mamba) for part in module.modules()}
    seen = [module for module in net.modules() if isinstance(module, known) and module not in inside]
    for module in net.modules():
        if isinstance(module, Mamba):
            module.step = lambda tokens, state: (tokens, state)
        elif isinstance(module, nn.GroupNorm):
            module.forward = lambda x: x.clone()
    return sum(parameter.numel() for module in seen for parameter in module.parameters())
