"""Which device computes."""

import re
from typing import TYPE_CHECKING

from .errors import ConfigError, ResourceError

if TYPE_CHECKING:
    import torch

_LONGEST_NAME = 40  # characters that a message repeats
DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> "torch.device":
    """The device of that name; "auto" takes a CUDA or ROCm GPU, else Apple's, else the CPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" and so on, or "mps".
    Raises:
        ConfigError: another name. ResourceError: a device that this computer or this build of torch does not have.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in DEVICE_NAMES or (index and not (kind == "cuda" and re.fullmatch("[0-9]{1,4}", index))):
        raise ConfigError(f"device {name[:_LONGEST_NAME]!r} is not known; expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ResourceError(
                f"device {name!r} is not there: torch {torch.__version__} finds {count} CUDA GPU(s). "
                "Use --device cpu, or install a torch build and a driver for your GPU (see `mambasegment doctor`)"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("device 'mps' is not there: it needs a Mac with an Apple GPU. Use --device cpu")
    return torch.device(name)
