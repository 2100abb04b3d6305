"""Names the system libraries that the tests need and pip cannot bring; a server (CI=true) installs them with apt.

Qt draws without a screen, but not without these. Nothing is installed on a person's computer.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

PACKAGES = {  # Debian's package for each library
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
}
FONT_PACKAGE = "fonts-dejavu-core"
_FONTS = Path("/usr/share/fonts")


def is_there(library: str) -> bool:
    """Whether the system's loader finds it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_packages(is_there: Callable[[str], bool] = is_there, fonts: Path = _FONTS) -> list[str]:
    """Debian's names of what this computer lacks."""
    missing = [package for library, package in PACKAGES.items() if not is_there(library)]
    has_font = any(fonts.rglob("*.ttf")) or any(fonts.rglob("*.otf"))
    return missing if has_font else [*missing, FONT_PACKAGE]


def apt_commands(packages: Iterable[str]) -> list[list[str]]:
    """What installs them."""
    return [["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]]


def main() -> int:
    """Exit code 0 when everything is there, or was installed."""
    if not sys.platform.startswith("linux"):
        return 0  # Qt's packages bring what they need on Windows and macOS
    missing = missing_packages()
    if missing and os.environ.get("CI") == "true" and shutil.which("apt-get"):
        for command in apt_commands(missing):
            subprocess.run(command, check=True)
        missing = missing_packages()
    if missing:
        print(
            f"The tests need system libraries that are not here. On Debian or Ubuntu:\n"
            f"  sudo apt-get install {' '.join(missing)}\n"
            f"(elsewhere, the packages with {', '.join(PACKAGES)} and any TrueType font)",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
