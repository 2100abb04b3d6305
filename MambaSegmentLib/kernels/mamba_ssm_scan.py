"""The scan of the mamba-ssm package, where a user has it installed, with its gradients.

It takes no initial state: with one given, what that state adds to y and to the last state, which is linear in it, is
computed by `chunked` on an input of zeros.
"""

import torch
import torch.nn.functional as F
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
from torch import Tensor

from . import chunked
from .arguments import ScanArguments


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32, both differentiable.

    Sequences are made contiguous along the steps and of one dtype, as the package wants them.
    """
    a = arguments
    dtype = a.u.dtype
    gate_later = a.initial_state is not None
    B, C = (_contiguous(tensor, dtype) for tensor in (a.B, a.C))
    y, last = selective_scan_fn(
        _contiguous(a.u, dtype), _contiguous(a.delta, dtype), a.A.float().contiguous(), B, C,
        None if a.D is None else a.D.float().contiguous(),
        z=None if a.z is None or gate_later else _contiguous(a.z, dtype),
        delta_bias=None if a.delta_bias is None else a.delta_bias.float().contiguous(),
        delta_softplus=a.delta_softplus, return_last_state=True,
    )  # fmt: skip
    if gate_later:
        from_state, decayed = chunked.scan(
            ScanArguments(
                torch.zeros_like(a.u, dtype=torch.float32), a.delta, a.A, a.B, a.C, None, None, a.delta_bias,
                a.delta_softplus, a.initial_state,
            )
        )  # fmt: skip
        y, last = y + from_state, last + decayed
        if a.z is not None:
            y = y * F.silu(a.z.float())
    return y.to(dtype), last


def _contiguous(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous()
