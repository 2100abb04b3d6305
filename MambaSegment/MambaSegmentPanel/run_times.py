"""How long segmentations took on this computer, for the model card."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import SegmentationJob
    from .preferences import Preferences

_KEPT = 5  # of each model, device and quality
_MODELS = 100  # of these the latest


@dataclass(frozen=True)
class MeasuredTime:
    """`seconds`: the median of the last runs, from click to segments; `voxels`: of the last image."""

    device: str
    quality: str
    seconds: float
    runs: int
    voxels: int


class RunTimes:
    """Kept in the preferences as JSON; what cannot be read counts as nothing."""

    def __init__(self, preferences: Preferences) -> None:
        self._preferences = preferences

    def note(self, job: SegmentationJob) -> None:
        """A run that gave a result. One of a region tells nothing of the whole image."""
        options = job.request.options
        if options.roi is not None or not job.request.manifest.sha256:
            return
        size = job.request.volumeNodes[0].GetImageData().GetNumberOfPoints()
        known = self._read()
        runs = known.setdefault(f"{job.request.manifest.sha256} {options.device} {options.quality}", [])
        runs.append([round(job.outcome.timings["total"], 3), size])
        del runs[:-_KEPT]
        self._preferences.set("Times", json.dumps(dict(list(known.items())[-_MODELS:])))

    def of(self, sha256: str | None) -> list[MeasuredTime]:
        """Of a model, by its checksum."""
        found = []
        for key, runs in self._read().items():
            name, device, quality = key.split(" ")
            if sha256 and name == sha256 and runs:
                seconds = statistics.median(float(run[0]) for run in runs)
                found.append(MeasuredTime(device, quality, seconds, len(runs), int(runs[-1][1])))
        return found

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._preferences.get("Times", "{}"))
        except ValueError:
            return {}
        return known if isinstance(known, dict) else {}
