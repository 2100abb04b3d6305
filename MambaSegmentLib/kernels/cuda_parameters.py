"""The parameters of the CUDA kernels as bytes: the struct ScanParameters of cuda_source/scan_common.cu."""

import ctypes

import torch
from torch import Tensor

from .gpu_passes import ScanTask

TYPE_NAMES = {torch.float32: "Single", torch.float16: "Half", torch.bfloat16: "Brain"}  # as in scan_common.cu

_ADDRESS, _INDEX, _INT = ctypes.c_uint64, ctypes.c_int64, ctypes.c_int


class Sequence(ctypes.Structure):
    """A tensor (B, D, L); strides count elements."""

    _fields_ = [("data", _ADDRESS), ("batch", _INDEX), ("channel", _INT), ("token", _INT)]


class Grouped(ctypes.Structure):
    """A tensor (B, G, N, L)."""

    _fields_ = [
        ("data", _ADDRESS), ("batch", _INDEX), ("group", _INDEX), ("state", _INT), ("token", _INT)
    ]  # fmt: skip


SEQUENCES = ("u", "delta", "z", "y", "dy", "du", "ddelta", "dz")
GROUPED = ("B", "C")
CONTIGUOUS = (
    "A", "D", "bias", "initial", "last", "step_sums", "carries", "adjoints", "tile_states", "dB", "dC", "dA", "dD",
    "dbias",
)  # fmt: skip


class ScanParameters(ctypes.Structure):
    """What every kernel gets, by value."""

    _fields_ = [
        *((name, Sequence) for name in SEQUENCES),
        *((name, Grouped) for name in GROUPED),
        *((name, _ADDRESS) for name in CONTIGUOUS),
        *((name, _INT) for name in ("batch", "channels", "length", "groups", "chunks", "chunk_steps")),
        ("sizes", _INT * 3), ("strides", _INT * 3),
        *((name, _INT) for name in ("in_order", "reversed", "softplus", "accumulate", "gated", "backwards")),
    ]  # fmt: skip


class BoundParameters:
    """The struct for one task, and references to every tensor whose address is in it."""

    def __init__(self, task: ScanTask) -> None:
        self._tensors: list[Tensor] = []
        batch, channels, length, groups, _ = task.shape
        self.struct = ScanParameters(
            batch=batch, channels=channels, length=length, groups=groups, chunks=task.plan.chunks,
            chunk_steps=task.plan.steps, sizes=task.order.sizes, strides=task.order.strides,
            in_order=task.order.is_in_memory_order, reversed=task.order.is_reversed, softplus=task.softplus,
            gated=task.inputs["z"] is not None,
        )  # fmt: skip
        self.set(**task.inputs)

    def set(self, **values: Tensor | bool | None) -> None:
        """Put tensors or flags into the struct; None becomes a null address."""
        for name, value in values.items():
            if isinstance(value, bool):
                setattr(self.struct, name, value)
                continue
            address = 0 if value is None else value.data_ptr()
            if value is not None:
                self._tensors.append(value)
            if name in CONTIGUOUS:
                setattr(self.struct, name, address)
            else:
                strides = () if value is None else value.stride()
                setattr(self.struct, name, (Sequence if name in SEQUENCES else Grouped)(address, *strides))


def launch_shape(kernel: str, task: ScanTask) -> tuple[int, tuple[int, int]]:
    """Blocks, and threads (x, y) of each: one warp, but for scan_combine, which has one for each segment of chunks."""
    if kernel != "scan_combine":
        return task.warps, (32, 1)
    batch, channels, _, _, states = task.shape
    segments = min(32, -(-task.plan.chunks // 4))
    return batch * states * -(-channels // 32), (32, segments)
