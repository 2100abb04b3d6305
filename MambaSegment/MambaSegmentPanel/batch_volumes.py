"""A batch of volumes of the scene: each gets its segmentation beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.batch.outcome import DONE, FAILED, Outcome, figures
from MambaSegmentLib.errors import Cancelled, ConfigError, MambaSegmentError

from .batch_files import factsOf
from .job import Callbacks, SegmentationJob
from .volume_guess import Candidate, mayBe, withoutChannel

if TYPE_CHECKING:
    from MambaSegmentLib.batch.report import Report
    from MambaSegmentLib.manifest import Channel, Manifest
    from MambaSegmentLib.worker.protocol import Options

    from .batch_job import Done, Tell
    from .segmenter import Segmenter

_log = logging.getLogger("MambaSegment")


@dataclass(frozen=True)
class VolumesCase:
    """Volumes of the scene that belong together.

    Attributes:
        nodes: in the order of the model's channels, or whatever else `Segmenter.begin` takes.
        problem: why it cannot be tried.
    """

    name: str
    nodes: Any
    problem: str = ""

    @property
    def key(self) -> str:
        """Tells cases apart whose volumes are named alike."""
        return " ".join(node.GetID() for node in self.nodes)


def casesOfScene(channels: Sequence[Channel], volumes: Sequence[Any], modalities: Sequence[str]) -> list[VolumesCase]:
    """One case for each volume; with several channels, for volumes whose names differ only in the channel's name.

    Args:
        modalities: DICOM's, of each volume; empty where it is not known.
    """
    if len(channels) == 1:
        fitting = [
            volume for volume, kind in zip(volumes, modalities, strict=True) if mayBe(channels[0].modality, kind)
        ]
        return [VolumesCase(volume.GetName() or "", (volume,)) for volume in fitting]
    groups: dict[str, dict[int, Any]] = {}
    for volume, kind in zip(volumes, modalities, strict=True):
        for index, channel in enumerate(channels):
            rest = withoutChannel(channel, Candidate(volume.GetName() or "", kind))
            if rest is not None and index not in groups.setdefault(rest, {}):
                groups[rest][index] = volume
                break
    return [_group(rest, found, channels) for rest, found in groups.items() if found]


def _group(rest: str, found: Mapping[int, Any], channels: Sequence[Channel]) -> VolumesCase:
    nodes = tuple(found[index] for index in sorted(found))
    lacking = [channel.name for index, channel in enumerate(channels) if index not in found]
    problem = _("no volume for {names}").format(names=", ".join(lacking)) if lacking else ""
    return VolumesCase(rest or nodes[0].GetName(), nodes, problem)


class VolumesWork:
    """The Work of a batch_job. A volume that is removed fails its case, a closed scene ends the batch.

    Args:
        reportFolder: for report.json and the tables; None writes none.
    Attributes:
        nodes: the segmentation of each case, None where there is none.
    Raises:
        ImageError: the folder cannot be made.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cases: Sequence[VolumesCase],
        model: tuple[str | Path, Manifest],
        options: Options,
        *,
        reportFolder: Path | None,
    ) -> None:
        self.cases = cases
        self.names = [case.name for case in cases]
        self.nodes: list[Any | None] = [None] * len(cases)
        self._segmenter = segmenter
        self._model, self._manifest = model
        self._options = options
        self._folder = reportFolder
        self._outcomes: list[Outcome] = []
        self._job: SegmentationJob | None = None
        self._startedS = 0.0
        self._whyStopped = ""
        if reportFolder is not None:
            from MambaSegmentLib.batch.run import prepare_folder

            prepare_folder(reportFolder)
        self._scene = slicer.mrmlScene
        self._tag = self._scene.AddObserver(self._scene.StartCloseEvent, self._onSceneClosing)

    @property
    def secondsLeft(self) -> float | None:
        worked = [outcome.seconds for outcome in self._outcomes]
        return sum(worked) / len(worked) * (len(self.cases) - len(worked)) if worked else None

    @property
    def report(self) -> Report:
        from MambaSegmentLib.batch.report import Report

        return Report(factsOf(self._manifest), len(self.cases), 0, self._outcomes)

    def known(self, number: int) -> Outcome | None:
        if self._whyStopped:
            raise Cancelled(self._whyStopped)
        self._startedS = time.monotonic()
        problem = self.cases[number].problem
        return self._failed(number, ConfigError(problem)) if problem else None

    def begin(self, number: int, tell: Tell, done: Done) -> None:
        def failed(error: Exception) -> None:
            self._job = None
            stopped = isinstance(error, Cancelled) and self._whyStopped
            done(Cancelled(self._whyStopped) if stopped else self._failed(number, error))

        def succeeded(node: Any) -> None:
            job, self._job = self._job, None
            assert job is not None
            self.nodes[number] = node
            facts = {"warnings": job.outcome.warnings, "segments": figures(job.outcome.segments)}
            done(self._noted(number, status=DONE, output=node.GetName(), **facts))

        try:
            self._job = self._segmenter.begin(
                self.cases[number].nodes, self._model, self._options, callbacks=Callbacks(tell, succeeded, failed)
            )
        except Exception as problem:  # whatever it is, the other cases are not to blame
            if not isinstance(problem, MambaSegmentError):
                _log.exception("a case of a batch failed")
            failed(problem)

    def cancel(self) -> None:
        self._whyStopped = self._whyStopped or "cancelled on request"
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        from MambaSegmentLib.batch.report import write_report

        self._scene.RemoveObserver(self._tag)
        if self._folder is not None:
            write_report(self.report, self._folder)

    def _onSceneClosing(self, _scene: Any, _event: Any) -> None:
        self._whyStopped = self._whyStopped or "cancelled, since the scene was closed"

    def _failed(self, number: int, error: Exception) -> Outcome:
        return self._noted(number, status=FAILED, output="", kind=type(error).__name__, message=str(error))

    def _noted(self, number: int, **facts: Any) -> Outcome:
        names = _namesOf(self.cases[number].nodes)
        seconds = round(time.monotonic() - self._startedS, 3)
        outcome = Outcome(case=self.names[number], inputs=names, fingerprint="", seconds=seconds, **facts)
        self._outcomes.append(outcome)
        return outcome


def consoleCase(nodes: Any) -> VolumesCase:
    """A case as `segmentNodes` is given it: a volume, a list of them, or a dict from the names of channels."""
    return VolumesCase(_namesOf(nodes)[0], nodes)


def _namesOf(case: Any) -> tuple[str, ...]:
    nodes = list(case.values()) if isinstance(case, Mapping) else case if isinstance(case, list | tuple) else [case]
    return tuple("None" if node is None else node.GetName() for node in nodes) or ("no volume",)
