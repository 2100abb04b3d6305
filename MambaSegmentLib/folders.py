"""Where the system keeps the data and the logs of a user's programs.

`platformdirs` says where. A fresh 3D Slicer lacks it, and there the same places are found by the same rules: the XDG
base directories, Apple's Library, Windows' local application data.
"""

import os
import sys
from pathlib import Path

_NAME = "mambasegment"


def data_folder() -> Path:
    """For models and the like; not created by looking."""
    try:
        import platformdirs
    except ModuleNotFoundError:
        return _data_folder(sys.platform)
    return platformdirs.user_data_path(_NAME, appauthor=False)


def log_folder() -> Path:
    """For traces of bugs; not created by looking."""
    try:
        import platformdirs
    except ModuleNotFoundError:
        return _log_folder(sys.platform)
    return platformdirs.user_log_path(_NAME, appauthor=False)


def _data_folder(platform: str) -> Path:
    if platform == "win32":
        return _from_environment("LOCALAPPDATA", "AppData", "Local") / _NAME
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / _NAME
    return _from_environment("XDG_DATA_HOME", ".local", "share") / _NAME


def _log_folder(platform: str) -> Path:
    if platform == "win32":
        return _data_folder(platform) / "Logs"
    if platform == "darwin":
        return Path.home() / "Library" / "Logs" / _NAME
    return _from_environment("XDG_STATE_HOME", ".local", "state") / _NAME / "log"


def _from_environment(variable: str, *in_home: str) -> Path:
    path = os.environ.get(variable, "").strip()
    return Path(path) if path else Path.home().joinpath(*in_home)
