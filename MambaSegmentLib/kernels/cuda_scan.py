"""The scan in CUDA C++, compiled while the program runs: no compiler and no toolkit on the user's computer.

The kernels' text is in cuda_source/, the chain of launches in gpu_passes.py, compilation and launch in cuda_driver.py.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from . import cuda_driver, cuda_source_text
from .arguments import ScanArguments
from .cuda_parameters import TYPE_NAMES, BoundParameters, launch_shape
from .directions import DirectionalArguments
from .gpu_autograd import gradients_with, scan_with
from .gpu_directions import directional_with
from .gpu_passes import ScanTask

_BACKWARD_KERNELS = ("scan_back_summary", "scan_back_finish")


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32, both differentiable.

    Raises:
        RuntimeError: NVRTC or the driver failed; the message holds what they said.
    """
    return scan_with(CudaLauncher, arguments)


def gradients(arguments: ScanArguments, dy: Tensor, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
    """Derivatives in the order of `arguments.tensors()`."""
    return gradients_with(CudaLauncher, arguments, dy, d_last)


def directional_scan(arguments: DirectionalArguments) -> Tensor:
    """The sum of the scans along several directions, (B, D, *spatial) in the dtype of u, differentiable."""
    return directional_with(CudaLauncher, arguments)


class CudaLauncher:
    """The compiled kernels with one task's tensors."""

    backend = "cuda"
    many_orders = True

    def __init__(self, task: ScanTask, out_dtype: torch.dtype) -> None:
        u, B = task.inputs["u"], task.inputs["B"]
        assert u is not None and B is not None
        self._task, self._parameters = task, BoundParameters(task)
        self._variant = (u.device, task.shape[4], u.dtype, out_dtype, B.dtype)

    def launch(self, kernel: str, **buffers: Any) -> None:
        self._parameters.set(**buffers)
        module = _module(kernel in _BACKWARD_KERNELS, cuda_source_text.EXPONENTIALS_ON_FMA, *self._variant)
        module.launch(kernel, *launch_shape(kernel, self._task), self._parameters.struct)


@functools.cache
def _module(
    backward: bool,
    on_fma: int,
    device: torch.device,
    states: int,
    sequence: torch.dtype,
    out: torch.dtype,
    grouped: torch.dtype,
) -> cuda_driver.Module:
    text = cuda_source_text.joined(cuda_source_text.BACKWARD if backward else cuda_source_text.FORWARD)
    major, minor = torch.cuda.get_device_capability(device)
    macros = macros_of(states, sequence, out, grouped, on_fma)
    return cuda_driver.Module(cuda_driver.compiled(text, 10 * major + minor, macros), device)


def macros_of(
    states: int, sequence: torch.dtype, out: torch.dtype, grouped: torch.dtype, on_fma: int = 0
) -> tuple[tuple[str, str | int], ...]:
    """What scan_common.cu wants to be given."""
    types = {"TYPE_SEQUENCE": sequence, "TYPE_OUT": out, "TYPE_GROUPED": grouped}
    return (
        ("STATES", states),
        ("EXPONENTIALS_ON_FMA", on_fma),
        *((name, TYPE_NAMES[dtype]) for name, dtype in types.items()),
    )
