"""All jobs of the module, and its worker: what the logic's methods are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.progress import CancelToken, Progress
from MambaSegmentLib.worker.protocol import Failed, JobProgress, Load, Options, Result

from .job import Callbacks, Request, SegmentationJob
from .waiting import waitUntil
from .worker_owner import WorkerOwner

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Manifest
    from MambaSegmentLib.worker.client import JobCommand, JobEvent


class Segmenter:
    """One worker; jobs wait for each other there, in the order in which they were begun."""

    def __init__(self, worker: WorkerOwner | None = None) -> None:
        self.worker = worker or WorkerOwner()
        self._jobs: list[SegmentationJob] = []
        self._tokens: list[CancelToken] = []

    def begin(
        self,
        volumeNodes: Any,
        model: str | Path,
        options: Options | None = None,
        *,
        output: Any | None = None,
        replace: Mapping[str, str] | None = None,
        callbacks: Callbacks | None = None,
    ) -> SegmentationJob:
        """See `MambaSegmentLogic.segmentAsync`."""
        path, manifest = modelOf(model)
        nodes = _nodesOf(volumeNodes, manifest)
        _checkInScene(nodes if output is None else (*nodes, output))
        request = Request(nodes, path, manifest, options or Options(), output, replace or {})
        job = SegmentationJob(request, self.worker, callbacks or Callbacks(), self._jobs.remove)
        self._jobs.append(job)
        return job

    def wait(self, job: SegmentationJob) -> Any:
        """The node of a job, once it is there. Raises: what went wrong; KeyboardInterrupt after Ctrl-C."""
        waitUntil(lambda: job.isOver, job.cancel)
        return job.result()

    def load(self, model: str | Path, options: Options | None = None) -> None:
        """Let the worker start and the model be warm before the first click; nobody is told how it went."""
        path, _ = modelOf(model)
        client = self.worker.client
        client.send(Load(client.new_job(), str(path), options or Options()), lambda _: None)

    def ask(
        self, command: JobCommand, token: CancelToken, onProgress: Callable[[Progress], None] | None = None
    ) -> Result | Failed:
        """Have the worker do something about files, and wait."""
        answers: list[Result | Failed] = []

        def tell(event: JobEvent) -> None:
            if not isinstance(event, JobProgress):
                answers.append(event)
            elif onProgress is not None:
                onProgress(Progress(event.stage, event.done, event.total, event.seconds_left))

        def isOver() -> bool:
            if token.cancelled:
                self.worker.client.cancel(command.job)
            return bool(answers)

        self.worker.client.send(command, tell)
        waitUntil(isOver, token.cancel)
        return answers[0]

    def newToken(self) -> CancelToken:
        """For work of many steps, which `cancel` stops as well; give it back with `dropToken`."""
        token = CancelToken()
        self._tokens.append(token)
        return token

    def dropToken(self, token: CancelToken) -> None:
        self._tokens.remove(token)

    def cancel(self) -> None:
        """Stop everything that was begun here."""
        for token in self._tokens:
            token.cancel()
        for job in list(self._jobs):
            job.cancel()

    def close(self) -> None:
        """Stop everything and end the worker; the next job starts another one."""
        self.cancel()
        self.worker.close()


def optionsOf(**given: Any) -> Options:
    """The worker's options by their names. Raises: ConfigError, for an unknown one or an impossible value."""
    known = [entry.name for entry in fields(Options)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"there is no option {unknown[0]!r}; known: {', '.join(known)}")
    return Options(**given)


def modelOf(model: str | Path) -> tuple[Path, Manifest]:
    """A model's file and what it says of itself. Raises: BundleError, when it is unknown or damaged."""
    from MambaSegmentLib.bundle import read_manifest  # not before a click: the packages may have to be installed first
    from MambaSegmentLib.store import find_model

    path = find_model(model)
    return path, read_manifest(path)


def _nodesOf(volumeNodes: Any, manifest: Manifest) -> tuple[Any, ...]:
    """In the order of the model's channels. Raises: ConfigError, for one that is missing, unknown or too many."""
    from MambaSegmentLib.api import in_channel_order

    listed = volumeNodes if isinstance(volumeNodes, list | tuple | Mapping) else [volumeNodes]
    return tuple(in_channel_order(listed, manifest))


def _checkInScene(nodes: tuple[Any, ...]) -> None:
    for node in nodes:
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            name = "None" if node is None else repr(node.GetName())
            raise ConfigError(f"{name} is no node of the scene; load or add it first")
