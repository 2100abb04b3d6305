"""Doing the cases of a batch one after the other; one that fails never stops the rest."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Cancelled, ConfigError, ImageError, MambaSegmentError
from ..files import remove_leftovers
from ..progress import CancelToken, Progress, ProgressCallback
from ..worker.protocol import Failed, Result
from .cases import Case
from .journal import Journal
from .outcome import DONE, FAILED, Outcome, figures
from .report import CSV_NAME, JSON_NAME, SEGMENTS_NAME, Report, write_report

_log = logging.getLogger(__name__)
_REPORT_EVERY_S = 30.0

Segmenter = Callable[[Case, Path], Result | Failed]


@dataclass(frozen=True)
class Plan:
    """What is the same for all cases.

    Attributes:
        folder: for outputs, journal and report; made if it is not there.
        ending: of the outputs.
        model: name, version, sha256.
        options: whatever changes the labels.
    """

    folder: Path
    model: dict[str, Any]
    ending: str = ".seg.nrrd"
    options: dict[str, Any] = field(default_factory=dict)

    def output(self, case: Case) -> Path:
        return self.folder / f"{case.name}{self.ending}"


def run_batch(
    cases: Sequence[Case],
    plan: Plan,
    segment: Segmenter,
    *,
    progress: ProgressCallback | None = None,
    on_failure: Callable[[Outcome], None] | None = None,
    cancel: CancelToken | None = None,
) -> Report:
    """Do all cases that an earlier run into the same folder has not done; the report is written in any case.

    Args:
        segment: does one case, and gives Failed rather than raise; what it raises ends the batch.
    Raises:
        ConfigError, ImageError, ResourceError: as for `BatchRun`. Cancelled: on request; the same call goes on later.
    """
    cancel = cancel or CancelToken()
    batch = BatchRun(cases, plan)
    try:
        for number, case in enumerate(cases):
            cancel.raise_if_cancelled()
            if progress is not None:
                progress(Progress("batch", number, len(cases), batch.seconds_left))
            outcome = batch.known(case)
            if outcome is None:
                answer = segment(case, batch.begin(case))
                if isinstance(answer, Failed) and answer.kind == Cancelled.__name__ and cancel.cancelled:
                    raise Cancelled(f"cancelled at the case {case.name}; the same command goes on from there")
                outcome = batch.end(case, answer)
            if outcome.status == FAILED and on_failure is not None:
                on_failure(outcome)
        if progress is not None:
            progress(Progress("batch", len(cases), len(cases), 0.0))
    except BaseException as cause:
        try:
            batch.close()
        except MambaSegmentError as problem:
            same = type(problem) is type(cause)  # such as a full disk, which is told once
            _log.log(logging.DEBUG if same else logging.WARNING, "the report could not be written: %s", problem)
        raise
    batch.close()
    return batch.report()


class BatchRun:
    """A batch that somebody else drives, case by case: `known`, or else `begin`, the work, and `end`; `close` at last.

    `run_batch` does so in a loop; where an event loop must go on meanwhile, each call is a step of its own.

    Raises:
        ConfigError, ImageError: an output that is an input, or a folder that cannot be written to or that another
            batch writes into.
    """

    def __init__(self, cases: Sequence[Case], plan: Plan) -> None:
        prepare_folder(plan.folder)
        _refuse_inputs_as_outputs(cases, plan)
        self._plan, self._total = plan, len(cases)
        self._journal = Journal(plan.folder)
        for name in (JSON_NAME, CSV_NAME, SEGMENTS_NAME):
            remove_leftovers(plan.folder / name)
        self._outcomes: list[Outcome] = []
        self._resumed = 0
        self._worked_s, self._worked = 0.0, 0
        self._began_at_s = self._reported_at_s = time.monotonic()
        self._fingerprint = ""

    def known(self, case: Case) -> Outcome | None:
        """What an earlier run made of a case, or the failure of one that cannot even be tried; None: it is to be done.

        Raises:
            ImageError: the folder is gone. ResourceError: the disk is full.
        """
        self._journal.check_it_is_there()
        self._began_at_s = time.monotonic()
        self._fingerprint = _fingerprint(case, self._plan)  # before it is read: who changes it later must do it again
        if case.problem:
            return self.end(case, Failed(None, ConfigError.__name__, case.problem, "Correct the list of cases."))
        outcome = self._journal.finished(case.name, self._fingerprint, self._plan.output(case))
        if outcome is not None:
            self._resumed += 1
            self._outcomes.append(outcome)
            self._report_now_and_then()
        return outcome

    def begin(self, case: Case) -> Path:
        """Where the labels of a case shall be written; nothing of an earlier try is left there."""
        output = self._plan.output(case)
        remove_leftovers(output)
        self._began_at_s = time.monotonic()  # without what came before the first case, as the loading of a model
        return output

    def end(self, case: Case, answer: Result | Failed) -> Outcome:
        """Note what became of the case that was asked for last.

        Raises:
            ImageError: the folder is gone. ResourceError: the disk is full.
        """
        seconds = time.monotonic() - self._began_at_s
        outcome = _outcome(case, self._plan.output(case), self._fingerprint, seconds, answer)
        self._journal.check_it_is_there()
        self._journal.add(outcome)
        self._worked_s, self._worked = self._worked_s + seconds, self._worked + 1
        self._outcomes.append(outcome)
        self._report_now_and_then()
        return outcome

    @property
    def seconds_left(self) -> float | None:
        """As the cases so far took; None before the first one."""
        return self._worked_s / self._worked * (self._total - len(self._outcomes)) if self._worked else None

    def report(self) -> Report:
        return Report(self._plan.model, self._total, self._resumed, self._outcomes)

    def close(self) -> None:
        """Write the report and let go of the folder. Raises: ImageError, ResourceError, as `write_report`."""
        try:
            write_report(self.report(), self._plan.folder)
        finally:
            self._journal.close()  # last of all, since another batch may begin then

    def _report_now_and_then(self) -> None:
        if time.monotonic() - self._reported_at_s > _REPORT_EVERY_S:
            write_report(self.report(), self._plan.folder)
            self._reported_at_s = time.monotonic()


def _outcome(case: Case, output: Path, fingerprint: str, seconds: float, answer: Result | Failed) -> Outcome:
    facts: dict[str, Any] = {
        "case": case.name,
        "inputs": tuple(str(path) for path in case.inputs),
        "output": str(output),
        "fingerprint": fingerprint,
        "seconds": round(seconds, 3),
    }
    if isinstance(answer, Failed):
        return Outcome(status=FAILED, kind=answer.kind, message=answer.message, advice=answer.advice, **facts)
    return Outcome(status=DONE, segments=figures(answer.segments), warnings=answer.warnings, **facts)


def _fingerprint(case: Case, plan: Plan) -> str:
    """Changes when a file was changed, another model is used, or an option makes other labels."""
    inputs = [] if case.problem else [[str(path.absolute()), *_state(path)] for path in case.inputs]
    document = [inputs, plan.model, plan.options, plan.ending]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _state(path: Path) -> list[Any]:
    """Size and time of change of a file, or of all files of a folder; nothing of what is not there."""
    try:
        files: Iterable[Path] = sorted(path.iterdir()) if path.is_dir() else [path]
        states = [(facts.st_size, facts.st_mtime_ns) for facts in (file.stat() for file in files)]
    except OSError:  # segmenting it will fail and say why
        return []
    return list(states)


def prepare_folder(folder: Path) -> None:
    """Make it if it is not there. Raises: ImageError, when that is not possible, or nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ImageError(f"cannot make the folder {folder}: {problem.strerror or problem}; choose another") from problem
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(f"no right to write in {folder}; choose another folder")


def _refuse_inputs_as_outputs(cases: Sequence[Case], plan: Plan) -> None:
    inputs = {path.resolve() for case in cases if not case.problem for path in case.inputs}
    for case in cases:
        if not case.problem and plan.output(case).resolve() in inputs:
            raise ConfigError(
                f"the output {plan.output(case)} is an input image, which would be lost; choose another folder"
            )
