"""The usual fallback where no compiled scan is at hand: tensors of size (B, D, L, N), then a Python loop over L.

Written here as the baseline of the benchmarks only; `kernels/reference.py` is the library's judge.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_loop(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """u, delta, z (B, D, L); A (D, N); B, C (B, N, L); D, delta_bias (D,); softplus included."""
    delta = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    source = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    state = torch.zeros_like(decay[:, :, 0])
    outputs = []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + source[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, t]))
    return (torch.stack(outputs, dim=2) + D[:, None] * u) * F.silu(z)
