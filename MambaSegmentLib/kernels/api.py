"""selective_scan: the public entry to the kernels."""

from torch import Tensor

from . import meta_scan
from .arguments import check_arguments
from .dispatch import run
from .operator import scan_operator, somebody_looks


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """The selective state-space scan along the last axis, differentiable in every tensor.

        delta = softplus(delta + delta_bias)
        s_t = exp(delta_t A) s_(t-1) + delta_t u_t B_t,    y_t = <s_t, C_t> + D u_t,    y_t SiLU(z_t)

    Args:
        u, delta: (B, D, L); any strides, channels-last views of (B, L, D) included, which every backend reads in place.
        A: (D, N), real, usually negative.
        B, C: (D, N) constant, (B, N, L), or (B, G, N, L) for G groups of D / G consecutive channels.
        D, delta_bias: (D,).
        z: (B, D, L), the gate.
        delta_softplus: apply softplus to delta (after the bias).
        return_last_state: also return the state after the last step.
        initial_state: (B, D, N), the state before the first step; zeros if None. A sequence cut in pieces, each piece
            started from the last state of the one before, gives the result of one pass.
        backend: "auto", or a name of `available_backends()`.
    Returns:
        y (B, D, L) in the dtype of u; with return_last_state also the state (B, D, N), float32 (float64 for float64 u).
    Raises:
        ShapeError: shape, dtype or device of an argument does not fit. ConfigError: unknown or unusable backend.
    Source: Gu & Dao 2023, arXiv:2312.00752; arguments as in the mamba-ssm function of this name.
    """
    arguments = check_arguments(u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state)
    if u.device.type == "meta":  # tensors without data: no backend computes, all have the same shapes
        y, last_state = meta_scan.scan(arguments)
    elif somebody_looks(u):
        a = arguments
        y, last_state = scan_operator(
            u, delta, A, a.B, a.C, D, z, delta_bias, initial_state, a.delta_softplus, backend
        )  # fmt: skip
    else:
        y, last_state = run(backend, arguments)
    return (y, last_state) if return_last_state else y
