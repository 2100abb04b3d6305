"""All jobs of the module, and its worker: what the logic's methods are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.worker.protocol import Load, Options

from .job import Callbacks, Request, SegmentationJob
from .waiting import waitUntil
from .worker_owner import WorkerOwner

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Manifest

    from .batch_job import BatchJob


class Segmenter:
    """One worker; jobs wait for each other there, in the order in which they were begun."""

    def __init__(self, worker: WorkerOwner | None = None) -> None:
        self.worker = worker or WorkerOwner()
        self.worker.onClosing = self.cancel
        self._jobs: list[SegmentationJob] = []
        self._batches: list[BatchJob] = []

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

    def keep(self, make: Callable[[Callable[[BatchJob], None]], BatchJob]) -> BatchJob:
        """Let `cancel` stop a batch as well; `make` is given what the batch must call once it is over."""
        batch = make(self._batches.remove)
        self._batches.append(batch)
        return batch

    def cancel(self) -> None:
        """Stop everything that was begun here."""
        for batch in list(self._batches):
            batch.cancel()
        for job in list(self._jobs):
            job.cancel()

    def close(self) -> None:
        """Stop everything and end the worker; the next job starts another one."""
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
    from MambaSegmentLib.case import images_by_channel

    listed = volumeNodes if isinstance(volumeNodes, list | tuple | Mapping) else [volumeNodes]
    return tuple(images_by_channel(listed, [manifest]).values())


def _checkInScene(nodes: tuple[Any, ...]) -> None:
    for node in nodes:
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            name = "None" if node is None else repr(node.GetName())
            raise ConfigError(f"{name} is no node of the scene; load or add it first")
