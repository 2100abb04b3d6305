"""LayerNorm, Mamba, residual, LayerNorm and a linear layer as one step, where a backend has it so."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .backends import choose_backend
from .operator import somebody_looks

WIDEST = 128  # channels of a token; above that the products are large enough for a library, which is then faster


@dataclass(frozen=True)
class MambaLayerWeights:
    """The tensors of a residual Mamba layer of C channels, I inner channels, N states, rank R and O outputs.

    Attributes:
        norm_weight, norm_bias: (C,), of the one LayerNorm that is used twice. epsilon: its.
        in_proj: (2 I, C). conv_weight: (I, K). conv_bias: (I,). x_proj: (R + 2 N, I). dt_proj: (I, R).
        dt_bias: (I,). A_log: (I, N). D: (I,). out_proj: (C, I).
        skip: factor of the residual, one number.
        proj_weight: (O, C). proj_bias: (O,).
    """

    norm_weight: Tensor
    norm_bias: Tensor
    epsilon: float
    in_proj: Tensor
    conv_weight: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A_log: Tensor
    D: Tensor
    out_proj: Tensor
    skip: Tensor | float
    proj_weight: Tensor
    proj_bias: Tensor


@dataclass(frozen=True)
class GroupNormWeights:
    """weight, bias: (C,), for `groups` groups of neighbouring channels."""

    groups: int
    weight: Tensor
    bias: Tensor
    epsilon: float


def is_one_step(tokens: Tensor, weights: MambaLayerWeights) -> bool:
    """Whether `residual_mamba_layer` can take this layer, and is the faster way.

    It walks a sequence on one thread. On one it takes 0.35 to 0.65 of the time of its parts, which share their work out
    among threads, though badly: it is taken up to two threads for each sequence. Gradients are not kept.
    """
    if torch.is_grad_enabled() or tokens.device.type != "cpu" or tokens.dtype != torch.float32:
        return False
    if somebody_looks(tokens):  # who could not look into it
        return False
    if tokens.shape[2] > WIDEST or torch.get_num_threads() > 2 * len(tokens) or torch.is_autocast_enabled("cpu"):
        return False
    single = all(value.dtype == torch.float32 for value in vars(weights).values() if isinstance(value, Tensor))
    if not single or choose_backend(tokens.device, tokens.dtype).name != "numba":
        return False
    from . import numba_layer  # numba may not be there

    return numba_layer.takes(weights)


def residual_mamba_layer(
    tokens: Tensor,
    weights: MambaLayerWeights,
    tail: Tensor,
    state: Tensor,
    norm: GroupNormWeights | None = None,
    added: Tensor | None = None,
    *,
    in_place: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """W_proj LN(Mamba(LN(x)) + skip x) + b_proj; call it only where `is_one_step`.

    Args:
        tokens: (B, L, C).
        tail: (B, I, K - 1), the last inputs of the convolution. state: (B, I, N), of the scan; both of the piece
            before, zeros at the start of a sequence.
        norm: x is ReLU(GroupNorm(tokens)) instead of the tokens; they must be a whole sequence.
        added: (B, L, O), added to the answer.
        in_place: the answer takes the memory of the tokens, if they are contiguous; O must be C.
    Returns:
        (B, L, O), and tail and state after this piece.
    """
    from . import numba_layer

    return numba_layer.residual_mamba_layer(tokens, weights, tail, state, norm, added, in_place=in_place)
