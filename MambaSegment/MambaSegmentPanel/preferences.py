"""What a user, or a site for all its users, wants of the module on this computer; kept in Slicer's settings.

A site can preset folders by environment variables, which then win over the settings:

    MAMBASEGMENT_MODELS         folders of models, separated as in PATH; they are looked through first
    MAMBASEGMENT_USER_MODELS    the folder that models are added to
    MAMBASEGMENT_WHEELS         a folder of wheel files that packages are installed from, without network
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qt
import slicer

from MambaSegmentLib.folders import USER_MODELS_VARIABLE, use_models_folder, user_models_folder

_PREFIX = "MambaSegment/"
WHEELS_VARIABLE = "MAMBASEGMENT_WHEELS"


class Preferences:
    """Texts, by name; everything else is made of them."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment

    def get(self, name: str, default: str = "") -> str:
        return str(slicer.util.settingsValue(_PREFIX + name, default, converter=str))

    def set(self, name: str, value: str) -> None:
        """An empty text is as good as none."""
        settings: Any = qt.QSettings()
        if value:
            settings.setValue(_PREFIX + name, value)
        else:
            settings.remove(_PREFIX + name)

    def apply(self) -> None:
        """Let the library know, which keeps models where the settings say."""
        use_models_folder(Path(self.get("ModelFolder")) if self.get("ModelFolder") else None)

    @property
    def device(self) -> str:
        """For scenes that say nothing of it."""
        return self.get("Device", "auto")

    @property
    def modelFolder(self) -> Path:
        """That models are added to."""
        return user_models_folder()

    @property
    def modelFolderIsPreset(self) -> bool:
        return bool(self._environment.get(USER_MODELS_VARIABLE))

    @property
    def wheelFolder(self) -> str:
        """That packages are installed from; empty where they come from the network."""
        return self._environment.get(WHEELS_VARIABLE) or self.get("WheelFolder")

    @property
    def wheelFolderIsPreset(self) -> bool:
        return bool(self._environment.get(WHEELS_VARIABLE))
