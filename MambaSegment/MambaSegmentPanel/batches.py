"""Many cases from the console: the files of a folder, or volumes of the scene; one that fails never stops the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MambaSegmentLib.errors import Cancelled, MambaSegmentError
from MambaSegmentLib.progress import CancelToken, Progress
from MambaSegmentLib.worker.blocking import InternalError, error_of
from MambaSegmentLib.worker.protocol import Failed, Load, Options, Result, Segment

from .segmenter import Segmenter, modelOf

if TYPE_CHECKING:
    from MambaSegmentLib.batch.cases import Case
    from MambaSegmentLib.batch.outcome import Outcome
    from MambaSegmentLib.batch.report import Report
    from MambaSegmentLib.manifest import Manifest

OnProgress = Callable[[Progress], None]


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
    from MambaSegmentLib.batch.cases import find_cases
    from MambaSegmentLib.batch.run import Plan, run_batch

    path, manifest = modelOf(model)
    cases = find_cases(str(source), [channel.name for channel in manifest.channels])
    plan = Plan(Path(folder), _facts(manifest), ending, _ofLabels(options))
    token = segmenter.newToken()
    files = _Files(segmenter, str(path), options, token)
    try:
        return run_batch(cases, plan, files.segment, progress=onProgress, on_failure=onFailure, cancel=token)
    finally:
        segmenter.dropToken(token)


class _Files:
    """Does the cases of a folder with the module's worker, the model loaded before the first of them."""

    def __init__(self, segmenter: Segmenter, model: str, options: Options, token: CancelToken) -> None:
        self._segmenter, self._model, self._options, self._token = segmenter, model, options, token
        self._loaded = False

    def segment(self, case: Case, output: Path) -> Result | Failed:
        """Raises: MambaSegmentError, when the model or the device cannot be used, and so no case can be done."""
        client = self._segmenter.worker.client
        if not self._loaded:
            self._load()
        inputs = tuple(str(path) for path in case.inputs)
        return self._ask(Segment(client.new_job(), inputs, self._model, str(output), self._options))

    def _load(self) -> None:
        answer = self._ask(Load(self._segmenter.worker.client.new_job(), self._model, self._options))
        if isinstance(answer, Failed):
            raise error_of(answer)
        self._loaded = True

    def _ask(self, command: Segment | Load) -> Result | Failed:
        return self._segmenter.ask(command, self._token)


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
    from MambaSegmentLib.batch.report import Report, write_report

    _, manifest = modelOf(model)
    outcomes: list[Outcome] = []
    nodes: list[Any | None] = []
    token = segmenter.newToken()
    try:
        for number, case in enumerate(cases):
            token.raise_if_cancelled()
            if onProgress is not None:
                onProgress(Progress("batch", number, len(cases)))
            outcome, node = _oneOfNodes(segmenter, case, model, options, token)
            outcomes.append(outcome)
            nodes.append(node)
        if onProgress is not None:
            onProgress(Progress("batch", len(cases), len(cases), 0.0))
    finally:
        segmenter.dropToken(token)
        report = Report(_facts(manifest), len(cases), 0, outcomes)
        if reportFolder is not None:
            Path(reportFolder).mkdir(parents=True, exist_ok=True)
            write_report(report, Path(reportFolder))
    return NodesReport(report, tuple(nodes))


def _oneOfNodes(
    segmenter: Segmenter, case: Any, model: str | Path, options: Options, token: CancelToken
) -> tuple[Outcome, Any | None]:
    from MambaSegmentLib.batch.outcome import DONE, FAILED, Outcome

    started = time.monotonic()
    facts: dict[str, Any] = {"status": FAILED, "output": ""}
    node = None
    try:
        job = segmenter.begin(case, model, options)
        node = segmenter.wait(job)
    except (MambaSegmentError, InternalError) as problem:
        if isinstance(problem, Cancelled) and token.cancelled:
            raise
        facts |= {"kind": type(problem).__name__, "message": str(problem)}
    else:
        facts |= {"status": DONE, "output": node.GetName(), "warnings": job.outcome.warnings}
        facts["segments"] = tuple(_kept(entry) for entry in job.outcome.segments)
    names = _namesOf(case)
    seconds = round(time.monotonic() - started, 3)
    return Outcome(case=names[0], inputs=names, fingerprint="", seconds=seconds, **facts), node


def _namesOf(case: Any) -> tuple[str, ...]:
    nodes = list(case.values()) if isinstance(case, Mapping) else case if isinstance(case, list | tuple) else [case]
    return tuple("None" if node is None else node.GetName() for node in nodes) or ("no volume",)


def _kept(segment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: segment[key] for key in ("value", "name", "voxels", "volume_ml") if key in segment}


def _ofLabels(options: Options) -> dict[str, Any]:
    """The options that make other labels, noted as `mambasegment batch` does: one goes on where the other stopped."""
    usual = Options()
    others = {entry.name for entry in fields(options)} - {"device", "overlap", "statistics"}
    changed = {name: getattr(options, name) for name in others if getattr(options, name) != getattr(usual, name)}
    return {"overlap": options.overlap, **changed}


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256}
