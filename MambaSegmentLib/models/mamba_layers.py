"""Mamba between the convolutions of a U-Net: the layers of U-Mamba and MambaClinix.

Sources: Ma et al. 2024, "U-Mamba", arXiv:2401.04722; Bian et al. 2024, "MambaClinix", arXiv:2409.12533; both with the
released code, which computes these layers in single precision under automatic mixed precision, as is done here.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from .mamba_block import Mamba, MambaState
from .recomputed import Recomputed
from .streamed_mixer import StreamedMixer, image_of, tokens_of


class MambaLayer(Recomputed, StreamedMixer):
    """Mamba(LN(tokens)), one token per voxel; neither residual nor projection."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels)

    def forward(self, x: Tensor) -> Tensor:
        with _single_precision(x):
            return super().forward(x.to(self.norm.weight.dtype))

    def start(self, x: Tensor) -> list[MambaState]:
        return [self.mamba.start(x.shape[0], x)]

    def transform(self, x: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        mixed, state = self.mamba.step(self.norm(tokens_of(x)), states[0])
        return image_of(mixed, x.shape[2:]), [state]


class ResidualMambaLayer(MambaLayer):
    """x + Linear(LN(Mamba(LN(x)))), both LN the same one."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.proj = nn.Linear(channels, channels)
        self.skip_scale = nn.Parameter(torch.ones(1), requires_grad=False)  # stored by the authors' code, never used

    def transform(self, x: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        tokens = tokens_of(x)
        mixed, state = self.mamba.step(self.norm(tokens), states[0])
        return image_of(self.proj(self.norm(mixed)) + tokens, x.shape[2:]), [state]


class ChannelMambaLayer(Recomputed):
    """Mamba(LN(tokens)), one token per channel, which holds all voxels: it fits one image size alone.

    Args:
        voxels: of the images it will get.
    """

    def __init__(self, voxels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(voxels)
        self.mamba = Mamba(voxels)

    def forward(self, x: Tensor) -> Tensor:
        with _single_precision(x):
            mixed = self.mamba(self.norm(x.flatten(2).to(self.norm.weight.dtype)))
        return mixed.unflatten(2, x.shape[2:])


def _single_precision(x: Tensor) -> AbstractContextManager[object]:
    """No autocast inside, on devices that know it at all (tensors without data do not)."""
    known = torch.amp.is_autocast_available(x.device.type)
    return torch.autocast(x.device.type, enabled=False) if known else nullcontext()
