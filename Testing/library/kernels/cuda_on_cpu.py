"""The CUDA kernels' own text compiled for the CPU with host_shim.h: a backend for tests that never meets a GPU."""

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from MambaSegmentLib.kernels import cuda_source_text
from MambaSegmentLib.kernels.cuda_parameters import TYPE_NAMES, BoundParameters, ScanParameters, launch_shape
from MambaSegmentLib.kernels.gpu_autograd import gradients_with, scan_with
from MambaSegmentLib.kernels.gpu_directions import directional_with

HERE = Path(__file__).parent


@functools.cache
def missing() -> str | None:
    """Why the kernels cannot be compiled here, or None."""
    if not sys.platform.startswith("linux"):
        return "the fibers of host_shim.h are written for Linux"
    if shutil.which("g++") is None:
        return "g++ is not installed"
    probe = ["g++", "-std=c++17", "-x", "c++", "-fsyntax-only", "-"]
    text = "#include <ucontext.h>\n_Float16 half(float x) { return (_Float16)x; }\n"
    if subprocess.run(probe, input=text, text=True, capture_output=True, check=False).returncode:
        return "g++ is too old: it does not know _Float16"
    return None


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="cuda-on-cpu-")


@functools.cache
def library(states: int, on_fma: int, sequence: str, out: str, grouped: str) -> ctypes.CDLL:
    macros = {
        "STATES": states,
        "EXPONENTIALS_ON_FMA": on_fma,
        "TYPE_SEQUENCE": sequence,
        "TYPE_OUT": out,
        "TYPE_GROUPED": grouped,
    }
    parts = ("scan_common.cu", "scan_forward.cu", "scan_combine.cu", "scan_backward.cu")
    text = "\n".join(cuda_source_text.part(name) for name in parts)
    stem = Path(_folder().name) / "_".join(map(str, macros.values()))
    source, target = stem.with_suffix(".cpp"), stem.with_suffix(".so")
    source.write_text(f'#include "host_shim.h"\n{text}\n#include "host_launch.h"\n', encoding="utf-8")
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    command = ["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-I{HERE}", *defines, source, "-o", target]
    subprocess.run([str(part) for part in command], check=True)
    loaded = ctypes.CDLL(str(target))
    loaded.parameter_bytes.restype = ctypes.c_longlong
    assert loaded.parameter_bytes() == ctypes.sizeof(ScanParameters)
    loaded.launch.argtypes = [
        ctypes.c_char_p, ctypes.c_longlong, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ScanParameters), ctypes.c_int
    ]  # fmt: skip
    return loaded


class HostLauncher:
    """As the launcher of cuda_scan, but on the CPU, and done when it returns."""

    backend = "cuda-on-cpu"
    many_orders = True
    reverse = False  # whether the threads of a block take turns from the last one

    def __init__(self, task, out_dtype: torch.dtype) -> None:
        self.task = task
        self.parameters = BoundParameters(task)
        names = [TYPE_NAMES[dtype] for dtype in (task.inputs["u"].dtype, out_dtype, task.inputs["B"].dtype)]
        self.library = library(task.shape[4], cuda_source_text.EXPONENTIALS_ON_FMA, *names)

    def launch(self, kernel, **buffers):
        self.parameters.set(**buffers)
        blocks, (x, y) = launch_shape(kernel, self.task)
        struct = ctypes.byref(self.parameters.struct)
        assert self.library.launch(kernel.encode(), blocks, x, y, struct, self.reverse) == 0


def scan(arguments):
    return scan_with(HostLauncher, arguments)


def gradients(arguments, dy, d_last):
    return gradients_with(HostLauncher, arguments, dy, d_last)


def directional_scan(arguments):
    return directional_with(HostLauncher, arguments)
