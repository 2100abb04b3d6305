"""Predictor: a bundle and a device; volumes in, labels on the same grid out."""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

import numpy as np
import psutil
import torch

from MambaSegmentLib.bundle import Bundle
from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import ConfigError, ResourceError
from MambaSegmentLib.label_maps import label_dtype
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.memory import free_bytes
from MambaSegmentLib.orientation import turn_towards
from MambaSegmentLib.preprocess import NothingInsideError, PreparedRows
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.quality import folds_for, mirrorings_for, step_for
from MambaSegmentLib.roi import VoxelBox, slices_of, widened
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

from .arithmetic import Arithmetic
from .entropy import Disagreement
from .memory_plan import Estimate, MemoryPlan, Settings, is_memory_error, measured_tiles, plan_within
from .restoring import ScoreListener, restore_slabs
from .side_by_side import usual_count
from .sliding import SlidingWindow
from .tiling import tile_starts

_log = logging.getLogger(__name__)
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
        tiles, reused_tiles: how many tiles the network was asked for, and how many of them were uniform (air, padding)
            and had the answer of an equal one before.
        measures: what was asked to be measured, by label value; keys of `SegmentStatistics`, mean_uncertainty,
            mean_disagreement, and where several models gave one result, `model`.
    """

    labels: Volume
    segments: tuple[SegmentInfo, ...]
    timings: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tiles: int = 0
    reused_tiles: int = 0
    measures: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


class Predictor:
    """Segments volumes with the networks of one bundle; keeps them on the device between cases.

    Args:
        device: as for `choose_device`.
        step: distance of tiles as a fraction of the patch; None takes the bundle's.
        quality: "best", "balanced" or "fast", see `quality.py`.
        folds: numbers of the folds to average; None takes those of the quality.
        precision: "auto", "float32" or "bfloat16", see `arithmetic.py`.
        batch: tiles that the networks take at once, on a CPU answers that are computed at once; None is as many as
            there are threads on a CPU (eight at most) and four on a GPU.
    Attributes:
        step, folds: as they are used.
        members: answers that are averaged: folds times mirrored copies.
    Raises:
        BundleError: the bundle cannot be used. ConfigError: a step out of range, an unknown quality or precision, a
            fold that the bundle does not have. ResourceError: no such device.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        *,
        step: float | None = None,
        quality: str = "best",
        folds: Sequence[int] | None = None,
        precision: str = "auto",
        batch: int | None = None,
    ) -> None:
        self.manifest = bundle.manifest
        self.device = choose_device(device)
        self.step = step_for(quality, self.manifest.step) if step is None else step
        self.folds = folds_for(quality, len(bundle.folds), folds)
        self._mirrorings = mirrorings_for(quality, self.manifest.mirror_axes)
        self.members = len(self.folds) * len(self._mirrorings)
        self._arithmetic = Arithmetic(precision, self.device, regions=bool(self.manifest.regions))
        with _memory_errors("load the model"):
            self._networks = [network.to(self.device) for network in bundle.build_networks(self.folds)]
        self._warm = False
        tiles_at_once = batch or _usual_batch(self.device)
        self._settings = Settings(tuple(self.manifest.patch_size), tiles_at_once)
        self._window = self._window_for(self._settings)
        channels, values = len(self.manifest.channels), self.manifest.class_values
        measured = measured_tiles(self.manifest, self.device.type)
        self._plan = MemoryPlan(self._networks, channels, values, on_gpu=self.device.type != "cpu", measured=measured)

    def segment(
        self,
        volumes: Sequence[Volume],
        *,
        box: VoxelBox | None = None,
        labels: Collection[int] | None = None,
        memory_limit_bytes: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        listener: ScoreListener | None = None,
        disagreement: Disagreement | None = None,
    ) -> SegmentationResult:
        """Segment one case.

        Args:
            volumes: one per channel in the bundle's order, on one grid.
            box: the voxels whose labels are wanted, all others become 0. The labels are those of the volume cut to
                `context_box`; its intensities are normalised with the numbers of the whole volume.
            labels: the label values that are wanted, all others become 0; None wants all.
            memory_limit_bytes: of this process; None takes what is free.
            progress: called in this thread, before and after each stage and after each tile.
            cancel: looked at between stages, tiles and layers.
            listener: gets the scores of each slice, as for `restore_slabs`.
            disagreement: measured of the members; the listener gets it after the scores of the classes.
        Raises:
            ConfigError, GeometryError, ImageError: as `preprocess`. ResourceError: not enough memory.
            BundleError: a network that does not give what its description says. Cancelled: on request.
        """
        self._check_channels(volumes)
        if disagreement is not None and self.members < 2:
            raise ConfigError(
                f"disagreement needs several answers, and the model {self.manifest.name!r} gives one as it was loaded; "
                "choose a higher quality or more folds if it has them, or --uncertainty, which one answer will do for"
            )
        report = progress or _ignore
        cancel = cancel or CancelToken()
        timings: dict[str, float] = {}
        wide = None if box is None else context_box(box, volumes[0], self.manifest)
        segments = tuple(s for s in self.manifest.segments if labels is None or s.value in labels)
        with _memory_errors("segment this volume"):
            try:
                with _stage("preprocess", timings, report, cancel):
                    prepared = PreparedRows(volumes, self.manifest.preprocessing, wide)
            except NothingInsideError as problem:
                _log.warning("%s, so no label lies in it", problem)
                nothing = np.zeros(volumes[0].array.shape, label_dtype(max(self.manifest.class_values)))
                return SegmentationResult(volumes[0].with_array(nothing), segments, timings)
            usual = replace(self._settings, batch=self._useful_batch(prepared), extra=int(disagreement is not None))
            settings = self._settings_within(usual, prepared, memory_limit_bytes)
            how = (labels, listener, disagreement, timings, report, cancel)
            found, window = self._labels(prepared, settings, *how)
        if box is not None:
            _clear_outside(found.array, box)
        return SegmentationResult(found, segments, timings, tiles=window.tiles, reused_tiles=window.reused_tiles)

    @property
    def precision(self) -> str:
        """ "float32", "bfloat16", or "undecided" before the first case."""
        return self._arithmetic.name

    def scores(
        self, array: np.ndarray, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> np.ndarray:
        """Logits of a prepared array, averaged over tiles, mirrorings and folds: `SlidingWindow.scores`."""
        with self._arithmetic.undecided():
            scores = self._window.scores(array, progress=progress, cancel=cancel)
        self._warm = True
        return scores

    def _labels(
        self,
        prepared: PreparedRows,
        settings: Settings,
        labels: Collection[int] | None,
        listener: ScoreListener | None,
        disagreement: Disagreement | None,
        timings: dict[str, float],
        report: ProgressCallback,
        cancel: CancelToken,
    ) -> tuple[Volume, SlidingWindow]:
        """The labels of a case; where memory runs out, the work starts anew with settings that need less."""
        values = [value if labels is None or value in labels else 0 for value in self.manifest.class_values]
        while True:
            window = self._window if settings == self._settings else self._window_for(settings, disagreement)
            read = _timed_call(prepared.read, "preprocess", timings)
            made = window.slabs(read, prepared.shape, progress=report, cancel=cancel)
            try:
                with _parts_apart(timings):
                    found = restore_slabs(
                        _timed(made, "network", timings),
                        prepared.undo,
                        values,
                        overlapping=bool(self.manifest.regions),
                        extra=settings.extra,
                        cancel=cancel,
                        listener=listener,
                    )
                report(Progress("restore", 1, 1, 0.0))
                self._warm = True
                return found, window
            except (MemoryError, RuntimeError) as problem:
                if not is_memory_error(problem):
                    raise
                reason = _first_line(problem)
            finally:
                made.close()  # its hooks and flags end with it
            del window, made  # out of the handler, whose traceback holds on to tensors
            settings = self._after_failure(prepared, settings, reason)

    def _useful_batch(self, prepared: PreparedRows) -> int:
        """No more than there are tiles beside each other, and on a CPU members of them: more would only be counted."""
        plane = self._settings.patch[-2:]
        size = [max(*axis) for axis in zip(prepared.shape[1:], plane, strict=True)]
        beside = math.prod(len(tile_starts(*axis, self.step)) for axis in zip(size, plane, strict=True))
        if len(self._settings.patch) == 2:
            beside *= prepared.shape[0]
        return min(self._settings.batch, beside * (self.members if self.device.type == "cpu" else 1))

    def _after_failure(self, prepared: PreparedRows, settings: Settings, reason: str) -> Settings:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        step = self._plan.step_back(settings)
        if step is None:
            raise ResourceError(
                f"not enough memory to segment this volume: {reason}. "
                f"{_needed(self._plan.estimate(prepared, settings))} {_MEMORY_ADVICE}"
            )
        settings, consequence = step
        _log.warning("not enough memory (%s): %s", reason, consequence)
        return settings

    def _settings_within(self, usual: Settings, prepared: PreparedRows, limit_bytes: int | None) -> Settings:
        """The usual settings, or such that fit into the limit, or what is free.

        Raises:
            ResourceError: none do.
        """
        room = _room_bytes(limit_bytes, warm=self._warm)
        if room is None:
            return usual
        count = limit_bytes is not None or room < _ROOMY_BYTES or self._plan.knows(usual)

        def fits(settings: Settings) -> bool:
            needed = self._plan.estimate(prepared, settings, with_network=count)
            if self.device.type != "cpu":  # what lies on the GPU is told by the GPU's own allocator
                return needed.host + (needed.blend if settings.blend_on_host else needed.blend // 2) <= room
            return needed.total <= room

        cause = "free memory" if limit_bytes is None else f"memory limit of {limit_bytes / 1e9:.3g} GB"
        settings = plan_within(
            self._plan,
            usual,
            fits,
            lambda consequence: _log.warning("because of the %s, %s", cause, consequence),
        )
        if settings is None:
            raise ResourceError(
                f"the {cause} leaves {max(room, 0) / 1e9:.3g} GB for segmenting this volume. "
                f"{_needed(self._plan.estimate(prepared, replace(usual, batch=1)))} {_MEMORY_ADVICE}"
            )
        return settings

    def _window_for(self, settings: Settings, disagreement: Disagreement | None = None) -> SlidingWindow:
        return SlidingWindow(
            self._networks,
            len(self.manifest.class_values),
            settings.patch,
            device=self.device,
            step=self.step,
            mirrorings=self._mirrorings,
            batch=settings.batch,
            blend_on=torch.device("cpu") if settings.blend_on_host else self.device,
            arithmetic=self._arithmetic,
            disagreement=disagreement,
            name=self.manifest.name,
        )

    def _check_channels(self, volumes: Sequence[Volume]) -> None:
        names = [channel.name for channel in self.manifest.channels]
        if len(volumes) != len(names):
            raise ConfigError(
                f"the model {self.manifest.name!r} takes {len(names)} image(s) ({', '.join(names)}, in this order); "
                f"{len(volumes)} given"
            )


def context_box(box: VoxelBox, volume: Volume, manifest: Manifest) -> VoxelBox:
    """What the networks are shown for a region of interest.

    A quarter of the patch more on every side, and a whole patch at least, as far as the volume goes: at the very edge
    of what it sees a network is less sure. Slice by slice, no further slices are needed.
    """
    spec = manifest.preprocessing
    turn = turn_towards(volume.direction, spec.orientation, spec.axis_order)
    spacing_mm = turn.permute(volume.spacing_mm[::-1])
    slicewise = len(manifest.patch_size) == 2
    patch = (1, *manifest.patch_size) if slicewise else manifest.patch_size
    context, least = [0, 0, 0], [1, 1, 1]
    for new, axis in enumerate(turn.axes):
        if new == 0 and slicewise:
            continue
        wanted_mm = (spec.spacing_mm[new] if spec.spacing_mm else None) or spacing_mm[new]
        least[axis] = math.ceil(patch[new] * wanted_mm / spacing_mm[new])
        context[axis] = math.ceil(least[axis] / 4)
    return widened(box, volume.array.shape, context, least)


def _usual_batch(device: torch.device) -> int:
    if device.type == "cpu":
        return usual_count()
    return _TILES_ON_GPU if device.type == "cuda" else 1


def _clear_outside(array: np.ndarray, box: VoxelBox) -> None:
    kept = array[slices_of(box)].copy()
    array[...] = 0
    array[slices_of(box)] = kept


def _room_bytes(limit_bytes: int | None, *, warm: bool) -> int | None:
    """What this process may still take; None where that cannot be known."""
    free, loading = free_bytes(), 0 if warm else _FIRST_CASE_BYTES
    if limit_bytes is None:
        return None if free is None else free - loading
    left = limit_bytes - psutil.Process().memory_info().rss
    return (left if free is None else min(left, free)) - loading


def _needed(estimate: Estimate) -> str:
    parts = f"{estimate.total / 1e9:.2g} GB" + (
        " and what the network itself takes" if estimate.network is None else ""
    )
    return f"About {parts} are needed beyond the images and the model."


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
    except (MemoryError, RuntimeError) as problem:
        if not is_memory_error(problem):
            raise
        raise ResourceError(f"not enough memory to {task}: {_first_line(problem)}. {_MEMORY_ADVICE}") from problem


_TILES_ON_GPU = 4  # at once; fewer where they do not fit
_MEMORY_ADVICE = "Choose a region of interest (--roi), close other programs, or use --device cpu"
# What the first case of a process loads and compiles besides: 149 to 162 MB were measured on Linux x86-64.
_FIRST_CASE_BYTES = 200_000_000
_ROOMY_BYTES = 8_000_000_000  # where this much is free, the seconds of counting a network are not spent


def _first_line(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0]
