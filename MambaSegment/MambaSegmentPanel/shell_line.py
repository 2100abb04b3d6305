"""The shell command that does with a model what the user has in front of them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from .scene_io import storedFile

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_SAFE_ON_WINDOWS = re.compile(r"[\w.:\\/+-]+")


@dataclass(frozen=True)
class ShellExample:
    """A command and what to know before using it; an empty line where there is no command."""

    line: str
    hint: str


def shellExample(model: StoredModel | None, volumeNode: Any = None) -> ShellExample:
    """The command for a model and the volume in front of the user, or for placeholders where one is missing."""
    if model is None:
        return ShellExample("", _("Choose a model to see its command."))
    if model.manifest is None:
        return ShellExample("", _("There is no command for this model, since its file cannot be used."))
    image = storedFile(volumeNode) if volumeNode is not None else None
    channels = [channel.name for channel in model.manifest.channels]
    hints = [_("For a shell in which mambasegment is installed. Drag the file it writes onto Slicer to see it.")]
    if volumeNode is not None and image is None:
        hints.append(_("The volume has no file of its own, or was changed since: save it and put its name in."))
    elif image is None or len(channels) > 1:
        hints.append(_("Put your own file names in."))
    return ShellExample(shellLine(channelFiles(channels, image), model.name), " ".join(hints))


def shellLine(images: Sequence[PurePath], model: str, *, windows: bool = os.name == "nt") -> str:
    """`mambasegment segment …`, quoted for the shell of the system; the result goes beside the first image.

    Args:
        images: one file per channel, in the model's order.
        model: a name of the model store or a path.
    """
    arguments = ["mambasegment", "segment", *map(str, images), "-m", model, "-o", str(_resultBeside(images[0]))]
    return " ".join(_quotedForWindows(text) for text in arguments) if windows else shlex.join(arguments)


def channelFiles(channelNames: Sequence[str], first: PurePath | None) -> list[PurePath]:
    """One file per channel: the first if it is known, otherwise names for the user to replace."""
    placeholders = [PurePath(f"{re.sub(r'[^0-9A-Za-z]+', '_', name)}.nii.gz") for name in channelNames]
    return placeholders if first is None else [first, *placeholders[1:]]


def _resultBeside(image: PurePath) -> PurePath:
    ending = next((ending for ending in IMAGE_ENDINGS if image.name.lower().endswith(ending)), image.suffix)
    return image.with_name(f"{image.name[: len(image.name) - len(ending)]}.seg.nrrd")


def _quotedForWindows(text: str) -> str:
    """Double quotes serve cmd and PowerShell alike, and a Windows file name cannot contain one."""
    return text if _SAFE_ON_WINDOWS.fullmatch(text) else f'"{text}"'
