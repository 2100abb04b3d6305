"""Batches, begun and not waited for; the console's methods that wait are made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MambaSegmentLib.batch.outcome import FAILED
from MambaSegmentLib.progress import Progress
from MambaSegmentLib.worker.protocol import Options

from .batch_files import FilesWork
from .batch_job import BatchCallbacks, BatchJob, CaseState, Work
from .batch_volumes import VolumesCase, VolumesWork, consoleCase
from .segmenter import Segmenter, modelOf

if TYPE_CHECKING:
    from MambaSegmentLib.batch.cases import Case
    from MambaSegmentLib.batch.outcome import Outcome
    from MambaSegmentLib.batch.report import Report

OnProgress = Callable[[Progress], None]


def casesOf(source: str | Path, model: str | Path) -> list[Case]:
    """The cases that a folder, a pattern or a table means to a model. Raises: ConfigError, BundleError."""
    from MambaSegmentLib.batch.cases import find_cases

    _, manifest = modelOf(model)
    return find_cases(str(source), [channel.name for channel in manifest.channels])


def beginFiles(
    segmenter: Segmenter,
    source: str | Path,
    model: str | Path,
    folder: str | Path,
    *,
    ending: str,
    options: Options,
    callbacks: BatchCallbacks,
) -> BatchJob:
    """See `MambaSegmentLogic.segmentFolderAsync`."""
    cases = casesOf(source, model)
    work = FilesWork(segmenter.worker, cases, modelOf(model), options, folder=Path(folder), ending=ending)
    return _begin(segmenter, work, callbacks)


def beginVolumes(
    segmenter: Segmenter,
    cases: Sequence[VolumesCase],
    model: str | Path,
    *,
    options: Options,
    reportFolder: str | Path | None,
    callbacks: BatchCallbacks,
) -> BatchJob:
    """See `MambaSegmentLogic.segmentVolumesAsync`."""
    return _begin(segmenter, _volumesWork(segmenter, cases, model, options, reportFolder), callbacks)


def segmentFolder(
    segmenter: Segmenter,
    source: str | Path,
    model: str | Path,
    folder: str | Path,
    *,
    ending: str,
    options: Options,
    onProgress: OnProgress | None,
    onFailure: Callable[[Outcome], None] | None,
) -> Report:
    """See `MambaSegmentLogic.segmentFolder`."""

    def onCase(_number: int, state: CaseState) -> None:
        if state.status == FAILED and onFailure is not None and state.outcome is not None:
            onFailure(state.outcome)

    callbacks = BatchCallbacks(onProgress, onCase)
    job = beginFiles(segmenter, source, model, folder, ending=ending, options=options, callbacks=callbacks)
    return job.wait()


@dataclass(frozen=True)
class NodesReport:
    """What became of volumes of the scene.

    Attributes:
        report: as of a batch of files; `case` is the volume's name, `output` the segmentation's.
        nodes: the segmentation of each case, None where there is none.
    """

    report: Report
    nodes: tuple[Any | None, ...]


def segmentNodes(
    segmenter: Segmenter,
    cases: Sequence[Any],
    model: str | Path,
    *,
    options: Options,
    reportFolder: str | Path | None,
    onProgress: OnProgress | None,
) -> NodesReport:
    """See `MambaSegmentLogic.segmentNodes`."""
    work = _volumesWork(segmenter, [consoleCase(nodes) for nodes in cases], model, options, reportFolder)
    report = _begin(segmenter, work, BatchCallbacks(onProgress)).wait()
    return NodesReport(report, tuple(work.nodes))


def _volumesWork(
    segmenter: Segmenter,
    cases: Sequence[VolumesCase],
    model: str | Path,
    options: Options,
    reportFolder: str | Path | None,
) -> VolumesWork:
    folder = None if reportFolder is None else Path(reportFolder)
    return VolumesWork(segmenter, cases, (model, modelOf(model)[1]), options, reportFolder=folder)


def _begin(segmenter: Segmenter, work: Work, callbacks: BatchCallbacks) -> BatchJob:
    try:
        post = segmenter.worker.transport.post
        return segmenter.keep(lambda onOver: BatchJob(work, post, callbacks, onOver))
    except BaseException:  # there is no Python for a worker
        work.close()
        raise
