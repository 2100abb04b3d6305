"""Names the system library that Qt misses, and how to get it, instead of a bare ImportError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# file that the loader cannot find → package of Debian and Ubuntu
_PACKAGES = {
    "libEGL": "libegl1",
    "libGL": "libgl1",
    "libxkbcommon": "libxkbcommon0",
    "libdbus": "libdbus-1-3",
    "libfontconfig": "libfontconfig1",
}
_ALL = "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 fonts-dejavu-core"


@contextmanager
def importingQt() -> Iterator[None]:
    """Around the first import of PySide6 or slicer-core."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the stand-in Slicer host needs the package that holds {error.name!r}; "
            "install it with: pip install -r Testing/requirements.txt"
        ) from error
    except ImportError as error:
        raise ImportError(explanation(str(error))) from error


def explanation(message: str) -> str:
    """What to install, from the loader's own message."""
    missing = [package for library, package in _PACKAGES.items() if f"{library}." in message]
    packages = " ".join(missing) or _ALL
    return f"{message}. The stand-in Slicer host needs it; on Debian and Ubuntu: sudo apt-get install {packages}"
