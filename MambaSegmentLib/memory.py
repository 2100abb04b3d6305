"""Refusing what cannot fit, before it is allocated: Linux grants any size and ends the process later."""

from .errors import ResourceError


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
