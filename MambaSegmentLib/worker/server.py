"""The worker: three threads, so that commands are heard while a network computes.

The main thread says hello, watches the parent and ends the process; one thread reads commands; one thread does all the
work, torch's import, loading, warming up and predicting, since what CUDA and cuDNN prepare belongs to a thread.
"""

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import Cancelled, ConfigError, ResourceError
from ..memory import bytes_from_text
from ..progress import Progress, ProgressCallback
from ..quality import folds_from_text
from .failures import failure, torch_failure
from .inbox import Inbox, Job
from .parent import Parent
from .protocol import (
    PROTOCOL,
    Cancel,
    Failed,
    Hello,
    JobProgress,
    Load,
    Options,
    Quit,
    Ready,
    Result,
    Segment,
    decode_command,
)
from .shelf import DEFAULT_BUDGET_BYTES, ModelShelf
from .streams import Outlet, lines_of

if TYPE_CHECKING:
    from ..api import Model
    from ..case import ModelSource
    from ..extras import Extras
    from ..inference.predictor import SegmentationResult

_log = logging.getLogger(__name__)
_PARENT_EVERY_S = 0.5
_GRACE_S = 1.0  # for the working thread to notice that it shall stop
_WRITE_GRACE_S = 20.0  # for a file that is being written, so that nothing is left half done beside it
_PROGRESS_EVERY_S = 0.05


