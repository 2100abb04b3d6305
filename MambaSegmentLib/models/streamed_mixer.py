"""Layers that read a feature map as one long sequence of tokens, the last axis fastest, and write it back."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .mamba_block import MambaState

PIECE_ELEMENTS = 1 << 22  # of the widest tensor of one slab when streaming: 16 MB in float32


def tokens_of(image: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, L, C), a view."""
    return image.flatten(2).transpose(1, 2)


def image_of(tokens: Tensor, spatial: torch.Size) -> Tensor:
    """(B, L, C) -> (B, C, *spatial), channels last in memory."""
    return tokens.transpose(1, 2).unflatten(2, spatial)


class StreamedMixer(nn.Module, ABC):
    """A layer whose output at a token depends on that token and those before it alone.

    Args:
        out_channels: width of the output.
    Input: (B, C, *spatial). Output: (B, out_channels, *spatial), channels last in memory.

    Without gradients the sequence is streamed: slabs of the image pass through all steps while the states of the scans
    are carried from slab to slab, so that memory beyond input and output does not grow with the number of slices.
    """

    widening = 4  # the widest inner tensor over the input's width: both halves of Mamba's input projection
    needs_whole_image = False  # for a layer that looks ahead, which cannot be streamed

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    @abstractmethod
    def start(self, x: Tensor) -> list[MambaState]:
        """The states before the first token of an image or a slab of it."""

    @abstractmethod
    def transform(self, x: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        """The next slab of an image: (B, C, *spatial) -> (B, out_channels, *spatial), and the states after it."""

    def in_one_walk(self, x: Tensor) -> bool:
        """Whether `transform` takes a whole image without more memory than its answer."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or self.needs_whole_image or self.in_one_walk(x):
            return self.transform(x, self.start(x))[0]
        out = x.new_empty(x.shape[0], *x.shape[2:], self.out_channels).movedim(-1, 1)
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
        step = thickness if self.needs_whole_image else step
        states = self.start(x)
        for begin in range(0, thickness, step):
            slab, states = self.transform(x[:, :, begin : begin + step], states)
            yield slab
