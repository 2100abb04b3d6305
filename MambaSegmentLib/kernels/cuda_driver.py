"""Compiling CUDA C++ while the program runs, keeping the result on disk, and launching it on PyTorch's stream.

Through cuda-bindings (NVIDIA's Python bindings of NVRTC and the driver, the layer under cuda-core), which needs no
compiler, no Python headers and no CUDA toolkit, but NVRTC, which PyTorch's CUDA builds bring along. Imported only when
a CUDA kernel is wanted.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from cuda.bindings import driver, nvrtc

from ..errors import ResourceError
from ..files import atomic_path

_OPTIONS = ("--std=c++17", "--fmad=true", "--prec-div=false", "--ftz=true")  # a quotient to 2 units in the last place


def compiled(text: str, architecture: int, macros: tuple[tuple[str, str | int], ...]) -> bytes:
    """Machine code for compute capability `architecture` (90 for 9.0), or PTX where this NVRTC is older than the GPU.

    Taken from the cache on disk if this very text was compiled before by this NVRTC with these options.

    Raises:
        RuntimeError: NVRTC is missing or refuses the text; its log is in the message.
    """
    known = [int(number) for number in _checked(nvrtc.nvrtcGetSupportedArchs())]
    target = f"sm_{architecture}" if architecture in known else f"compute_{max(known)}"
    options = (*_OPTIONS, f"--gpu-architecture={target}", *(f"-D{name}={value}" for name, value in macros))
    version = ".".join(map(str, _checked(nvrtc.nvrtcVersion())))
    key = hashlib.sha256("\0".join((version, *options, text)).encode()).hexdigest()
    folder = cache_folder()
    file = folder / f"scan-{target}-{key[:32]}.bin"
    with contextlib.suppress(OSError):  # no cache, or none that can be read: compile
        if code := file.read_bytes():
            return code
    code = compile_now(text, options)
    with contextlib.suppress(
        OSError, ResourceError
    ):  # a folder that cannot be written costs time at each start, no more
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(file, ResourceError) as path:
            path.write_bytes(code)
    return code


def compile_now(text: str, options: tuple[str, ...]) -> bytes:
    """Machine code or PTX, as the options' architecture says."""
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"scan.cu", 0, [], []))
    try:
        (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
            _checked(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(f"NVRTC cannot compile the scan: {error.name}: {log.decode(errors='replace')[:2000]}")
        to_machine_code = any(option.startswith("--gpu-architecture=sm_") for option in options)
        size, get = (
            (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            if to_machine_code
            else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        )
        code = bytearray(_checked(size(program)))
        _checked(get(program, code))
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def cache_folder() -> Path:
    """Where compiled kernels are kept: the user's cache, or what MAMBASEGMENT_KERNEL_CACHE names."""
    if named := os.environ.get("MAMBASEGMENT_KERNEL_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mambasegment" / "kernels"


class Module:
    """Compiled kernels loaded onto one device."""

    def __init__(self, code: bytes, device: torch.device) -> None:
        assert device.index is not None
        _make_current(device.index)
        image = ctypes.create_string_buffer(code)  # with a zero at its end, by which PTX is known to be over
        self._module = _checked(driver.cuModuleLoadData(ctypes.addressof(image)))
        self._device = device
        self._kernels: dict[str, Any] = {}

    def launch(self, kernel: str, blocks: int, threads: tuple[int, int], parameters: ctypes.Structure) -> None:
        """Queue the kernel on PyTorch's current stream of the device; `parameters` is copied before this returns."""
        if kernel not in self._kernels:
            self._kernels[kernel] = _checked(driver.cuModuleGetFunction(self._module, kernel.encode()))
        _make_current(self._device.index)
        addresses = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
        stream = torch.cuda.current_stream(self._device).cuda_stream
        _checked(
            driver.cuLaunchKernel(
                self._kernels[kernel], blocks, 1, 1, *threads, 1, 0, stream, ctypes.addressof(addresses), 0
            )
        )


def _make_current(index: int) -> None:
    """The context that PyTorch uses, in a thread that may be new to CUDA (as the one of a backward pass)."""
    wanted = _primary_context(index)
    if int(_checked(driver.cuCtxGetCurrent())) != int(wanted):
        _checked(driver.cuCtxSetCurrent(wanted))


@functools.cache
def _primary_context(index: int) -> Any:
    _checked(driver.cuInit(0))
    return _checked(driver.cuDevicePrimaryCtxRetain(_checked(driver.cuDeviceGet(index))))


def _checked(result: tuple[Any, ...]) -> Any:
    """What a call returned beside its status.

    Raises:
        RuntimeError: the status is not success.
    """
    status, *values = result
    if status.value != 0:
        raise RuntimeError(f"CUDA says {status.name} ({status.value})")
    return values[0] if len(values) == 1 else tuple(values)
