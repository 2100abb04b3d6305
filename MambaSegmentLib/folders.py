"""Where the system keeps the data and the logs of a user's programs.

`platformdirs` says where. A fresh 3D Slicer lacks it, and there the same places are found by the same rules: the XDG
base directories, Apple's Library, Windows' local application data.
"""

import os
import sys
from pathlib import Path

USER_MODELS_VARIABLE = "MAMBASEGMENT_USER_MODELS"  # a site, or a shell, names the folder of a user's own models
_NAME = "mambasegment"
_chosen_models_folder: list[Path] = []  # at most one, see `use_models_folder`


def data_folder() -> Path:
    """For models and the like; not created by looking."""
    try:
        import platformdirs
    except ModuleNotFoundError:
        return _data_folder(sys.platform)
    return platformdirs.user_data_path(_NAME, appauthor=False)


def user_models_folder() -> Path:
    """Where a user's own models lie; not created by looking.

    The environment variable MAMBASEGMENT_USER_MODELS names it, else the program that uses the library
    (`use_models_folder`), else it lies in the data folder.
    """
    named = os.environ.get(USER_MODELS_VARIABLE, "").strip()
    if named:
        return Path(named)
    return _chosen_models_folder[0] if _chosen_models_folder else data_folder() / "models"


def use_models_folder(folder: Path | None) -> None:
    """For a program with settings of its own: keep the user's models there, in this process; None as usual."""
    _chosen_models_folder[:] = [] if folder is None else [folder]


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
