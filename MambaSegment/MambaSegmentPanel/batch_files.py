"""A batch of files, which are not loaded into the scene: the worker reads images and writes labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MambaSegmentLib.batch.outcome import Outcome
from MambaSegmentLib.errors import Cancelled, MambaSegmentError
from MambaSegmentLib.progress import Progress
from MambaSegmentLib.worker.blocking import error_of
from MambaSegmentLib.worker.protocol import Failed, JobProgress, Load, Options, Result, Segment

if TYPE_CHECKING:
    from MambaSegmentLib.batch.cases import Case
    from MambaSegmentLib.batch.report import Report
    from MambaSegmentLib.manifest import Manifest
    from MambaSegmentLib.worker.client import JobEvent

    from .batch_job import Done, Tell
    from .worker_owner import WorkerOwner


class FilesWork:
    """Does cases with the module's worker, the model loaded before the first of them. The Work of a batch_job.

    Args:
        cases: as `find_cases` gives them.
        folder, ending: where the labels go, beside journal and report.
    Raises:
        ConfigError, ImageError: the output folder cannot be used, or an output is an input.
    """

    def __init__(
        self,
        worker: WorkerOwner,
        cases: Sequence[Case],
        model: tuple[Path, Manifest],
        options: Options,
        *,
        folder: Path,
        ending: str,
    ) -> None:
        from MambaSegmentLib.batch.run import BatchRun, Plan

        self.cases = cases
        self.names = [case.name for case in cases]
        self._worker = worker
        self._model, self._options = str(model[0]), options
        self._run = BatchRun(cases, Plan(folder, factsOf(model[1]), ending, _ofLabels(options)))
        self._loaded = False
        self._job: str | None = None
        self._cancelled = False

    @property
    def secondsLeft(self) -> float | None:
        return self._run.seconds_left

    @property
    def report(self) -> Report:
        return self._run.report()

    def known(self, number: int) -> Outcome | None:
        return self._run.known(self.cases[number])

    def begin(self, number: int, tell: Tell, done: Done) -> None:
        if self._loaded:
            self._segment(number, tell, done)
            return

        def loaded(answer: Result | Failed) -> None:
            self._loaded = not isinstance(answer, Failed)
            if isinstance(answer, Failed):
                done(error_of(answer))  # the model or the device cannot be used, and so no case can be done
            else:
                self._segment(number, tell, done)

        self._ask(Load(self._worker.client.new_job(), self._model, self._options), tell, loaded)

    def cancel(self) -> None:
        self._cancelled = True
        if self._job is not None:
            self._worker.client.cancel(self._job)

    def close(self) -> None:
        self._run.close()

    def _segment(self, number: int, tell: Tell, done: Done) -> None:
        case = self.cases[number]
        output = self._run.begin(case)

        def ended(answer: Result | Failed) -> None:
            if self._cancelled and isinstance(answer, Failed) and answer.kind == Cancelled.__name__:
                done(error_of(answer))
                return
            try:
                done(self._run.end(case, answer))
            except MambaSegmentError as problem:  # the journal cannot be written
                done(problem)

        job, inputs = self._worker.client.new_job(), tuple(str(path) for path in case.inputs)
        self._ask(Segment(job, inputs, self._model, str(output), self._options), tell, ended)

    def _ask(self, command: Load | Segment, tell: Tell, ended: Callable[[Result | Failed], None]) -> None:
        def heard(event: JobEvent) -> None:
            if isinstance(event, JobProgress):
                tell(Progress(event.stage, event.done, event.total, event.seconds_left))
            else:
                self._job = None
                ended(event)

        self._job = command.job
        self._worker.client.send(command, heard)
        if self._cancelled:
            self._worker.client.cancel(command.job)


def factsOf(manifest: Manifest) -> dict[str, Any]:
    """What a report says of its model."""
    return {"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256}


def _ofLabels(options: Options) -> Mapping[str, Any]:
    """The options that make other labels, noted as `mambasegment batch` does: one goes on where the other stopped."""
    usual = Options()
    others = {entry.name for entry in fields(options)} - {"device", "overlap", "statistics"}
    changed = {name: getattr(options, name) for name in others if getattr(options, name) != getattr(usual, name)}
    return {"overlap": options.overlap, **changed}
