"""The arguments of a selective scan, checked once and brought to one form for every backend.

Letters as in the paper: B batch, D channels, L sequence length, N states, G groups of channels that share B and C.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError

CHECKS_VALUES = os.environ.get("MAMBASEGMENT_CHECK_VALUES", "") not in ("", "0")
SCAN_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class ScanArguments:
    """What a backend gets: shapes known to fit, any strides, any mix of floating dtypes.

    Attributes:
        u, delta: (B, D, L).
        A: (D, N).
        B, C: (B, G, N, L), where D is a multiple of G; constant ones are expanded with stride 0.
        D, delta_bias: (D,) or None.
        z: (B, D, L) or None, the gate.
        initial_state: (B, D, N) or None for zeros.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    delta_softplus: bool
    initial_state: Tensor | None

    @property
    def compute_dtype(self) -> torch.dtype:
        """float64 for float64 input; float32 otherwise, since the state must not be kept in half precision."""
        return torch.float64 if self.u.dtype == torch.float64 else torch.float32

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors in a fixed order, for autograd functions."""
        return (self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.delta_bias, self.initial_state)


def check_arguments(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    initial_state: Tensor | None,
) -> ScanArguments:
    """Check every shape, dtype and device; bring B and C to (B, G, N, L) without copying.

    Raises:
        ShapeError: the shape, dtype or device of an argument; the message names it and what it should be.
    """
    if u.dim() != 3:
        raise ShapeError(f"u has shape {tuple(u.shape)}; expected (batch, channels, length)")
    if A.dim() != 2 or A.shape[0] != u.shape[1]:
        raise ShapeError(f"A has shape {tuple(A.shape)}; expected ({u.shape[1]}, states), one row per channel of u")
    batch, channels, _ = u.shape
    states = A.shape[1]
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "delta": (delta, tuple(u.shape)),
        "D": (D, (channels,)),
        "z": (z, tuple(u.shape)),
        "delta_bias": (delta_bias, (channels,)),
        "initial_state": (initial_state, (batch, channels, states)),
    }
    check_tensors({"u": (u, tuple(u.shape)), "A": (A, tuple(A.shape)), "B": (B, None), "C": (C, None), **expected})
    grouped = {name: _grouped(name, tensor, u, states) for name, tensor in {"B": B, "C": C}.items()}
    return ScanArguments(u, delta, A, grouped["B"], grouped["C"], D, z, delta_bias, bool(delta_softplus), initial_state)


def check_tensors(expected: Mapping[str, tuple[Tensor | None, tuple[int, ...] | None]]) -> None:
    """Check the named tensors against their shapes (None: checked elsewhere), their dtypes, and "u"'s device."""
    u = expected["u"][0]
    assert u is not None
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if shape is not None and tuple(tensor.shape) != shape:
            raise ShapeError(f"{name} has shape {tuple(tensor.shape)}; expected {shape} to fit u and A")
        if tensor.dtype not in SCAN_DTYPES:
            raise ShapeError(f"{name} has dtype {tensor.dtype}; expected a real floating dtype; convert it first")
        if tensor.device != u.device:
            raise ShapeError(f"{name} is on {tensor.device} and u on {u.device}; move both to one device")
        if CHECKS_VALUES and tensor.device.type != "meta":
            check_values(name, tensor)


def check_values(name: str, tensor: Tensor) -> None:
    """For hunting a fault: MAMBASEGMENT_CHECK_VALUES=1 at the start. Waits for the device, so it is off otherwise.

    Raises:
        FloatingPointError: some value is infinite or not a number.
    """
    wrong = ~torch.isfinite(tensor.detach())
    if bool(wrong.any()):
        first = [int(index) for index in wrong.nonzero()[0]]
        raise FloatingPointError(
            f"{name} of the selective scan, shape {tuple(tensor.shape)}, has {int(wrong.sum())} values that "
            f"are infinite or not a number, the first at {first}"
        )


def _grouped(name: str, tensor: Tensor, u: Tensor, states: int) -> Tensor:
    """(D, N) constant, (B, N, L) or (B, G, N, L) as (B, G, N, L)."""
    batch, channels, length = u.shape
    if tensor.dim() == 2 and tuple(tensor.shape) == (channels, states):
        return tensor[None, :, :, None].expand(batch, channels, states, length)
    if tensor.dim() == 3 and tuple(tensor.shape) == (batch, states, length):
        return tensor[:, None]
    if tensor.dim() == 4 and tuple(tensor.shape[2:]) == (states, length) and tensor.shape[0] == batch:
        groups = tensor.shape[1]
        if groups > 0 and channels % groups == 0:
            return tensor
    raise ShapeError(
        f"{name} has shape {tuple(tensor.shape)}; expected ({channels}, {states}), ({batch}, {states}, {length}) or "
        f"({batch}, groups, {states}, {length}) with groups dividing {channels}"
    )
