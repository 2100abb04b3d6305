"""Predictor: a bundle and a device; volumes in, labels on the same grid out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from MambaSegmentLib.bundle import Bundle
from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import ConfigError, ResourceError
from MambaSegmentLib.preprocess import PreparedRows
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.quality import mirror_axes_for
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

from .restoring import ScoreListener, restore_slabs
from .sliding import SlidingWindow

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a segmentation gives.

    Attributes:
        labels: uint8 or uint16, on exactly the grid of the first input.
        segments: the meaning of the label values.
        timings: seconds spent on each stage: load_model, read, preprocess, network, restore, measure, write; only
            those that took place.
        warnings: what a person should know about the images, as sentences.
        measures: what was asked to be measured, by label value; keys of `SegmentStatistics`, and mean_uncertainty.
    """

    labels: Volume
    segments: tuple[SegmentInfo, ...]
    timings: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    measures: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


class Predictor:
    """Segments volumes with the networks of one bundle; keeps them on the device between cases.

    Args:
        device: as for `choose_device`.
        step: distance of tiles as a fraction of the patch; None takes the bundle's.
        quality: "best" or "fast", see `quality.py`.
    Raises:
        BundleError: the bundle cannot be used. ConfigError: a step out of range, an unknown quality.
        ResourceError: no such device.
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", *, step: float | None = None, quality: str = "best"
    ) -> None:
        self.manifest = bundle.manifest
        self.device = choose_device(device)
        with _memory_errors("load the model"):
            self._networks = [network.to(self.device) for network in bundle.build_networks()]
        self._window = SlidingWindow(
            self._networks,
            len(self.manifest.class_values),
            self.manifest.patch_size,
            device=self.device,
            step=self.manifest.step if step is None else step,
            mirror_axes=mirror_axes_for(quality, self.manifest.mirror_axes),
            name=self.manifest.name,
        )

    def segment(
        self,
        volumes: Sequence[Volume],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        listener: ScoreListener | None = None,
    ) -> SegmentationResult:
        """Segment one case.

        Args:
            volumes: one per channel in the bundle's order, on one grid.
            progress: called in this thread, before and after each stage and after each tile.
            cancel: looked at between stages, tiles and layers.
            listener: gets the scores of each slice, as for `restore_slabs`.
        Raises:
            ConfigError, GeometryError, ImageError: as `preprocess`. ResourceError: not enough memory.
            BundleError: a network that does not give what its description says. Cancelled: on request.
        """
        self._check_channels(volumes)
        report = progress or _ignore
        cancel = cancel or CancelToken()
        timings: dict[str, float] = {}
        with _memory_errors("segment this volume"):
            with _stage("preprocess", timings, report, cancel):
                prepared = PreparedRows(volumes, self.manifest.preprocessing)
            read = _timed_call(prepared.read, "preprocess", timings)
            made = self._window.slabs(read, prepared.shape, progress=report, cancel=cancel)
            with _parts_apart(timings):
                labels = restore_slabs(
                    _timed(made, "network", timings),
                    prepared.undo,
                    self.manifest.class_values,
                    overlapping=bool(self.manifest.regions),
                    cancel=cancel,
                    listener=listener,
                )
            report(Progress("restore", 1, 1, 0.0))
        return SegmentationResult(labels, self.manifest.segments, timings)

    def scores(
        self, array: np.ndarray, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> np.ndarray:
        """Logits of a prepared array, averaged over tiles, mirrorings and folds: `SlidingWindow.scores`."""
        return self._window.scores(array, progress=progress, cancel=cancel)

    def _check_channels(self, volumes: Sequence[Volume]) -> None:
        names = [channel.name for channel in self.manifest.channels]
        if len(volumes) != len(names):
            raise ConfigError(
                f"the model {self.manifest.name!r} takes {len(names)} image(s) ({', '.join(names)}, in this order); "
                f"{len(volumes)} given"
            )


def _ignore(_: Progress) -> None:
    """Nobody wants to know."""


@contextmanager
def _stage(
    name: str, timings: dict[str, float], report: ProgressCallback | None, cancel: CancelToken
) -> Iterator[None]:
    cancel.raise_if_cancelled()
    if report is not None:
        report(Progress(name, 0, 1))
    started = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - started
    if report is not None:
        report(Progress(name, 1, 1, 0.0))


def _timed(items: Iterator[_T], name: str, timings: dict[str, float]) -> Iterator[_T]:
    """The same items; the seconds that they took to come are added up."""
    pull = _timed_call(lambda: next(items, None), name, timings)
    while (item := pull()) is not None:
        yield item


def _timed_call(call: Callable[_P, _T], name: str, timings: dict[str, float]) -> Callable[_P, _T]:
    """The same function; the seconds that it took are added up."""
    timings.setdefault(name, 0.0)

    def timed(*args: _P.args, **keywords: _P.kwargs) -> _T:
        started = time.perf_counter()
        try:
            return call(*args, **keywords)
        finally:
            timings[name] += time.perf_counter() - started

    return timed


@contextmanager
def _parts_apart(timings: dict[str, float]) -> Iterator[None]:
    """Times what restores labels, without the network that answers within, and that without what prepares rows."""
    before, started = timings["preprocess"], time.perf_counter()
    yield
    timings["restore"] = time.perf_counter() - started - timings["network"]
    timings["network"] -= timings["preprocess"] - before


@contextmanager
def _memory_errors(task: str) -> Iterator[None]:
    """Running out of memory, on the CPU or the GPU, as an error of ours."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as problem:
        raise ResourceError(f"not enough memory to {task}: {_first_line(problem)}. {_MEMORY_ADVICE}") from problem
    except RuntimeError as problem:  # torch's CPU allocator has no exception of its own
        if "can't allocate memory" not in str(problem) and "not enough memory" not in str(problem):
            raise
        raise ResourceError(f"not enough memory to {task}: {_first_line(problem)}. {_MEMORY_ADVICE}") from problem


_MEMORY_ADVICE = "Crop the image, close other programs or use --device cpu"


def _first_line(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0]
