"""The recurrence as the paper writes it: one step of the sequence after the other. Slow, and the judge of the rest.

    s_t = exp(delta_t A) s_(t-1) + (delta_t u_t) B_t        s has shape (B, D, N)
    y_t = sum over n of s_t C_t + D u_t                     then y_t * SiLU(z_t)

Source: Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", arXiv:2312.00752,
section 3 and algorithm 2; A is discretised exactly, B by Euler's rule, as in the released software.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import ScanArguments


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """Run the recurrence step by step.

    Returns:
        y (B, D, L) in the dtype of u, and the state after the last step (B, D, N) in the compute dtype.
    """
    dtype = arguments.compute_dtype
    u, delta, A = (tensor.to(dtype) for tensor in (arguments.u, arguments.delta, arguments.A))
    if arguments.delta_bias is not None:
        delta = delta + arguments.delta_bias.to(dtype)[:, None]
    if arguments.delta_softplus:
        delta = F.softplus(delta)

    if arguments.initial_state is None:
        state = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    else:
        state = arguments.initial_state.to(dtype)
    channels_per_group = u.shape[1] // arguments.B.shape[1]
    outputs = []
    for t in range(u.shape[2]):
        B, C = (  # (B, D, N) of this step
            tensor[..., t].to(dtype).repeat_interleave(channels_per_group, dim=1)
            for tensor in (arguments.B, arguments.C)
        )
        decay = torch.exp(delta[:, :, t, None] * A)
        state = decay * state + (delta[:, :, t] * u[:, :, t])[:, :, None] * B
        outputs.append((state * C).sum(-1))
    y = torch.stack(outputs, dim=2) if outputs else torch.zeros_like(u)

    if arguments.D is not None:
        y = y + arguments.D.to(dtype)[:, None] * u
    if arguments.z is not None:
        y = y * F.silu(arguments.z.to(dtype))
    return y.to(arguments.u.dtype), state
