"""Refusing what cannot fit, before it is allocated: Linux grants any size and ends the process later."""

import re

from .errors import ConfigError, ResourceError

_UNITS = {"": 10**9, "MB": 10**6, "GB": 10**9}


def free_bytes() -> int | None:
    """Memory that can be had without swapping; None where it cannot be known."""
    try:
        import psutil
    except ModuleNotFoundError:  # a fresh Slicer; the worker has it
        return None
    return int(psutil.virtual_memory().available)


def refuse_oversize(what: str, needed_bytes: int) -> None:
    """Raises: ResourceError, when this many bytes are more than the memory that is free."""
    free = free_bytes()
    if free is not None and needed_bytes > free:
        raise ResourceError(
            f"{what} needs {needed_bytes / 1e9:.3g} GB of memory for its voxels alone, and {free / 1e9:.3g} GB are free"
            "; check the size and the spacing in its header, crop the image, or close other programs"
        )


def bytes_from_text(text: str) -> int:
    """A size such as "3", "2.5GB" (both gigabytes) or "800MB", in bytes.

    Raises:
        ConfigError: no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(GB|MB|)", text.strip(), re.IGNORECASE)
    size = 0 if match is None else int(float(match[1]) * _UNITS[match[2].upper()])
    if size <= 0:
        raise ConfigError(f"a memory limit of {text!r} makes no sense; expected a size such as 3GB or 800MB")
    return size
