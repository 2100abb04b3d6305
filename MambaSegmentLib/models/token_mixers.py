"""Layers that read a feature map as one long sequence of tokens, mix it with Mamba, and write it back.

Tokens are taken row by row, the last axis fastest. RVM: Liao et al. 2024, "LightM-UNet", arXiv:2403.05246.
SPM: the four-fold parallel form after Wu et al. 2024, "UltraLight VM-UNet", arXiv:2403.20035, put into LightM-UNet.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .mamba_block import Mamba, MambaState

PIECE_ELEMENTS = 1 << 22  # of the widest tensor of one slab when streaming: 16 MB in float32
SEGMENTS = 4


class TokenMixer(nn.Module, ABC):
    """LayerNorm, Mamba plus a scaled residual, the same LayerNorm again, and a linear layer to the new width.

    Args:
        in_channels, out_channels: width before and after.
    Input: (B, in_channels, *spatial). Output: (B, out_channels, *spatial), channels last in memory.

    Without gradients the sequence is streamed: slabs of the image pass through all steps while the block's state is
    carried from slab to slab, so that memory beyond input and output does not grow with the number of slices.
    """

    widening = 4  # the widest inner tensor over in_channels: both halves of Mamba's input projection

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels)
        self.mamba = self.make_mamba(in_channels)
        self.proj = nn.Linear(in_channels, out_channels)
        self.skip_scale = nn.Parameter(torch.ones(1))

    @abstractmethod
    def make_mamba(self, channels: int) -> nn.Module:
        """The part that mixes tokens."""

    @abstractmethod
    def start(self, x: Tensor) -> list[MambaState]:
        """The states before the first token of an image or a slab of it."""

    @abstractmethod
    def mix(self, tokens: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        """Normalise, mix, add the residual: (B, L, C) -> (B, L, C)."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._transform(x, self.start(x))[0]
        out = x.new_empty(x.shape[0], *x.shape[2:], self.proj.out_features).movedim(-1, 1)
        begin = 0
        for slab in self.stream(x):
            out[:, :, begin : begin + slab.shape[2]] = slab
            begin += slab.shape[2]
        return out

    def stream(self, x: Tensor, multiple: int = 1) -> Iterator[Tensor]:
        """The output in slabs along the first spatial axis, each a multiple of `multiple` planes thick, in order."""
        batch, channels, thickness, *plane = x.shape
        plane_elements = batch * channels * self.widening * math.prod(plane)
        step = max(1, PIECE_ELEMENTS // (plane_elements * multiple)) * multiple
        states = self.start(x)
        for begin in range(0, thickness, step):
            slab, states = self._transform(x[:, :, begin : begin + step], states)
            yield slab

    def _transform(self, x: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        """The next slab of an image: (B, C, *spatial) -> (B, out_channels, *spatial)."""
        mixed, states = self.mix(x.flatten(2).transpose(1, 2), states)
        mixed = self.proj(self.norm(mixed))
        return mixed.transpose(1, 2).unflatten(2, x.shape[2:]), states


class RVMLayer(TokenMixer):
    """Residual Vision Mamba layer: one Mamba over all channels, the residual taken before the normalisation."""

    mamba: Mamba

    def make_mamba(self, channels: int) -> nn.Module:
        return Mamba(channels)

    def start(self, x: Tensor) -> list[MambaState]:
        return [self.mamba.start(x.shape[0], x)]

    def mix(self, tokens: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        mixed, state = self.mamba.step(self.norm(tokens), states[0])
        return mixed + self.skip_scale * tokens, [state]


class SPMLayer(TokenMixer):
    """Segmented parallel Mamba: the normalised channels in four equal parts, each mixed by itself.

    Args:
        shared: one Mamba for the four parts (as UltraLight VM-UNet's code has it), or one for each.
        residual: what is added to each mixed part: "normalised" (the part itself, the default) or "raw" (the tokens
            before the normalisation). The report leaves it open.
    """

    mamba: Mamba | nn.ModuleList

    def __init__(self, in_channels: int, out_channels: int, shared: bool = True, residual: str = "normalised") -> None:
        if in_channels % SEGMENTS:
            raise ConfigError(f"SPM splits channels into {SEGMENTS} equal parts; {in_channels} cannot be split so")
        if residual not in ("normalised", "raw"):
            raise ConfigError(f"residual is {residual!r}; expected 'normalised' or 'raw'")
        self.shared, self.residual = shared, residual
        super().__init__(in_channels, out_channels)

    def make_mamba(self, channels: int) -> nn.Module:
        part = channels // SEGMENTS
        return Mamba(part) if self.shared else nn.ModuleList(Mamba(part) for _ in range(SEGMENTS))

    def start(self, x: Tensor) -> list[MambaState]:
        if isinstance(self.mamba, Mamba):
            return [self.mamba.start(SEGMENTS * x.shape[0], x)]
        return [mamba.start(x.shape[0], x) for mamba in self._separate()]

    def mix(self, tokens: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        normalised = self.norm(tokens)
        mixed, states = self._mix_parts(normalised, states)
        return mixed + self.skip_scale * (normalised if self.residual == "normalised" else tokens), states

    def _mix_parts(self, normalised: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        parts = normalised.chunk(SEGMENTS, dim=2)
        if isinstance(self.mamba, Mamba):  # the four parts are four sequences of one batch
            mixed, state = self.mamba.step(torch.cat(parts), states[0])
            return torch.cat(mixed.chunk(SEGMENTS), dim=2), [state]
        results = [mamba.step(part, state) for mamba, part, state in zip(self._separate(), parts, states, strict=True)]
        return torch.cat([mixed for mixed, _ in results], dim=2), [state for _, state in results]

    def _separate(self) -> list[Mamba]:
        assert isinstance(self.mamba, nn.ModuleList)
        return [module for module in self.mamba if isinstance(module, Mamba)]


MixerFactory = Callable[[int, int], TokenMixer]
