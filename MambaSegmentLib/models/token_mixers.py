"""LightM-UNet's layers that mix tokens: Mamba, segmented parallel Mamba, and what its ablation puts in their place.

RVM and the ablation: Liao et al. 2024, "LightM-UNet", arXiv:2403.05246. SPM: the four-fold parallel form after Wu et
al. 2024, "UltraLight VM-UNet", arXiv:2403.20035, put into LightM-UNet.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..kernels import GroupNormWeights, MambaLayerWeights, is_one_step, residual_mamba_layer
from .blocks import CONVOLUTIONS
from .mamba_block import Mamba, MambaState
from .streamed_mixer import StreamedMixer, image_of, tokens_of

SEGMENTS = 4


class TokenMixer(StreamedMixer):
    """LayerNorm, a mixing of tokens plus a scaled residual, the same LayerNorm again, and a linear layer.

    Args:
        in_channels, out_channels: width before and after.
        parts: the modules that `mix` uses, by name; they become children of this one.
        adjustment: whether the residual is scaled by a learned factor.
        skip: whether there is a residual at all.
    """

    def __init__(
        self, in_channels: int, out_channels: int, parts: dict[str, nn.Module], *, adjustment: bool, skip: bool
    ) -> None:
        super().__init__(out_channels)
        self.norm = nn.LayerNorm(in_channels)
        for name, module in parts.items():
            self.add_module(name, module)
        self.proj = nn.Linear(in_channels, out_channels)
        self.skip = skip
        self.skip_scale = nn.Parameter(torch.ones(1)) if adjustment and skip else None

    @abstractmethod
    def mix(self, normalised: Tensor, spatial: torch.Size, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        """What one token learns from others: (B, L, C) -> (B, L, C)."""

    def source_of_residual(self, tokens: Tensor, normalised: Tensor) -> Tensor:
        return tokens

    def start(self, x: Tensor) -> list[MambaState]:
        return []

    def transform(self, x: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        tokens = tokens_of(x)
        normalised = self.norm(tokens)
        mixed, states = self.mix(normalised, x.shape[2:], states)
        if self.skip:
            source = self.source_of_residual(tokens, normalised)
            mixed = mixed + (source if self.skip_scale is None else self.skip_scale * source)
        return image_of(self.proj(self.norm(mixed)), x.shape[2:]), states


class RVMLayer(TokenMixer):
    """Residual Vision Mamba layer: one Mamba over all channels, the residual taken before the normalisation."""

    mamba: Mamba

    def __init__(self, in_channels: int, out_channels: int, *, adjustment: bool = True, skip: bool = True) -> None:
        super().__init__(in_channels, out_channels, {"mamba": Mamba(in_channels)}, adjustment=adjustment, skip=skip)

    def start(self, x: Tensor) -> list[MambaState]:
        return [self.mamba.start(x.shape[0], x)]

    def in_one_walk(self, x: Tensor) -> bool:
        return is_one_step(tokens_of(x), self._weights())

    def transform(self, x: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        if not self.in_one_walk(x):
            return super().transform(x, states)
        answer, tail, scan = residual_mamba_layer(tokens_of(x), self._weights(), states[0].tail, states[0].scan)
        return image_of(answer, x.shape[2:]), [MambaState(tail, scan)]

    def after_norm(
        self, norm: nn.GroupNorm, x: Tensor, added: Tensor | None = None, *, in_place: bool = False
    ) -> Tensor:
        """The layer's answer to ReLU(norm(x)), plus `added`; only where `in_one_walk`, and with no tensor between."""
        (state,) = self.start(x)
        factors = GroupNormWeights(norm.num_groups, norm.weight, norm.bias, norm.eps)
        added = None if added is None else tokens_of(added)
        answer, _, _ = residual_mamba_layer(
            tokens_of(x), self._weights(), state.tail, state.scan, factors, added, in_place=in_place
        )
        return image_of(answer, x.shape[2:])

    def mix(self, normalised: Tensor, spatial: torch.Size, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        mixed, state = self.mamba.step(normalised, states[0])
        return mixed, [state]

    def _weights(self) -> MambaLayerWeights:
        mamba, conv_bias = self.mamba, self.mamba.conv1d.bias
        assert conv_bias is not None
        return MambaLayerWeights(
            norm_weight=self.norm.weight,
            norm_bias=self.norm.bias,
            epsilon=self.norm.eps,
            in_proj=mamba.in_proj.weight,
            conv_weight=mamba.conv1d.weight[:, 0],
            conv_bias=conv_bias,
            x_proj=mamba.x_proj.weight,
            dt_proj=mamba.dt_proj.weight,
            dt_bias=mamba.dt_proj.bias,
            A_log=mamba.A_log,
            D=mamba.D,
            out_proj=mamba.out_proj.weight,
            skip=float(self.skip) if self.skip_scale is None else self.skip_scale,
            proj_weight=self.proj.weight,
            proj_bias=self.proj.bias,
        )


class SPMLayer(TokenMixer):
    """Segmented parallel Mamba: the normalised channels in four equal parts, each mixed by itself.

    Args:
        shared: one Mamba for the four parts (as UltraLight VM-UNet's code has it), or one for each.
        residual: what is added to each mixed part: "normalised" (the part itself, the default) or "raw" (the tokens
            before the normalisation). The report leaves it open.
    """

    mamba: Mamba | nn.ModuleList

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shared: bool = True,
        residual: str = "normalised",
        *,
        adjustment: bool = True,
        skip: bool = True,
    ) -> None:
        if in_channels % SEGMENTS:
            raise ConfigError(f"SPM splits channels into {SEGMENTS} equal parts; {in_channels} cannot be split so")
        if residual not in ("normalised", "raw"):
            raise ConfigError(f"residual is {residual!r}; expected 'normalised' or 'raw'")
        part = in_channels // SEGMENTS
        mamba = Mamba(part) if shared else nn.ModuleList(Mamba(part) for _ in range(SEGMENTS))
        super().__init__(in_channels, out_channels, {"mamba": mamba}, adjustment=adjustment, skip=skip)
        self.residual = residual

    def start(self, x: Tensor) -> list[MambaState]:
        if isinstance(self.mamba, Mamba):
            return [self.mamba.start(SEGMENTS * x.shape[0], x)]
        return [mamba.start(x.shape[0], x) for mamba in self._separate()]

    def source_of_residual(self, tokens: Tensor, normalised: Tensor) -> Tensor:
        return normalised if self.residual == "normalised" else tokens

    def mix(self, normalised: Tensor, spatial: torch.Size, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        parts = normalised.chunk(SEGMENTS, dim=2)
        if isinstance(self.mamba, Mamba):  # the four parts are four sequences of one batch
            mixed, state = self.mamba.step(torch.cat(parts), states[0])
            return torch.cat(mixed.chunk(SEGMENTS), dim=2), [state]
        results = [mamba.step(part, state) for mamba, part, state in zip(self._separate(), parts, states, strict=True)]
        return torch.cat([mixed for mixed, _ in results], dim=2), [state for _, state in results]

    def _separate(self) -> list[Mamba]:
        assert isinstance(self.mamba, nn.ModuleList)
        return [module for module in self.mamba if isinstance(module, Mamba)]


class ConvLayer(TokenMixer):
    """The ablation's convolution in Mamba's place: each voxel learns from its neighbours alone."""

    needs_whole_image = True
    conv: nn.Module

    def __init__(
        self, in_channels: int, out_channels: int, *, dim: int, adjustment: bool = True, skip: bool = True
    ) -> None:
        conv = CONVOLUTIONS[dim](in_channels, in_channels, 3, padding=1)
        super().__init__(in_channels, out_channels, {"conv": conv}, adjustment=adjustment, skip=skip)

    def mix(self, normalised: Tensor, spatial: torch.Size, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        return tokens_of(self.conv(image_of(normalised, spatial))), states


class AttentionLayer(TokenMixer):
    """The ablation's self-attention in Mamba's place: every token sees every other; the cost grows as L squared."""

    needs_whole_image = True
    qkv: nn.Module
    out_proj: nn.Module
    _WIDTH_OF_A_HEAD = 32

    def __init__(self, in_channels: int, out_channels: int, *, adjustment: bool = True, skip: bool = True) -> None:
        heads = max(1, in_channels // self._WIDTH_OF_A_HEAD)
        if in_channels % heads:
            raise ConfigError(f"self-attention has {heads} heads; {in_channels} channels cannot be split so")
        parts: dict[str, nn.Module] = {
            "qkv": nn.Linear(in_channels, 3 * in_channels),
            "out_proj": nn.Linear(in_channels, in_channels),
        }
        super().__init__(in_channels, out_channels, parts, adjustment=adjustment, skip=skip)
        self.heads = heads

    def mix(self, normalised: Tensor, spatial: torch.Size, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        query, key, value = self.qkv(normalised).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, L, width of a head)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), states


MixerFactory = Callable[[int, int], TokenMixer]
