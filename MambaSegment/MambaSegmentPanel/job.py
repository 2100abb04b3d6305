"""One segmentation, from the click to the node: the volumes go out, the worker works, the segments come in.

    handing over -> with the worker -> coming in -> over

Everything happens in the application's thread, in small pieces, as calls of the transport. A job is over exactly once:
with a node, or with an error, which is `Cancelled` too where a volume was removed or the scene was closed.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MambaSegmentLib.errors import Cancelled, GeometryError, ImageError, MambaSegmentError
from MambaSegmentLib.progress import Progress
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.worker.blocking import error_of
from MambaSegmentLib.worker.protocol import Failed, JobProgress, Options, Result, Segment

from .edits import fingerprints, isSame, markAsMade
from .label_file import LABEL_ENDING, readLabels
from .provenance import Provenance, provenanceOf
from .segmentation_in import addSegments, checkTarget, newSegmentation
from .volume_out import volumeOf, writeNrrd

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Manifest
    from MambaSegmentLib.volume import Volume
    from MambaSegmentLib.worker.client import JobEvent

    from .worker_owner import WorkerOwner

_log = logging.getLogger("MambaSegment")
EXPORT, IMPORT = "export", "import"  # stages of ours; between them come those of the worker


@dataclass(frozen=True)
class Request:
    """What shall be segmented, and how.

    Attributes:
        volumeNodes: one for each channel, in the order of the model's.
        model: the file.
        output: a segmentation node to add to; None makes a new one.
        replace: ids of segments in it that the new ones take the place of, with the fingerprint of each (`edits.py`):
            one that was changed since stays.
    """

    volumeNodes: tuple[Any, ...]
    model: Path
    manifest: Manifest
    options: Options = field(default_factory=Options)
    output: Any | None = None
    replace: Mapping[str, str] = field(default_factory=dict)

    @property
    def provenance(self) -> Provenance:
        return provenanceOf(self.manifest, self.options)


@dataclass(frozen=True)
class Callbacks:
    """Called in the application's thread; what they raise goes to the log."""

    onProgress: Callable[[Progress], None] | None = None
    onDone: Callable[[Any], None] | None = None
    onFailed: Callable[[Exception], None] | None = None


