"""The C++ scan of `scan_yardstick.cpp`, compiled on the spot where g++ exists."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("scan_yardstick.cpp")
FLAGS = [
    "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-std=c++17", "-shared", "-fPIC",
]  # fmt: skip


def compiled() -> Callable[..., Tensor] | None:
    """scan(u, delta, A, B, C, D, z, delta_bias), all as `selective_scan` takes them; None where there is no g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    folder = tempfile.mkdtemp(prefix="scan-yardstick-")
    library = Path(folder) / "yardstick.so"
    subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).scan_forward
    shutil.rmtree(folder)  # it stays mapped
    function.restype = None
    function.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 9 + [ctypes.c_int]

    def scan(
        u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
    ) -> Tensor:
        rows = [tensor.transpose(1, 2)[0] for tensor in (u, delta, z, B, C)]
        if (
            any(not row.is_contiguous() for row in rows)
            or len(u) != 1
            or u.shape[1] % 16
            or A.shape[1] % 8
            or A.shape[1] > 64
        ):
            raise ValueError("the yardstick takes one channels-last sequence, D a multiple of 16, N of 8 up to 64")
        y = torch.empty_like(rows[0])
        pointers: list[Any] = [t.data_ptr() for t in (rows[0], rows[1], A, rows[3], rows[4], D, rows[2], delta_bias, y)]
        function(u.shape[2], u.shape[1], A.shape[1], *pointers, torch.get_num_threads())
        return y.T[None]

    return scan
