"""Weights as other projects publish them, read without running anything that a file may hold."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import BundleError

_SAFE_SINCE = (2, 10)  # before, a crafted file breaks out of PyTorch's restricted reader (CVE-2026-24747)


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """What a file holds, and the SHA-256 of its bytes in hexadecimal digits."""

    content: Mapping[str, Any]
    sha256: str


def read_weights_file(path: Path) -> WeightsFile:
    """Read a `.safetensors`, `.pth` or `.pt` file into the CPU's memory.

    Files of PyTorch are pickles, of which the restricted reader takes tensors, plain values and the numbers of NumPy
    that training programs store beside them, and nothing else.

    Raises:
        BundleError: no such file, a damaged one, one that holds more than weights (the message says what it wanted to
            run), or a PyTorch whose restricted reader is not safe.
    """
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        raise BundleError(f"the weights {path} cannot be read: {problem.strerror or problem}") from problem
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise BundleError(f"{path} holds a {type(content).__name__}; expected tensors by name")
    return WeightsFile(content, sha256)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as problem:
        raise BundleError(f"{path} is damaged or no safetensors file: {problem}; fetch it again") from problem


def _read_pickle(path: Path) -> Any:
    if _version(torch.__version__) < _SAFE_SINCE:
        raise BundleError(
            f"{path} is a pickle, and PyTorch {torch.__version__} cannot read one safely (CVE-2026-24747: a crafted "
            "file breaks out of the restricted reader); upgrade: pip install 'torch>=2.10', or give a .safetensors file"
        )
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(problem))
        if wanted is None:
            raise BundleError(f"{path} is damaged or no file of PyTorch weights; fetch it again") from problem
        raise BundleError(
            f"{path} holds more than weights: it wants to run {wanted[1]}, such as an early VMamba file does with its "
            "training configuration; nothing of it was run. Get a copy that holds the weights alone"
        ) from problem
    except Exception as problem:  # a damaged pickle can end in any error
        raise BundleError(
            f"{path} is damaged or no file of PyTorch weights ({type(problem).__name__}); fetch it again"
        ) from problem


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _numpy_numbers() -> list[Any]:
    """What a pickled NumPy number is made of: nnU-Net keeps its history in such, under both names of NumPy's core."""
    scalar = np.float64(0).__reduce__()[0]  # the function, wherever this version of NumPy keeps it
    names = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [*((scalar, name) for name in names), np.dtype, *kinds]
