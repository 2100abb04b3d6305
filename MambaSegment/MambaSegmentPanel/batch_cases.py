"""What a batch would do: the cases of a folder, pattern or table, or those among the volumes of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import MambaSegmentError

from .batch_volumes import VolumesCase, casesOfScene
from .messages import asSentence
from .scene_io import imageVolumes, modalityOf

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel

FILES, SCENE = "files", "scene"


class BatchCases:
    """The list as it was looked up last.

    Args:
        logic: a MambaSegmentLogic.
    Attributes:
        names: of the cases.
        volumes: the same where they are volumes of the scene; else empty.
        whyNone: a sentence where there are no cases.
    """

    def __init__(self, logic: Any) -> None:
        self.logic = logic
        self.names: Sequence[str] = ()
        self.volumes: Sequence[VolumesCase] = ()
        self.whyNone = ""

    def look(self, kind: str, source: str, model: StoredModel | None) -> None:
        """Look again; reads folders, but no image."""
        self.names, self.volumes, self.whyNone = (), (), ""
        if model is None or model.manifest is None:
            return
        if kind == SCENE:
            volumes = imageVolumes(slicer.mrmlScene)
            self.volumes = casesOfScene(model.manifest.channels, volumes, [modalityOf(each) for each in volumes])
            self.names = [case.name for case in self.volumes]
            self.whyNone = "" if self.names else _("There is no volume in the scene that the model can be used on.")
        elif not source:
            self.whyNone = _("Choose a folder, a pattern or a .csv file.")
        else:
            self._lookAtFiles(source, model)

    def _lookAtFiles(self, source: str, model: StoredModel) -> None:
        try:
            self.names = [case.name for case in self.logic.casesOfFolder(source, model.name)]
        except MambaSegmentError as problem:
            self.whyNone = asSentence(str(problem))
