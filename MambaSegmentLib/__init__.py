"""Mamba U-Nets for medical image segmentation: the same library in Slicer, in a shell and on a training node.

Importing this package imports neither torch nor SimpleITK; names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import load_model, segment
    from .extras import Extras
    from .progress import CancelToken, Progress
    from .volume import Volume

__version__ = "0.1.0"
__all__ = ["CancelToken", "Extras", "Progress", "Volume", "__version__", "load_model", "segment"]

_HOME_OF = {
    "CancelToken": "progress",
    "Extras": "extras",
    "Progress": "progress",
    "Volume": "volume",
    "load_model": "api",
    "segment": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
