"""Which ways to compute the scan exist here, and the rule by which `auto` takes one.

The rule, in order; the first backend that is available, not distrusted (trust.py) and made for the input is taken:

    device        dtype                    order
    CPU           float32, half precision  numba, chunked
    NVIDIA GPU    float32, half precision  cuda, triton, mamba-ssm, chunked     more than 64 states: chunked
    AMD GPU       the same                 triton, chunked
    any           float64, other devices   chunked

The environment variable MAMBASEGMENT_BACKEND names one that is taken before all others wherever it can be used. The
order on a GPU is a guess from the cost model of gpu_plan.py until it has been measured on one. Imports nothing heavy
beyond torch: whether a backend works is found out at its first use.
"""

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

from ..errors import ConfigError
from . import trust

OVERRIDE = "MAMBASEGMENT_BACKEND"
MOST_STATES_ON_GPU = 64  # they are kept in registers


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


@dataclass(frozen=True)
class Backend:
    """A row of the table below.

    Attributes:
        module: has `scan(ScanArguments) -> (y, last state)`; imported at first use.
        state: available or not, and why.
        devices, dtypes: what it runs on.
        most_states: N at most, None for any.
        checked: compared with `chunked` on a small input before it is used.
    """

    module: str
    state: Callable[[], tuple[bool, str]]
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    most_states: int | None = None
    checked: bool = False

    def load(self) -> ModuleType:
        """The module with its functions."""
        return importlib.import_module(self.module, __package__)


_HALF_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)
_ANY_FLOAT = (*_HALF_AND_SINGLE, torch.float64)
_ALL_DEVICES = ("cpu", "cuda", "mps", "xpu")


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


@functools.lru_cache(maxsize=1)
def _numba_state() -> tuple[bool, str]:
    """Whether the compiled kernels can be used, found out by importing them."""
    if not _installed("numba"):
        return False, "numba is not installed: pip install numba (without it the scan on the CPU is many times slower)"
    try:
        for module in (".numba_scan", ".numba_conv", ".numba_layer"):
            importlib.import_module(module, __package__)
    except Exception as error:  # numba raises errors of many kinds; whatever it is, the chunked scan still works
        return False, f"numba is installed but its kernels do not compile: {type(error).__name__}: {error}"
    return True, "compiled vector kernels, threaded"


@functools.lru_cache(maxsize=1)
def _cuda_state() -> tuple[bool, str]:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return False, "no NVIDIA GPU that this build of torch can use"
    if not _installed("cuda.bindings"):
        major = torch.version.cuda.split(".")[0]
        return False, f"cuda-bindings is not installed: pip install 'cuda-bindings=={major}.*' nvidia-cuda-nvrtc"
    return True, "CUDA C++, compiled at first use by NVRTC"


@functools.lru_cache(maxsize=1)
def _triton_state() -> tuple[bool, str]:
    if not _installed("triton"):
        return False, "triton is not installed; PyTorch for NVIDIA and AMD GPUs on Linux brings it along"
    if _interpreted():
        return True, "interpreted by NumPy, for tests: TRITON_INTERPRET=1"
    if not torch.cuda.is_available():
        return False, "no GPU that this build of torch can use"
    return True, "compiled at first use by Triton, which needs a C compiler"


@functools.lru_cache(maxsize=1)
def _mamba_ssm_state() -> tuple[bool, str]:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return False, "no NVIDIA GPU that this build of torch can use"
    if not _installed("mamba_ssm"):
        return False, "mamba-ssm is not installed; it is not needed"
    return True, "the scan of the mamba-ssm package"


