"""Which ways to compute the scan exist here, and which one is taken.

Imports nothing heavy beyond torch: whether numba works is found out at its first use.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .arguments import ScanArguments

ScanFunction = Callable[[ScanArguments], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class BackendInfo:
    """What a backend can do on this machine.

    Attributes:
        name: as `selective_scan(backend=...)` takes it.
        available: whether it can be used here.
        reason: why, or why not and what to do.
        devices: torch device types it runs on.
        dtypes: input dtypes it takes.
        gradients: whether it has a backward pass.
    """

    name: str
    available: bool
    reason: str
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    gradients: bool


_HALF_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)
_ANY_FLOAT = (*_HALF_AND_SINGLE, torch.float64)
_MODULES = {"reference": ".reference", "chunked": ".chunked", "numba": ".numba_scan"}


def available_backends() -> list[BackendInfo]:
    """Every backend of this version with what it can do here, the preferred ones first."""
    numba_works, numba_reason = _numba_state()
    return [
        BackendInfo("numba", numba_works, numba_reason, ("cpu",), _HALF_AND_SINGLE, True),
        BackendInfo("chunked", True, "plain PyTorch, on every device", ("cpu", "cuda", "mps", "xpu"), _ANY_FLOAT, True),
        BackendInfo(
            "reference", True, "step by step: slow, the judge", ("cpu", "cuda", "mps", "xpu"), _ANY_FLOAT, True
        ),
    ]


def choose_backend(device: torch.device, dtype: torch.dtype) -> BackendInfo:
    """What `auto` takes for inputs on this device: numba on the CPU, else chunked."""
    for info in available_backends():
        if info.available and device.type in info.devices and dtype in info.dtypes:
            return info
    return available_backends()[1]  # chunked asks nothing of a device but PyTorch's own operators


def scan_function(name: str, arguments: ScanArguments) -> ScanFunction:
    """The function that backend `name`, or `auto`, runs for these arguments.

    Raises:
        ConfigError: no such backend, or one that cannot take this device or dtype.
    """
    return importlib.import_module(_MODULES[_resolved(name, arguments.u.device, arguments.u.dtype)], __package__).scan


def directional_function(name: str, device: torch.device, dtype: torch.dtype) -> Callable[[Any], Tensor] | None:
    """The fused scan along several directions of backend `name`, or of the one `auto` takes; None if it has none.

    It takes `directions.DirectionalArguments` and returns y (B, D, *spatial).

    Raises:
        ConfigError: no such backend, or one that cannot take this device or dtype.
    """
    module = importlib.import_module(_MODULES[_resolved(name, device, dtype)], __package__)
    return getattr(module, "directional_scan", None)


def _resolved(name: str, device: torch.device, dtype: torch.dtype) -> str:
    if name == "auto":
        return choose_backend(device, dtype).name
    _check_usable(name, device, dtype)
    return name


def _check_usable(name: str, device: torch.device, dtype: torch.dtype) -> None:
    by_name = {info.name: info for info in available_backends()}
    if name not in by_name:
        raise ConfigError(f"unknown scan backend {name!r}; known: auto, {', '.join(by_name)}")
    info = by_name[name]
    if not info.available:
        raise ConfigError(f"scan backend {name!r} cannot be used here: {info.reason}")
    if name == "numba" and (device.type not in info.devices or dtype not in info.dtypes):
        raise ConfigError(
            f"scan backend 'numba' takes float32 or half precision on the CPU, not {dtype} on {device}; use 'auto'"
        )


@functools.lru_cache(maxsize=1)
def _numba_state() -> tuple[bool, str]:
    """Whether the compiled kernels can be used, found out by importing them."""
    if importlib.util.find_spec("numba") is None:
        return False, "numba is not installed: pip install numba (without it the scan on the CPU is many times slower)"
    try:
        for module in (_MODULES["numba"], ".numba_conv"):
            importlib.import_module(module, __package__)
    except Exception as error:  # numba raises errors of many kinds; whatever it is, the chunked scan still works
        return False, f"numba is installed but its kernels do not compile: {type(error).__name__}: {error}"
    return True, "compiled vector kernels, threaded"