class Server:
    """Everything of a worker but the process around it.

    Args:
        commands, messages: descriptors to read from and to write to.
        shelf: where models are kept.
    """

    def __init__(self, commands: int, messages: int, shelf: ModelShelf | None = None) -> None:
        self._commands = commands
        self._inbox = Inbox()
        self._outlet = Outlet(messages, on_closed=self._inbox.ended.set)
        self._shelf = shelf or ModelShelf(DEFAULT_BUDGET_BYTES)
        self._code = 0
        self._writing = False

    def prepare(self) -> Ready:
        """Import what the first job would otherwise wait for, and say what this computer has."""
        import torch  # noqa: F401

        from .. import image_io, segmentation_io  # noqa: F401
        from ..doctor import examine
        from ..inference import predictor  # noqa: F401

        report = examine()
        return Ready(tuple(report["devices"]), tuple(report["kernels"]))

    def run(self) -> int:
        """Serve until `quit`, the end of input or of the parent; returns the exit code.

        The working thread may still hang in a layer then: end the process with `os._exit`.
        """
        parent = Parent()  # before anybody can know of us, and so kill the parent
        work = threading.Thread(target=self._work, name="mambasegment-work", daemon=True)
        try:
            self._outlet.send(Hello(PROTOCOL, __version__, os.getpid()))
            work.start()
            threading.Thread(target=self._read, name="mambasegment-read", daemon=True).start()
            while not self._inbox.ended.wait(_PARENT_EVERY_S):
                if parent.is_gone():
                    break
        except KeyboardInterrupt:
            self._code = Cancelled.exit_code
        waiting = self._inbox.end()
        # On a thread, as a client that no longer reads may not keep this process alive.
        goodbye = threading.Thread(target=self._dismiss, args=(waiting,), daemon=True)
        goodbye.start()
        self._wait_for(work)
        goodbye.join(_GRACE_S)
        return self._code

    def _dismiss(self, jobs: list[str]) -> None:
        for job in jobs:
            self._outlet.send(failure(Cancelled("the worker ends"), job))

    def _wait_for(self, work: threading.Thread) -> None:
        started = time.monotonic()
        while work.is_alive() and time.monotonic() - started < (_WRITE_GRACE_S if self._writing else _GRACE_S):
            work.join(0.02)

    def _read(self) -> None:
        for line in lines_of(self._commands):
            try:
                command = decode_command(line)
                if isinstance(command, Quit):
                    break
                if isinstance(command, Cancel):
                    if self._inbox.cancel(command.job):
                        self._outlet.send(failure(Cancelled("cancelled before it began"), command.job))
                else:
                    self._put(command)
            except Exception as problem:  # a line must never end the worker
                self._outlet.send(failure(problem, None))
        self._inbox.ended.set()

    def _put(self, command: Any) -> None:
        try:
            self._inbox.put(command)
        except ConfigError as problem:  # without the job's name: the first one of it still runs
            self._outlet.send(failure(problem, None))

    def _work(self) -> None:
        try:
            self._outlet.send(self.prepare())
        except Exception as problem:  # a DLL that is missing is an OSError, an old driver a RuntimeError
            _log.exception("torch cannot be loaded")
            self._outlet.send(torch_failure(problem))
            self._code = ResourceError.exit_code
            self._inbox.ended.set()
            return
        while (job := self._inbox.take()) is not None:
            answer = self._answer(job)
            self._inbox.finish()  # before the answer, so that whoever reads it may use the name again
            self._outlet.send(answer)

    def _answer(self, job: Job) -> Result | Failed:
        try:
            job.cancel.raise_if_cancelled()
            if isinstance(job.command, Load):
                return self._loaded(job, job.command)
            if isinstance(job.command, Segment):
                return self._segmented(job, job.command)
            self._shelf.forget(job.command.model)
            return Result(job.name)
        except Exception as problem:  # whatever it is, the next job may work
            if not isinstance(problem, Cancelled):
                _log.warning("job %s failed", job.name, exc_info=problem)
            answer = failure(problem, job.name)
        finally:
            self._writing = False
        if answer.kind == ResourceError.__name__:
            self._shelf.forget()  # out of the handler: the traceback holds on to tensors
        return answer

    def _loaded(self, job: Job, command: Load) -> Result:
        model, timings = self._model(command.model, command.options, self._teller(job))
        started = time.perf_counter()
        if timings and self._warm_up(model, job):
            timings["warm_up"] = time.perf_counter() - started
        segments = tuple(segment.to_json() for segment in model.manifest.segments)
        return Result(job.name, segments=segments, timings=timings)

    def _segmented(self, job: Job, command: Segment) -> Result:
        from ..api import check_case, segment

        tell = self._teller(job)
        tell(Progress("read", 0, 1))  # at once: the click was heard
        images, options = _images(command), command.options
        extras = _extras(options)
        qualities, folds = options.qualities, [folds_from_text(text) for text in options.folds_of_each]
        output, models = Path(command.output), command.models
        check_case(images, output, models, options.series, options.labels, extras, qualities, folds)
        timings: dict[str, float] = {}
        result = segment(
            images,
            models=self._sources(command, tell, timings),
            output=command.output,
            series=options.series,
            roi=options.roi,
            labels=options.labels or None,
            memory_limit_bytes=None if options.memory_limit is None else bytes_from_text(options.memory_limit),
            strict=options.strict,
            allow_nonfinite=options.allow_nonfinite,
            extras=extras,
            progress=tell,
            cancel=job.cancel,
        )
        timings |= {stage: seconds for stage, seconds in result.timings.items() if stage != "load_model"}
        files = (command.output, *(str(file) for file in extras.files))
        return Result(job.name, files, _segments(result), timings, result.warnings)

    def _sources(self, command: Segment, tell: ProgressCallback, timings: dict[str, float]) -> "list[ModelSource]":
        """The models, each taken from the shelf when its turn comes, so that it need not hold them all."""
        from ..bundle import read_manifest
        from ..case import ModelSource
        from ..store import find_model

        def source(name: str, options: Options) -> ModelSource:
            def get() -> "Model":
                model, taken = self._model(name, options, tell)
                for stage, seconds in taken.items():
                    timings[stage] = timings.get(stage, 0.0) + seconds
                return model

            return ModelSource(read_manifest(find_model(name)), get)

        of_each = command.options.of_models(len(command.models))
        return [source(*one) for one in zip(command.models, of_each, strict=True)]

    def _model(self, name: str, options: Options, tell: ProgressCallback) -> "tuple[Model, dict[str, float]]":
        """The model and, if it was not there already, the seconds that loading took."""
        started = time.perf_counter()
        tell(Progress("load_model", 0, 1))
        model, fresh = self._shelf.get(name, options)
        tell(Progress("load_model", 1, 1, 0.0))
        return model, {"load_model": time.perf_counter() - started} if fresh else {}

    def _warm_up(self, model: "Model", job: Job) -> bool:
        """One patch of noise through the network; False if something better to do came in between."""
        import numpy as np

        patch = model.manifest.patch_size
        noise = np.random.default_rng(0).standard_normal(
            (len(model.manifest.channels), *(1,) * (3 - len(patch)), *patch), dtype=np.float32
        )
        try:
            model.predictor.scores(noise, progress=self._teller(job), cancel=self._inbox.spare_time())
        except Cancelled:
            job.cancel.raise_if_cancelled()
            return False
        return True

    def _teller(self, job: Job) -> ProgressCallback:
        """Passes progress on, but no more than what a person can see."""
        stage, told_at_s = "", 0.0

        def tell(progress: Progress) -> None:
            nonlocal stage, told_at_s
            self._writing = progress.stage == "write"
            now = time.monotonic()
            last = progress.done >= progress.total
            if progress.stage == stage and not last and now - told_at_s < _PROGRESS_EVERY_S:
                return
            stage, told_at_s = progress.stage, now
            event = JobProgress(job.name, progress.stage, progress.done, progress.total, progress.seconds_left)
            self._outlet.send(event)

        return tell


def _images(command: Segment) -> list[Path] | dict[str, Path]:
    if isinstance(command.inputs, tuple):
        return [Path(path) for path in command.inputs]
    return {name: Path(path) for name, path in command.inputs.items()}


def _extras(options: Options) -> "Extras":
    from ..extras import Extras

    names = ("uncertainty", "disagreement", "probabilities", "sidecar")
    uncertainty, disagreement, probabilities, sidecar = (
        None if getattr(options, name) is None else Path(getattr(options, name)) for name in names
    )
    return Extras(
        statistics=options.statistics,
        uncertainty=uncertainty,
        disagreement=disagreement,
        probabilities=probabilities,
        sidecar=sidecar,
        calibrations=tuple(Path(path) for path in options.calibrations),
    )


def _segments(result: "SegmentationResult") -> tuple[dict[str, Any], ...]:
    return tuple({**segment.to_json(), **result.measures.get(segment.value, {})} for segment in result.segments)
