"""The Mamba block (version 1): a gated selective scan over a sequence of tokens.

Shapes: B batch, L tokens, C channels of a token, I = expand * C inner channels, N states, R = ceil(C / 16).
Source: Gu & Dao 2023, arXiv:2312.00752, section 3.4 and figure 3. Parameter names and initial values as in the
authors' software, so that published weights fit. The later Mamba-2 block is a different one.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import causal_conv_silu, selective_scan, tail_after

_SMALLEST_STEP, _LARGEST_STEP, _STEP_FLOOR = 1e-3, 1e-1, 1e-4


@dataclass
class MambaState:
    """What a block must remember between two pieces of one sequence.

    Attributes:
        tail: (B, I, d_conv - 1), the last inputs of the convolution.
        scan: (B, I, N), the state of the scan.
    """

    tail: Tensor
    scan: Tensor


def starting_step_bias(*shape: int) -> Tensor:
    """Log-uniform in [1e-3, 1e-1] after softplus, so that states forget at many rates from the start."""
    exponent = torch.empty(shape).uniform_(math.log(_SMALLEST_STEP), math.log(_LARGEST_STEP))
    step = exponent.exp().clamp(min=_STEP_FLOOR)
    return step + torch.log(-torch.expm1(-step))  # the inverse of softplus


class Mamba(nn.Module):
    """(B, L, C) -> (B, L, C), each token seeing those before it.

    Args:
        d_model: C.
        d_state: N.
        d_conv: taps of the causal convolution.
        expand: I / C.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.inner = expand * d_model
        self.d_state, self.d_conv = d_state, d_conv
        self.rank = math.ceil(d_model / 16)
        self.in_proj = nn.Linear(d_model, 2 * self.inner, bias=False)
        self.conv1d = nn.Conv1d(self.inner, self.inner, d_conv, groups=self.inner)  # holds the weights alone
        self.x_proj = nn.Linear(self.inner, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(self.inner, 1))
        self.D = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(starting_step_bias(self.inner))

    def forward(self, tokens: Tensor) -> Tensor:
        """The whole sequence at once."""
        return self.step(tokens, self.start(len(tokens), tokens))[0]

    def start(self, batch: int, like: Tensor) -> MambaState:
        """The state before the first token, zeros, for `batch` sequences of the dtype and device of `like`."""
        return MambaState(
            tail=like.new_zeros(batch, self.inner, self.d_conv - 1),
            scan=torch.zeros(batch, self.inner, self.d_state, dtype=self.A_log.dtype, device=like.device),
        )

    def step(self, tokens: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """The next piece of a sequence and the state after it.

        Pieces of any length, each given the state of the one before, give exactly what the whole sequence gives.
        """
        x, z = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)  # (B, I, L) each, channels last in memory
        bias = self.conv1d.bias
        assert bias is not None
        tail = tail_after(x, state.tail)
        x = causal_conv_silu(x, self.conv1d.weight[:, 0], bias, state.tail.to(x.dtype))
        steps, B, C = self.x_proj(x.transpose(1, 2)).split([self.rank, self.d_state, self.d_state], dim=-1)
        y, scan = selective_scan(
            x,
            F.linear(steps, self.dt_proj.weight).transpose(1, 2),
            -torch.exp(self.A_log),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D,
            z,
            self.dt_proj.bias,  # added inside the scan, in its precision
            delta_softplus=True,
            return_last_state=True,
            initial_state=state.scan,
        )
        return self.out_proj(y.transpose(1, 2)), MambaState(tail, scan)
