"""What there is to draw of a network: read from its modules, with the sizes of a pass without data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.canonical import Canonical
from MambaSegmentLib.models.hgcn import HGCNBlock
from MambaSegmentLib.models.lightm_unet import DecoderBlock, Halving, LightMUNet, ResidualMixerBlock
from MambaSegmentLib.models.mamba_layers import ChannelMambaLayer, MambaLayer, ResidualMambaLayer
from MambaSegmentLib.models.mamba_unet import MambaUNet
from MambaSegmentLib.models.residual_blocks import ResidualBlock
from MambaSegmentLib.models.residual_unet import ResidualUNet
from MambaSegmentLib.models.swin_umamba import SwinUMamba
from MambaSegmentLib.models.swin_umamba_d import SwinUMambaD
from MambaSegmentLib.models.token_mixers import RVMLayer
from MambaSegmentLib.models.vss import VSSBlock

Cell = tuple[str, str]  # kind ("conv", "mamba", "hgcn" or "plain") and what it is


@dataclass(frozen=True)
class Box:
    """Steps in the order in which they are taken, and the size of what leaves the last one."""

    cells: tuple[Cell, ...]
    channels: int
    spatial: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One resolution: what the encoder does there, what the decoder does, and how the skip between them is made.

    Attributes:
        skip: what the skip passes, "" if nothing; None for no skip. The decoder's first step takes it.
        skip_after: the encoder's step whose result it is.
    """

    left: Box
    right: Box
    skip: str | None
    skip_after: int = -1


@dataclass(frozen=True)
class Drawing:
    """A U from top to bottom: rows, and what lies at its bottom."""

    title: str
    image: Box
    rows: tuple[Row, ...]
    bottom: Box