# in the order of the rule; the functions are looked up late so that a test can replace them
BACKENDS: dict[str, Backend] = {
    "numba": Backend(".numba_scan", lambda: _numba_state(), ("cpu",), _HALF_AND_SINGLE),
    "cuda": Backend(".cuda_scan", lambda: _cuda_state(), ("cuda",), _HALF_AND_SINGLE, MOST_STATES_ON_GPU, True),
    "triton": Backend(
        ".triton_scan", lambda: _triton_state(), ("cuda", "cpu") if _interpreted() else ("cuda",), _HALF_AND_SINGLE,
        MOST_STATES_ON_GPU, True,
    ),
    "mamba-ssm": Backend(
        ".mamba_ssm_scan", lambda: _mamba_ssm_state(), ("cuda",), _HALF_AND_SINGLE, MOST_STATES_ON_GPU, True
    ),
    "chunked": Backend(".chunked", lambda: (True, "plain PyTorch, on every device"), _ALL_DEVICES, _ANY_FLOAT),
    "reference": Backend(".reference", lambda: (True, "step by step: slow, the judge"), _ALL_DEVICES, _ANY_FLOAT),
}  # fmt: skip


def available_backends() -> list[BackendInfo]:
    """Every backend of this version with what it can do here, the preferred ones first."""
    return [_info(name) for name in BACKENDS]


def choose_backend(device: torch.device, dtype: torch.dtype, states: int = 16) -> BackendInfo:
    """What `auto` takes for inputs of this dtype and number of states N on this device.

    Raises:
        ConfigError: MAMBASEGMENT_BACKEND names no backend.
    """
    named = os.environ.get(OVERRIDE, "auto")
    if named != "auto":
        _check_known(named, f"the environment variable {OVERRIDE} names")
    for name in BACKENDS if named == "auto" else (named, *BACKENDS):
        if fits(name, device, dtype, states) and trust.doubt(name, device) is None:
            return _info(name)
    return _info("chunked")  # which asks nothing of a device but PyTorch's own operators


def explain_choice(device: torch.device, dtype: torch.dtype = torch.float32, states: int = 16) -> str:
    """One sentence: what `auto` takes there, and why not what comes before it in the rule."""
    chosen = choose_backend(device, dtype, states).name
    named = os.environ.get(OVERRIDE)
    passed_over = []
    for name in BACKENDS:
        if name == chosen:
            break
        row = BACKENDS[name]
        if device.type in row.devices and dtype in row.dtypes:
            available, reason = row.state()
            doubt = trust.doubt(name, device)
            why = doubt or (f"made for at most {row.most_states} states" if available else reason)
            passed_over.append(f"{name}: {why}")
    text = f"{chosen} on {device}" + (f", as {OVERRIDE} says" if named == chosen else "")
    return text + (f" (not {'; '.join(passed_over)})" if passed_over and named != chosen else "")


def resolve(name: str, device: torch.device, dtype: torch.dtype, states: int) -> str:
    """The backend that a call with `backend=name` uses.

    Raises:
        ConfigError: no such backend, or one that cannot take this input.
    """
    if name == "auto":
        return choose_backend(device, dtype, states).name
    _check_known(name, "unknown scan backend")
    available, reason = BACKENDS[name].state()
    if not available:
        raise ConfigError(f"scan backend {name!r} cannot be used here: {reason}")
    if name not in ("chunked", "reference") and not fits(name, device, dtype, states):
        row = BACKENDS[name]
        dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in row.dtypes)
        most = "" if row.most_states is None else f", at most {row.most_states} states"
        raise ConfigError(
            f"scan backend {name!r} takes {dtypes} on {' or '.join(row.devices)}{most}, not {dtype} with {states} "
            f"states on {device}; use 'auto'"
        )
    return name


def fits(name: str, device: torch.device, dtype: torch.dtype, states: int) -> bool:
    """Whether a backend is available and made for such input."""
    row = BACKENDS[name]
    made_for = device.type in row.devices and dtype in row.dtypes
    return made_for and (row.most_states is None or states <= row.most_states) and row.state()[0]


def _check_known(name: str, how: str) -> None:
    if name not in BACKENDS:
        raise ConfigError(f"{how} {name!r}; known: auto, {', '.join(BACKENDS)}")


def _info(name: str) -> BackendInfo:
    row = BACKENDS[name]
    return BackendInfo(name, *row.state(), row.devices, row.dtypes, True)