@dataclass
class Outcome:
    """What is known of a job so far; `node` or `error` is set once it is over.

    Attributes:
        segmentIds: of the new segments. segments: as the worker tells of them, with statistics if these were wanted.
        timings: seconds of the worker's stages and of our own.
        warnings: what a person should know about the images, as sentences.
        inputChanged: the voxels of a volume were changed while the network looked at what they had been.
    """

    node: Any | None = None
    error: Exception | None = None
    segmentIds: list[str] = field(default_factory=list)
    segments: tuple[Mapping[str, Any], ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    inputChanged: bool = False


class SegmentationJob:
    """Begins at once, but calls nobody back before its maker returns.

    Args:
        onOver: of whoever keeps the list of jobs; called before the callbacks.
    Raises:
        MambaSegmentError: the nodes cannot be used, or there is no Python for a worker.
    """

    def __init__(
        self, request: Request, worker: WorkerOwner, callbacks: Callbacks, onOver: Callable[[SegmentationJob], None]
    ) -> None:
        self.request = request
        self.outcome = Outcome()
        self._worker = worker
        self._callbacks = callbacks
        self._onOver = onOver
        self._over = False
        for node in request.volumeNodes:  # what can be refused at once is
            volumeOf(node, request.volumeNodes[0])
        if request.output is not None:
            checkTarget(request.output, request.volumeNodes[0])
        self._name = worker.client.new_job()
        self._folder: Path | None = None
        self._sent = False
        self._arrived = False
        self._grids: list[Volume] = []
        self._contents: list[Any] = []
        self._pieces: Iterator[Progress] = iter(())
        self._startedS = time.perf_counter()
        self._scene = slicer.mrmlScene
        self._observers = [
            (self._scene, self._scene.AddObserver(event, callback))
            for event, callback in (
                (self._scene.StartCloseEvent, self._onSceneClosing),
                (self._scene.NodeRemovedEvent, self._onNodeRemoved),
            )
        ]
        worker.transport.post(self._guarded(self._begin))

    @property
    def isOver(self) -> bool:
        return self._over

    def result(self) -> Any:
        """The segmentation node. Raises: what went wrong."""
        if self.outcome.error is not None:
            raise self.outcome.error
        return self.outcome.node

    def cancel(self, why: str = "cancelled on request") -> None:
        """Stop; the job is over within half a second, with the error `Cancelled`. One that is done stays as it is."""
        if self._over or self._arrived:
            return
        self.outcome.error = self.outcome.error or Cancelled(why)
        if self._sent:
            self._worker.client.cancel(self._name)
        else:
            self._worker.transport.post(self._finish)

    # --- going out

    def _begin(self) -> None:
        request = self.request
        self._grids = [volumeOf(node, request.volumeNodes[0]) for node in request.volumeNodes]
        self._contents = [_content(node) for node in request.volumeNodes]
        self._folder = self._worker.client.folder / f"job-{self._name}"
        self._folder.mkdir()
        self._pieces = self._export()
        self._exportMore()

    def _export(self) -> Iterator[Progress]:
        total = 100 * len(self._grids)
        yield Progress(EXPORT, 0, total)
        for number, volume in enumerate(self._grids):
            for fraction in writeNrrd(volume, self._file(number)):
                yield Progress(EXPORT, round(100 * (number + fraction)), total)

    def _exportMore(self) -> None:
        progress = next(self._pieces, None)
        if progress is not None:
            self._tell(progress)
            self._worker.transport.post(self._guarded(self._exportMore))
            return
        if self._contents != [_content(node) for node in self.request.volumeNodes]:
            raise ImageError("a volume was changed while it was handed to the worker; segment it again")
        self.outcome.timings[EXPORT] = time.perf_counter() - self._startedS
        self._send()

    def _send(self) -> None:
        assert self._folder is not None
        inputs = tuple(str(self._file(number)) for number in range(len(self._grids)))
        output, request = str(self._folder / f"labels{LABEL_ENDING}"), self.request
        self._worker.client.send(Segment(self._name, inputs, str(request.model), output, request.options), self._heard)
        self._sent = True

    def _file(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"channel-{number}.nrrd"

    # --- with the worker

    def _heard(self, event: JobEvent) -> None:
        if isinstance(event, JobProgress):
            self._tell(Progress(event.stage, event.done, event.total, event.seconds_left))
        elif isinstance(event, Failed):
            self._fail(error_of(replace(event, message=self._readable(event.message))))
        else:
            self._guarded(lambda: self._import(event))()

    def _readable(self, text: str) -> str:
        """A message that names volumes rather than the files in which they travelled."""
        for number, node in enumerate(self.request.volumeNodes):
            for name in (str(self._file(number)), self._file(number).name):
                text = text.replace(name, f"the volume {node.GetName()!r}")
        return text

    def _onNodeRemoved(self, _scene: Any, _event: Any) -> None:
        for node in self.request.volumeNodes:
            if not self._scene.IsNodePresent(node):
                self.cancel(f"cancelled, since the volume {node.GetName()!r} was removed")

    def _onSceneClosing(self, _scene: Any, _event: Any) -> None:
        self.cancel("cancelled, since the scene was closed")

    # --- coming in

    def _import(self, result: Result) -> None:
        started = time.perf_counter()
        self._tell(Progress(IMPORT, 0, 1))
        if self.outcome.error is not None:  # cancelled, but the worker was faster
            self._finish()
            return
        self._arrived = True
        grid, first = self._grids[0], self.request.volumeNodes[0]
        self._checkGrid(first)
        labels = readLabels(Path(result.files[0]), grid.array.shape)
        segments = [SegmentInfo.from_json(entry) for entry in result.segments]
        node, made = self._target(first)
        try:
            self.outcome.segmentIds = addSegments(node, labels, first, segments, self.request.provenance)
            markAsMade(node, self.outcome.segmentIds)
        except BaseException:
            if made:
                self._scene.RemoveNode(node)
            raise
        self.outcome.inputChanged = self._contents != [_content(one) for one in self.request.volumeNodes]
        if self.outcome.inputChanged:
            _log.warning("the voxels of %s were changed during the segmentation of what they were", first.GetName())
        self.outcome.segments = result.segments
        kept = [] if made else _removeUnchanged(node, self.request.replace)
        self.outcome.warnings = (*map(self._readable, result.warnings), *kept)
        for warning in self.outcome.warnings:
            _log.warning("%s", warning)
        self.outcome.timings |= {**result.timings, IMPORT: time.perf_counter() - started}
        self.outcome.node = node
        self._tell(Progress(IMPORT, 1, 1, 0.0))
        self._finish()

    def _target(self, volumeNode: Any) -> tuple[Any, bool]:
        """The node to fill, and whether it is new; one that was given but removed meanwhile is replaced."""
        output = self.request.output
        if output is not None and self._scene.IsNodePresent(output):
            checkTarget(output, volumeNode)
            return output, False
        return newSegmentation(volumeNode, f"{volumeNode.GetName()} {self.request.manifest.name}"), True

    def _checkGrid(self, volumeNode: Any) -> None:
        """A volume that was moved, cropped or replaced would get segments in wrong places."""
        now = volumeOf(volumeNode)
        if not now.same_grid(self._grids[0]):
            raise GeometryError(
                f"the size or place of the volume {volumeNode.GetName()!r} was changed while it was segmented, so the "
                "result does not fit it any more; segment it again"
            )

    # --- the end

    def _guarded(self, step: Callable[[], None]) -> Callable[[], None]:
        """A step that ends the job where it raises, and is left out once the job is over or cancelled."""

        def call() -> None:
            if self._over or (self.outcome.error is not None and not self._sent):
                return
            try:
                step()
            except Exception as problem:  # whatever it is, the job must have an end
                if not isinstance(problem, MambaSegmentError):
                    _log.exception("the segmentation failed")
                self._fail(problem)

        return call

    def _fail(self, error: Exception) -> None:
        self.outcome.error = self.outcome.error or error
        self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._pieces = iter(())  # closes the file it was writing
        self._grids, self._contents = [], []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.outcome.timings["total"] = time.perf_counter() - self._startedS
        self._onOver(self)
        if self.outcome.error is not None:
            self._call(self._callbacks.onFailed, self.outcome.error)
        else:
            self._call(self._callbacks.onDone, self.outcome.node)

    def _tell(self, progress: Progress) -> None:
        if not self._over:
            self._call(self._callbacks.onProgress, progress)

    def _call(self, callback: Callable[[Any], None] | None, argument: Any) -> None:
        try:
            if callback is not None:
                callback(argument)
        except Exception:
            _log.exception("a callback of a segmentation failed")


def _removeUnchanged(segmentationNode: Any, replace: Mapping[str, str]) -> list[str]:
    """Take out what is replaced; what was edited while the network worked stays, and a sentence says so."""
    segmentation = segmentationNode.GetSegmentation()
    present = [identifier for identifier in replace if segmentation.GetSegment(identifier) is not None]
    kept = []
    for identifier, fingerprint in fingerprints(segmentation, present).items():
        if isSame(fingerprint, replace[identifier]):
            segmentation.RemoveSegment(identifier)
        else:
            name = segmentation.GetSegment(identifier).GetName()
            text = _("the segment “{name}” was edited meanwhile, so it was not replaced; the new one is beside it")
            kept.append(text.format(name=name))
    return kept


def _content(node: Any) -> tuple[Any, ...]:
    """Changes when the voxels are replaced or edited."""
    image = node.GetImageData()
    scalars = None if image is None else image.GetPointData().GetScalars()
    return image, scalars, 0 if scalars is None else scalars.GetMTime()