class _Sizes:
    """The sizes of what modules put out in one pass of a network without data."""

    def __init__(self, net: nn.Module, network: Canonical) -> None:
        self._of: dict[nn.Module, tuple[int, ...]] = {}
        dims = len(network.spatial)
        for module in net.modules():
            module.register_forward_hook(self._remember)
        with torch.no_grad():
            net.eval()(torch.empty(network.input_shape, device="meta"))
        self._spatial_dims = dims

    def _remember(self, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            self._of[module] = tuple(output.shape)

    def box(self, module: nn.Module, cells: Sequence[Cell], *, channels_last: bool = False) -> Box:
        """Of the output of `module`, (B, C, *spatial) or (B, *spatial, C)."""
        _, *sizes = self._of[module]
        channels = sizes.pop() if channels_last else sizes.pop(0)
        return Box(tuple(cells), channels, tuple(sizes))


def structure_of(network: Canonical) -> Drawing:
    """Build the network without data and read off what to draw."""
    with torch.device("meta"):
        net = build_model(network.architecture, network.options)
    sizes = _Sizes(net, network)
    image = Box((("plain", "image"),), network.options["in_channels"], network.spatial)
    rows, bottom = _READERS[type(net).__mro__[_depth_of(net)]](net, sizes, image)
    return Drawing(network.title, image, tuple(rows), bottom)


def _depth_of(net: nn.Module) -> int:
    return next(index for index, kind in enumerate(type(net).__mro__) if kind in _READERS)


def _times(count: int, what: str) -> str:
    return f"{count} × {what}"


def _lightm(net: LightMUNet, sizes: _Sizes, image: Box) -> tuple[list[Row], Box]:
    boxes = []
    for index, stage in enumerate(net.encoder):
        cells: list[Cell] = [("conv", "stem: depthwise 3-conv, 1-conv")] if index == 0 else []
        layers = list(stage)
        if isinstance(layers[0], Halving):
            cells.append(("mamba", f"{_mixer(layers[0].mixer)} to twice the width, max pool 2"))
        blocks = [layer for layer in layers if isinstance(layer, ResidualMixerBlock)]
        cells.append(("mamba", f"{_times(len(blocks), 'residual block')} of 2 {_mixer(blocks[0].mixer1)}"))
        boxes.append(sizes.box(stage, cells))
    *lefts, bottom = boxes
    rows = []
    for left, level in zip(lefts, reversed(net.decoder), strict=True):
        count = sum(isinstance(block, DecoderBlock) for block in level.blocks)
        cells = [("plain", "1-conv to half the width, linear × 2, add")]
        cells.append(("conv", f"{_times(count, 'depthwise 3-conv, 1-conv')}, residual"))
        if left is lefts[0]:
            cells.append(("plain", f"head: {net.head.pointwise.out_channels} classes"))
        rows.append(Row(left, sizes.box(level, cells), ""))
    return rows, bottom


def _mixer(layer: nn.Module) -> str:
    return "RVM" if type(layer) is RVMLayer else type(layer).__name__


def _vss(stage: nn.Module) -> Cell:
    return "mamba", _times(sum(isinstance(block, VSSBlock) for block in stage), "VSS block")


def _vss_encoder(net: MambaUNet | SwinUMamba | SwinUMambaD, sizes: _Sizes) -> list[Box]:
    """A box a stage, with the embedding or merging before it."""
    encoder = net.encoder
    patch = encoder.patch_embed.proj.kernel_size[0]
    boxes = []
    for index, stage in enumerate(encoder.stages):
        first = f"{patch} × {patch} patch embedding, LN" if index == 0 else "patch merging (LN, linear)"
        boxes.append(sizes.box(stage, [("plain", first), _vss(stage)], channels_last=True))
    return boxes


def _symmetric_vss(net: MambaUNet | SwinUMambaD, sizes: _Sizes, image: Box) -> tuple[list[Row], Box]:
    *lefts, bottom = _vss_encoder(net, sizes)
    is_plain = isinstance(net, MambaUNet)
    heads = net.head if is_plain else net.heads[-1]
    top = sizes.box(net.enlarge, [("plain", "patch expanding × 4"), ("plain", _head(heads))], channels_last=True)
    rows = [Row(image, top, None)]
    for left, level in zip(lefts, reversed(net.decoder), strict=True):
        cells: list[Cell] = [
            ("plain", "patch expanding × 2, concatenate"),
            ("plain", "linear to half the width"),
            _vss(level.blocks),
        ]
        skip_after = 0 if is_plain else -1  # Mamba-UNet's skips are the maps before the VSS blocks
        rows.append(Row(left, sizes.box(level, cells, channels_last=True), "", skip_after))
    if is_plain:  # Swin-UMamba† has no normalisation there
        bottom = Box((*bottom.cells, ("plain", "LN")), bottom.channels, bottom.spatial)
    return rows, bottom


def _head(conv: nn.Module) -> str:
    return f"head: {conv.out_channels} classes"


def _swin(net: SwinUMamba, sizes: _Sizes, image: Box) -> tuple[list[Row], Box]:
    stem = sizes.box(net.stem, [("conv", "stem: 7-conv, stride 2, InstanceNorm")])
    *stages, bottom = _vss_encoder(net, sizes)
    lefts = [image, stem, *stages]
    rows = []
    for index, (left, level) in enumerate(zip(lefts, net.decoder, strict=True)):
        cells: list[Cell] = [
            ("plain", "transposed 2-conv, stride 2, concatenate"),
            ("conv", "residual block of two 3-convs"),
        ]
        if index == 0:
            cells += [("conv", "residual block of two 3-convs"), ("plain", _head(net.heads[0]))]
        rows.append(Row(left, sizes.box(level, cells), "residual block\nof two 3-convs"))
    return rows, bottom


def _residual(net: ResidualUNet, sizes: _Sizes, image: Box) -> tuple[list[Row], Box]:
    boxes = []
    for index, (stage, mixer) in enumerate(zip(net.stages, net.mixers, strict=True)):
        cells = [("conv", _stem(net.stem))] if index == 0 else []
        stride = math.prod(net.config.strides[index])
        cells.append(("conv", _convolutions(stage) + ("" if stride == 1 else ", stride 2")))
        if index == getattr(net, "last_hgcn", None):
            cells.append(("plain", "LN over channels"))
        cells += _mixing(mixer)
        boxes.append(sizes.box(mixer, cells))
    *lefts, last = boxes
    bottom = Box((*last.cells, *_bottleneck(net.bottleneck)), last.channels, last.spatial)
    rows = []
    for left, level in zip(lefts, reversed(net.decoder), strict=True):
        join = "" if level.refine_skip is None else ", concatenate"
        cells = [("plain", "1-conv, nearest × 2" + join), ("conv", _convolutions(level.blocks))]
        if left is lefts[0]:
            cells.append(("plain", _head(level.head)))
        passed = None if level.refine_skip is None else ""
        if isinstance(level.refine_skip, ResidualBlock):
            passed = "residual block"
        rows.append(Row(left, sizes.box(level, cells), passed))
    return rows, bottom


def _stem(stem: nn.Module) -> str:
    return f"stem: {_convolutions(stem)}" if isinstance(stem, nn.Sequential) else "stem: 3-conv, InstanceNorm"


def _convolutions(blocks: nn.Module) -> str:
    return _times(sum(isinstance(module, ResidualBlock) for module in blocks.modules()), "residual block")


def _mixing(mixer: nn.Module) -> list[Cell]:
    if isinstance(mixer, HGCNBlock):
        return [("hgcn", f"HGCN of order {len(mixer.interaction.widths)}")]
    if isinstance(mixer, ResidualMambaLayer):
        return [("mamba", "residual Mamba over all voxels")]
    if isinstance(mixer, MambaLayer):
        return [("mamba", "Mamba over all voxels")]
    if isinstance(mixer, ChannelMambaLayer):
        return [("mamba", "Mamba over all channels")]
    assert isinstance(mixer, nn.Identity)
    return []


def _bottleneck(module: nn.Module) -> list[Cell]:
    return [("conv", _convolutions(module))] if isinstance(module, ResidualBlock) else _mixing(module)


_READERS: dict[type[nn.Module], Callable[..., tuple[list[Row], Box]]] = {
    LightMUNet: _lightm,
    MambaUNet: _symmetric_vss,
    SwinUMambaD: _symmetric_vss,
    SwinUMamba: _swin,
    ResidualUNet: _residual,
}
