"""The scan in Triton, for NVIDIA and AMD GPUs where PyTorch brings Triton along (Linux) and a C compiler is there.

The kernels are in triton_kernels.py, the chain of launches in gpu_passes.py. Importing this file imports triton.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from . import triton_kernels
from .arguments import ScanArguments
from .directions import DirectionalArguments
from .gpu_autograd import gradients_with, scan_with
from .gpu_directions import directional_with
from .gpu_passes import ScanTask
from .gpu_plan import LANES, TILE

UNROLL = 4  # steps whose loads may be under way at once
SEGMENTS = 32  # of scan_combine


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32, both differentiable."""
    return scan_with(TritonLauncher, arguments)


def gradients(arguments: ScanArguments, dy: Tensor, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
    """Derivatives in the order of `arguments.tensors()`."""
    return gradients_with(TritonLauncher, arguments, dy, d_last)


def directional_scan(arguments: DirectionalArguments) -> Tensor:
    """The sum of the scans along several directions, (B, D, *spatial) in the dtype of u, differentiable."""
    return directional_with(TritonLauncher, arguments)


class TritonLauncher:
    """The kernels with one task's tensors."""

    backend = "triton"
    many_orders = False

    def __init__(self, task: ScanTask, out_dtype: torch.dtype) -> None:
        self._task = task
        self._buffers: dict[str, Any] = {**task.inputs, "accumulate": False, "backwards": False}
        self._given: list[Any] = []

    def launch(self, kernel: str, **buffers: Any) -> None:
        self._given.append(buffers)
        self._buffers.update(buffers)
        getattr(self, f"_{kernel}")()

    def _scan_summary(self) -> None:
        self._walk(
            triton_kernels.scan_summary, ("u", "delta"), ("B",), ("A", "bias", "step_sums", "carries"),
            self._flags("bias") | self._rows() | {"UNROLL": UNROLL},
        )  # fmt: skip

    def _scan_finish(self) -> None:
        flags = self._flags("D", "bias", "z", "carries", "initial", "last") | self._rows()
        self._walk(
            triton_kernels.scan_finish, ("u", "delta", "z", "y"), ("B", "C"),
            ("A", "D", "bias", "carries", "initial", "last"),
            flags | {"UNROLL": UNROLL, "ACCUMULATE": self._buffers["accumulate"]},
        )  # fmt: skip

    def _scan_back_summary(self) -> None:
        flags = self._flags("bias", "z", "carries", "initial", "adjoints") | self._rows()
        self._walk(
            triton_kernels.scan_back_summary, ("u", "delta", "z", "dy"), ("B", "C"),
            ("A", "bias", "carries", "initial", "adjoints", "step_sums", "tile_states"),
            flags | {"UNROLL": UNROLL, "TILE": TILE},
        )  # fmt: skip

    def _scan_back_finish(self) -> None:
        """The kernel keeps what it carries in `adjoints`; with one chunk that is made here from what enters."""
        one_chunk = self._buffers["adjoints"] is None
        if one_chunk:
            self._buffers["adjoints"] = self._entering()
        self._walk(
            triton_kernels.scan_back_finish, ("u", "delta", "z", "dy", "du", "ddelta", "dz"), ("B", "C"),
            ("A", "D", "bias", "adjoints", "tile_states", "dB", "dC", "dA", "dD", "dbias"),
            self._flags("D", "bias", "z") | {"TILE": TILE, "ACCUMULATE": self._buffers["accumulate"]},
            batches=self._task.shape[0],
        )  # fmt: skip
        if one_chunk:
            self._buffers["last"].copy_(self._buffers["adjoints"][:, 0].transpose(1, 2))

    def _entering(self) -> Tensor:
        """(B, 1, N, D) from `initial` (B, D, N)."""
        batch, channels, _, _, states = self._task.shape
        initial = self._buffers["initial"]
        made = self._task.empty(batch, 1, states, channels)
        return made.zero_() if initial is None else made.copy_(initial.transpose(1, 2)[:, None])

    def _scan_combine(self) -> None:
        batch, channels, _, _, states = self._task.shape
        blocks = triton.cdiv(channels, LANES) * states * batch
        arguments = {name: self._buffers[name] for name in ("A", "step_sums", "carries", "initial", "last")}
        if arguments["initial"] is None:
            arguments["initial"] = arguments["A"]
        triton_kernels.scan_combine[(blocks,)](
            **arguments, channels=channels, chunks=self._task.plan.chunks, STATES=states, LANES=LANES,
            SEGMENTS=SEGMENTS, BACKWARDS=self._buffers["backwards"], num_warps=4, **self._flags("initial"),
        )  # fmt: skip

    def _walk(
        self,
        kernel: Any,
        sequences: tuple[str, ...],
        grouped: tuple[str, ...],
        others: tuple[str, ...],
        constants: dict[str, Any],
        **more: int,
    ) -> None:
        """Launch one of the kernels that walk along chunks; what is absent is given as A, which it then never reads."""
        task, A = self._task, self._buffers["A"]
        _, channels, length, groups, states = task.shape
        arguments: dict[str, Any] = dict(more)
        for name in (*sequences, *grouped, *others):
            tensor = self._buffers.get(name)
            arguments[name] = A if tensor is None else tensor
            ends = "bdl" if name in sequences else "bgnl" if name in grouped else ""
            for axis, end in enumerate(ends):
                arguments[f"{name}_{end}"] = 0 if tensor is None else tensor.stride(axis)
        (order,) = task.orders
        kernel[(task.warps,)](
            **arguments, channels=channels, groups=groups, length=length, chunks=task.plan.chunks,
            steps=task.plan.steps, n1=order.sizes[1], n2=order.sizes[2], s0=order.strides[0], s1=order.strides[1],
            s2=order.strides[2], STATES=states, LANES=LANES, SOFTPLUS=task.softplus, REVERSED=order.is_reversed,
            IN_ORDER=order.is_in_memory_order, num_warps=1, **constants,
        )  # fmt: skip

    def _flags(self, *names: str) -> dict[str, bool]:
        return {f"HAS_{name.upper()}": self._buffers.get(name) is not None for name in names}

    def _rows(self) -> dict[str, int]:
        return {"ROWS": triton.next_power_of_2(self._task.shape[4])}
