"""The parameters of the CUDA kernels as bytes: the struct ScanParameters of cuda_source/scan_common.cu."""

import ctypes

import torch
from torch import Tensor

from .gpu_passes import ScanTask
from .token_order import TokenOrder

TYPE_NAMES = {torch.float32: "Single", torch.float16: "Half", torch.bfloat16: "Brain"}  # as in scan_common.cu

MOST_ORDERS = 8  # as there
_ADDRESS, _INDEX, _INT = ctypes.c_uint64, ctypes.c_int64, ctypes.c_int


class Sequence(ctypes.Structure):
    """A tensor (B, G, D / G, L); strides count elements."""

    _fields_ = [("data", _ADDRESS), ("batch", _INDEX), ("group", _INDEX), ("channel", _INT), ("token", _INT)]


class Grouped(ctypes.Structure):
    """A tensor (B, G, N, L)."""

    _fields_ = [
        ("data", _ADDRESS), ("batch", _INDEX), ("group", _INDEX), ("state", _INT), ("token", _INT)
    ]  # fmt: skip


class Order(ctypes.Structure):
    """A TokenOrder."""

    _fields_ = [("sizes", _INT * 3), ("strides", _INT * 3), ("in_order", _INT), ("reversed", _INT)]


SEQUENCES = ("u", "delta", "z", "y", "dy", "du", "ddelta", "dz")
GROUPED = ("B", "C")
CONTIGUOUS = (
    "A", "D", "bias", "initial", "last", "step_sums", "carries", "adjoints", "tile_states", "dB", "dC", "dA", "dD",
    "dbias",
)  # fmt: skip


_GROUPED_DIMS = 4


class ScanParameters(ctypes.Structure):
    """What every kernel gets, by value."""

    _fields_ = [
        *((name, Sequence) for name in SEQUENCES),
        *((name, Grouped) for name in GROUPED),
        *((name, _ADDRESS) for name in CONTIGUOUS),
        *((name, _INT) for name in ("batch", "channels", "length", "groups", "chunks", "chunk_steps")),
        ("orders", Order * MOST_ORDERS),
        *((name, _INT) for name in ("one_order", "softplus", "accumulate", "gated", "backwards")),
    ]  # fmt: skip


_ABSENT = {**{name: Sequence() for name in SEQUENCES}, **{name: Grouped() for name in GROUPED}}


class BoundParameters:
    """The struct for one task, and references to every tensor whose address is in it."""

    def __init__(self, task: ScanTask) -> None:
        self._tensors: list[Tensor] = []
        batch, channels, length, groups, _ = task.shape
        self._width = channels // groups
        self.struct = ScanParameters(
            batch=batch, channels=channels, length=length, groups=groups, chunks=task.plan.chunks,
            chunk_steps=task.plan.steps, orders=(Order * MOST_ORDERS)(*(_order(order) for order in task.orders)),
            one_order=len(task.orders) == 1, softplus=task.softplus,
            gated=task.inputs["z"] is not None,
        )  # fmt: skip
        self.set(**task.inputs)

    def set(self, **values: Tensor | bool | None) -> None:
        """Put tensors or flags into the struct; None becomes a null address."""
        for name, value in values.items():
            if isinstance(value, bool):
                setattr(self.struct, name, value)
                continue
            if value is None:
                setattr(self.struct, name, _ABSENT.get(name, 0))
                continue
            self._tensors.append(value)
            address = value.data_ptr()
            if name in SEQUENCES:
                setattr(self.struct, name, Sequence(address, *self._strides(value)))
            elif name in GROUPED:
                setattr(self.struct, name, Grouped(address, *value.stride()))
            else:
                setattr(self.struct, name, address)

    def _strides(self, tensor: Tensor) -> tuple[int, ...]:
        """Of (B, G, D / G, L), also where the tensor is (B, D, L)."""
        if tensor.dim() == _GROUPED_DIMS:
            return tensor.stride()
        batch, channel, token = tensor.stride()
        return batch, self._width * channel, channel, token


def _order(order: TokenOrder) -> Order:
    axes = _INT * 3
    return Order(axes(*order.sizes), axes(*order.strides), order.is_in_memory_order, order.is_reversed)


def launch_shape(kernel: str, task: ScanTask) -> tuple[int, tuple[int, int]]:
    """Blocks, and threads (x, y) of each: one warp, but for scan_combine, which has one for each segment of chunks."""
    if kernel != "scan_combine":
        return task.warps, (32, 1)
    batch, channels, _, _, states = task.shape
    segments = min(32, -(-task.plan.chunks // 4))
    return batch * states * -(-channels // 32), (32, segments)
