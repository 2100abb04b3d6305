"""Visual state space blocks and the patch layers around them: the parts of the U-Nets built from VMamba.

Shapes: B batch, (H, W) image, C channels; channels last between all layers here.
Sources: Liu et al. 2024, "VMamba", arXiv:2401.10166 (block, merging); Cao et al. 2021, "Swin-Unet", arXiv:2105.05537
(expanding). As in the released code of the segmentation networks, every LayerNorm has epsilon 1e-5.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError
from .drop_path import DropPath
from .recomputed import Recomputed
from .renaming import Renaming
from .ss2d import SS2D


class VSSBlock(Recomputed):
    """x + DropPath(SS2D(LN(x)))."""

    def __init__(self, channels: int, d_state: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.ss2d = SS2D(channels, d_state)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.ss2d(self.norm(x)))


def drop_path_rates(first: float, last: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates that change linearly from block to block, cut into stages of `depths` blocks."""
    blocks = sum(depths)
    rates = iter(first + (last - first) * index / max(1, blocks - 1) for index in range(blocks))
    return [list(itertools.islice(rates, depth)) for depth in depths]


def vss_blocks(channels: int, d_state: int, drop_paths: Sequence[float]) -> nn.Sequential:
    """As many blocks as there are drop path rates."""
    return nn.Sequential(*(VSSBlock(channels, d_state, rate) for rate in drop_paths))


class PatchEmbed(nn.Module):
    """(B, C, H, W) -> (B, H / patch, W / patch, out): a linear map of each patch, then LayerNorm."""

    def __init__(self, in_channels: int, out_channels: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, patch, stride=patch)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchMerging(Recomputed):
    """(B, H, W, C) -> (B, H / 2, W / 2, out): each 2x2 patch as one token, LayerNorm, a linear map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_channels)
        self.reduction = nn.Linear(4 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        patches = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.reduction(self.norm(torch.cat(patches, dim=-1)))


class PatchExpand(Recomputed):
    """(B, H, W, C) -> (B, factor H, factor W, out): a linear map to a patch of tokens, then LayerNorm of each."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(in_channels, factor**2 * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.expand(x).unflatten(-1, (self.factor, self.factor, -1))  # (B, H, W, row, column, out)
        return self.norm(patches.transpose(2, 3).flatten(3, 4).flatten(1, 2))


class VSSEncoder(nn.Module):
    """Patch embedding, then stages of VSS blocks with a patch merging between each two.

    Args:
        in_channels: C of the image.
        patch: edge of an embedded patch.
        dims, depths: width and number of blocks of each stage.
        drop_path: largest rate; rates rise to it linearly from 0 at the first block.
    """

    def __init__(
        self, in_channels: int, patch: int, dims: Sequence[int], depths: Sequence[int], d_state: int, drop_path: float
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, dims[0], patch)
        rates = drop_path_rates(0, drop_path, depths)
        self.stages = nn.ModuleList(
            vss_blocks(dim, d_state, stage_rates) for dim, stage_rates in zip(dims, rates, strict=True)
        )
        self.mergings = nn.ModuleList(PatchMerging(fine, coarse) for fine, coarse in itertools.pairwise(dims))

    def forward(self, x: Tensor, stages: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """The maps before and after each of the first `stages` stages (all by default), from (B, C, H, W)."""
        before, after = [self.patch_embed(x)], list[Tensor]()
        for index, stage in enumerate(self.stages[:stages]):
            if index > 0:
                before.append(self.mergings[index - 1](after[-1]))
            after.append(stage(before[-1]))
        return before, after


class ExpandingLevel(nn.Module):
    """Enlarge twice, put the encoder's map behind, reduce linearly to the new width, refine with VSS blocks."""

    def __init__(self, in_channels: int, out_channels: int, d_state: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.expand = PatchExpand(in_channels, out_channels)
        self.fuse = nn.Linear(2 * out_channels, out_channels)
        self.blocks = vss_blocks(out_channels, d_state, drop_paths)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.blocks(self.fuse(torch.cat([self.expand(x), skip], dim=-1)))


def start_linear_layers(root: nn.Module) -> None:
    """Weights of every nn.Linear below `root` from a truncated normal distribution of 0.02, biases 0."""
    for module in root.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_image(x: Tensor, channels: int, multiple: int) -> None:
    """Refuse what a network cannot take, before any work.

    Raises:
        ShapeError: `x` is not (batch, channels, H, W) with H and W multiples of `multiple`.
    """
    if x.dim() != 4 or x.shape[1] != channels:
        raise ShapeError(f"input has shape {tuple(x.shape)}; expected (batch, {channels}) and 2 spatial sizes")
    if any(size == 0 or size % multiple for size in x.shape[2:]):
        raise ShapeError(f"spatial size {tuple(x.shape[2:])}: each must be a multiple of {multiple}; pad the input")


def check_positive(**options: int | Sequence[int]) -> None:
    """Raises ConfigError for an option that is, or holds, a number below 1, or is an empty list."""
    for name, value in options.items():
        numbers = list(value) if isinstance(value, Sequence) else [value]
        if not numbers or min(numbers) < 1:
            raise ConfigError(
                f"{name} is {value}; expected at least 1" + (" in each" if isinstance(value, Sequence) else "")
            )


# authors' names of the shared parts -> ours, applied before those of a network
PUBLISHED_NAMES_OF_PARTS: Renaming = (
    (r"\.ln_1\.", ".norm."),
    (r"\.self_attention\.", ".ss2d."),
)
