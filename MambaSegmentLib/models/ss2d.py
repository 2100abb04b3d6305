"""SS2D (version 1): a gated selective scan over an image, along its rows and columns, forwards and backwards.

Shapes: B batch, (H, W) image, L = H W tokens, C channels, I = 2 C inner channels, N states, R = ceil(C / 16).
Source: Liu et al. 2024, "VMamba", arXiv:2401.10166, in the version of its code released in January 2024. Parameter
names and initial values as there, so that published weights fit. Later releases have other layers of this name.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import all_directions, directional_scan
from .mamba_block import starting_step_bias

DIRECTIONS = all_directions(2)  # row by row, column by column, then both from the last token


class SS2D(nn.Module):
    """(B, H, W, C) -> (B, H, W, C).

    Args:
        channels: C.
        d_state: N.
    """

    def __init__(self, channels: int, d_state: int = 16) -> None:
        super().__init__()
        self.inner, self.d_state, self.rank = 2 * channels, d_state, math.ceil(channels / 16)
        self.x_proj_weight = nn.Parameter(torch.empty(len(DIRECTIONS), self.rank + 2 * d_state, self.inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(len(DIRECTIONS), self.inner, self.rank))
        self.dt_projs_bias = nn.Parameter(starting_step_bias(len(DIRECTIONS), self.inner))
        self.A_logs = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(len(DIRECTIONS) * self.inner, 1))
        self.Ds = nn.Parameter(torch.ones(len(DIRECTIONS) * self.inner))
        self.in_proj = nn.Linear(channels, 2 * self.inner, bias=False)
        self.conv2d = nn.Conv2d(self.inner, self.inner, 3, padding=1, groups=self.inner)
        self.out_norm = nn.LayerNorm(self.inner)
        self.out_proj = nn.Linear(self.inner, channels, bias=False)
        nn.init.uniform_(self.x_proj_weight, -(self.inner**-0.5), self.inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(self.rank**-0.5), self.rank**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        # two products instead of one cut in half: the convolution wants dense input, and the gate is needed last
        to_scan, to_gate = self.in_proj.weight.chunk(2)
        u = self.conv2d(F.linear(x, to_scan).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = self.out_norm(self.scan(F.silu(u)))
        return self.out_proj(y * F.silu(F.linear(x, to_gate)))

    def scan(self, u: Tensor) -> Tensor:
        """The sum of the four scans, each result at the place of its token: (B, H, W, I) -> (B, H, W, I)."""
        # what a direction's scan needs at a token depends on that token alone: one product for the whole image
        controls = F.linear(u, self.x_proj_weight.flatten(0, 1)).unflatten(-1, (len(DIRECTIONS), -1))
        steps, B, C = controls.split([self.rank, self.d_state, self.d_state], dim=-1)  # (B, H, W, 4, ...)
        y = directional_scan(
            u.permute(0, 3, 1, 2),
            self._step_sizes(steps).permute(0, 3, 1, 2),
            -torch.exp(self.A_logs),
            B.permute(0, 3, 4, 1, 2),
            C.permute(0, 3, 4, 1, 2),
            self.Ds,
            self.dt_projs_bias.flatten(),  # added inside the scan, in its precision
            directions=DIRECTIONS,
        )
        return y.permute(0, 2, 3, 1)

    def _step_sizes(self, steps: Tensor) -> Tensor:
        """(B, H, W, 4, R) -> (B, H, W, 4 I), each direction by its own matrix."""
        if torch.is_grad_enabled():
            return torch.cat([F.linear(*pair) for pair in zip(steps.unbind(-2), self.dt_projs_weight, strict=True)], -1)
        together = steps.new_empty(*steps.shape[:3], len(DIRECTIONS), self.inner)  # four results and a copy else
        for k, weight in enumerate(self.dt_projs_weight):
            together[..., k, :] = F.linear(steps[..., k, :], weight)
        return together.flatten(-2)
