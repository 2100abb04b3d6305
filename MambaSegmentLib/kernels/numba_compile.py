"""Compile once, keep the machine code on disk."""

import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from numba import njit


def cached_on_disk(signature: Any) -> Callable[[Callable[..., None]], Any]:
    """Compile for one signature, with the interpreter lock released while it runs.

    The code is kept beside the source file, or in numba's folder for the user where that cannot be written; where no
    folder can be written it is compiled anew in each process.
    """

    def decorate(function: Callable[..., None]) -> Any:
        try:
            return njit(signature, nogil=True, error_model="numpy", cache=True)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return njit(signature, nogil=True, error_model="numpy")(function)

    return decorate


def checksum_of(*modules: ModuleType) -> int:
    """A number that changes with the modules' sources.

    Numba drops cached code when the file of the compiled function changes, not when a file that it imports does; but
    the cache's key holds what the function closes over. So kernels are made in a function that takes this number.
    """
    return zlib.crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in modules))
