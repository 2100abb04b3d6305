"""How an exception becomes the message `failed`."""

import importlib
import sys

from .. import errors
from ..console import write_crash_log
from ..files import disk_is_full
from .protocol import Failed, ProtocolError

_LONGEST_MESSAGE = 4000  # characters

_ADVICE: dict[type[errors.MambaSegmentError], str] = {
    errors.ConfigError: "Change the option or argument that the message names.",
    errors.ShapeError: "Give the image that the model expects; `mambasegment models info` says which.",
    errors.ImageError: "Look at the image in a viewer, and at the place where the result shall be written.",
    errors.GeometryError: "Correct the spacing or direction in the header, or resample the image onto a regular grid.",
    errors.BundleError: "Check the model with `mambasegment models verify`, or fetch its file again.",
    errors.ResourceError: "Choose another device, free disk space, close other programs, or crop the image.",
    errors.Cancelled: "",
}


def failure(problem: Exception, job: str | None) -> Failed:
    """The answer to a job that raised; of a bug the traceback goes to a log, which the advice names."""
    if isinstance(problem, MemoryError) or _is_torch_memory_error(problem):
        problem = errors.ResourceError(f"not enough memory: {problem or type(problem).__name__}")
    elif isinstance(problem, OSError):  # a name that is too long, a disk that is gone
        kind_of_trouble = errors.ResourceError if disk_is_full(problem) else errors.ImageError
        problem = kind_of_trouble(str(problem))
    if isinstance(problem, errors.MambaSegmentError):
        kind = next(kind for kind in type(problem).__mro__ if kind.__module__ == errors.__name__)
        job = job or (problem.job if isinstance(problem, ProtocolError) else None)
        return Failed(job, kind.__name__, str(problem)[:_LONGEST_MESSAGE], _ADVICE.get(kind, ""))
    log = write_crash_log("mambasegment", ["worker"], problem)
    advice = "Please report this" + (f"; the details are in {log}." if log else ".")
    return Failed(job, type(problem).__name__, str(problem)[:_LONGEST_MESSAGE], advice)


def torch_failure(problem: Exception) -> Failed:
    """The answer when torch itself cannot be loaded; nothing can be done for any job then."""
    log = None if isinstance(problem, ModuleNotFoundError) else write_crash_log("mambasegment", ["worker"], problem)
    advice = (
        f"Install PyTorch and the packages of the extension for {sys.executable}; `mambasegment doctor` lists them."
        + (f" The details are in {log}." if log else "")
    )
    return Failed(
        None,
        errors.ResourceError.__name__,
        f"networks cannot be used here: {type(problem).__name__}: {problem}"[:_LONGEST_MESSAGE],
        advice,
    )


def _is_torch_memory_error(problem: Exception) -> bool:
    return "torch" in sys.modules and isinstance(problem, importlib.import_module("torch").OutOfMemoryError)
