"""Predictor: a bundle and a device; volumes in, labels on the same grid out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from torch import nn

from MambaSegmentLib.bundle import Bundle
from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import BundleError, ConfigError, ResourceError
from MambaSegmentLib.preprocess import preprocess, restore_labels
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

from .tiling import gaussian_weights, padding, tile_corners, weight_sum


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a segmentation gives.

    Attributes:
        labels: uint8 or uint16, on exactly the grid of the first input.
        segments: the meaning of the label values.
        timings: seconds spent on each stage: load_model, read, preprocess, network, restore, write; only
            those that took place.
    """

    labels: Volume
    segments: tuple[SegmentInfo, ...]
    timings: dict[str, float] = field(default_factory=dict)


class Predictor:
    """Segments volumes with the networks of one bundle; keeps them on the device between cases.

    Args:
        device: as for `choose_device`.
        step: distance of tiles as a fraction of the patch; None takes the bundle's.
        mirror: average over mirrored copies along the bundle's mirror_axes (2 to 8 times the work).
    Raises:
        BundleError: the bundle cannot be used. ConfigError: a step out of range. ResourceError: no such device.
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", *, step: float | None = None, mirror: bool = False
    ) -> None:
        self.manifest = bundle.manifest
        self.step = self.manifest.step if step is None else step
        if not 0 < self.step <= 1:
            raise ConfigError(f"step {self.step} must be a fraction of the patch, above 0 and at most 1")
        if self.manifest.regions is not None:
            raise BundleError(
                f"the model {self.manifest.name!r} predicts overlapping regions, which this version cannot; "
                "use a model with one class per label"
            )
        self.device = choose_device(device)
        with _memory_errors("load the model"):
            self._networks = [network.to(self.device) for network in bundle.build_networks()]
        patch = self.manifest.patch_size
        self._slicewise = len(patch) == 2
        self._patch = (1, *patch) if self._slicewise else patch
        self._mirrorings = _subsets(self.manifest.mirror_axes) if mirror else [()]

    def segment(
        self, volumes: Sequence[Volume], *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> SegmentationResult:
        """Segment one case.

        Args:
            volumes: one per channel in the bundle's order, on one grid.
            progress: called in this thread, before and after each stage and after each tile.
            cancel: looked at between stages, tiles and layers.
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
                prepared = preprocess(volumes, self.manifest.preprocessing)
            with _stage("network", timings, None, cancel):
                scores = self.scores(prepared.array, progress=report, cancel=cancel)
            with _stage("restore", timings, report, cancel):
                values = (0, *(segment.value for segment in self.manifest.segments))
                labels = restore_labels(scores, prepared.undo, values, cancel=cancel)
        return SegmentationResult(labels, self.manifest.segments, timings)

    @torch.inference_mode()
    def scores(
        self, array: np.ndarray, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> np.ndarray:
        """Logits of a prepared array, averaged over overlapping tiles, mirrorings and folds.

        A volume smaller than the patch is padded with zeros around it and cropped back. The same input gives the same
        bytes on the same machine.

        Args:
            array: float32 (C, K, J, I).
        Returns:
            float32 (classes, K, J, I).
        """
        report = progress or _ignore
        cancel = cancel or CancelToken()
        shape = array.shape[1:]
        margins = padding(shape, self._patch)
        if any(before or after for before, after in margins):
            array = np.pad(array, [(0, 0), *margins])
        self._check_memory(array.shape[1:])
        with ExitStack() as stack:
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
            stack.enter_context(_cancel_between_layers(self._networks, cancel))
            total = self._blend(torch.from_numpy(array), report, cancel)
        inner = tuple(slice(before, before + size) for (before, _), size in zip(margins, shape, strict=True))
        return total[(slice(None), *inner)].numpy()

    def _blend(self, array: torch.Tensor, report: ProgressCallback, cancel: CancelToken) -> torch.Tensor:
        """Weighted mean of all tiles' logits; float32 (classes, K, J, I) on the CPU."""
        size = tuple(array.shape[1:])
        corners = tile_corners(size, self._patch, self.step)
        weights = torch.from_numpy(gaussian_weights(self._patch)).to(self.device)
        total = torch.zeros((self._classes, *size))
        started = time.perf_counter()
        report(Progress("network", 0, len(corners)))
        for done, corner in enumerate(corners, start=1):
            cancel.raise_if_cancelled()
            place = (slice(None), *(slice(c, c + p) for c, p in zip(corner, self._patch, strict=True)))
            logits = self._tile_logits(array[place])
            if len(corners) == 1:
                total[place] = logits.cpu()
            else:
                total[place] += (logits * weights).cpu()
            seconds_left = (time.perf_counter() - started) / done * (len(corners) - done)
            report(Progress("network", done, len(corners), seconds_left))
        if len(corners) > 1:
            self._divide_by_weights(total)
        return total

    def _tile_logits(self, tile: torch.Tensor) -> torch.Tensor:
        """(C, K, J, I) of one patch -> (classes, K, J, I), averaged over folds and mirrorings, on the device."""
        batch = tile.to(self.device).contiguous()[None]
        if self._slicewise:
            batch = batch[:, :, 0]
        answers = (self._mirrored(network, batch, axes) for network in self._networks for axes in self._mirrorings)
        logits = sum(answers, start=torch.zeros((), device=self.device))
        logits = (logits / (len(self._networks) * len(self._mirrorings)))[0]
        if self._slicewise:
            logits = logits[:, None]
        if not bool(torch.isfinite(logits).all()):
            raise BundleError(f"the model {self.manifest.name!r} answers NaN or infinity; it was not trained properly")
        return logits

    def _mirrored(self, network: nn.Module, batch: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        dims = tuple(axis + 2 for axis in axes)
        output = network(torch.flip(batch, dims) if dims else batch)
        logits = output[0] if isinstance(output, list | tuple) else output  # deep supervision: the largest comes first
        expected = (1, self._classes, *batch.shape[2:])
        if tuple(logits.shape) != expected:
            raise BundleError(
                f"the model {self.manifest.name!r} answers an array of shape {tuple(logits.shape)}, but its labels and "
                f"patch_size lead to {expected}; it was put together wrongly"
            )
        return torch.flip(logits, dims) if dims else logits

    def _divide_by_weights(self, total: torch.Tensor) -> None:
        size = total.shape[1:]
        k_sum, j_sum, i_sum = (weight_sum(s, p, self.step) for s, p in zip(size, self._patch, strict=True))
        plane = np.outer(j_sum, i_sum)
        for k, weight in enumerate(k_sum):  # a plane at a time, so that no array of the volume's size is needed
            total[:, k] /= torch.from_numpy((weight * plane).astype(np.float32))

    @property
    def _classes(self) -> int:
        return len(self.manifest.segments) + 1

    def _check_channels(self, volumes: Sequence[Volume]) -> None:
        names = [channel.name for channel in self.manifest.channels]
        if len(volumes) != len(names):
            raise ConfigError(
                f"the model {self.manifest.name!r} takes {len(names)} image(s) ({', '.join(names)}, in this order); "
                f"{len(volumes)} given"
            )

    def _check_memory(self, shape: Sequence[int]) -> None:
        needed = self._classes * int(np.prod(shape)) * 4
        available = psutil.virtual_memory().available
        if needed > available:
            raise ResourceError(
                f"the scores of {' × '.join(map(str, shape[::-1]))} voxels need {needed / 1e9:.1f} GB of memory, "
                f"{available / 1e9:.1f} GB are free; crop the image, or close other programs"
            )


def _ignore(_: Progress) -> None:
    """Nobody wants to know."""


def _subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All choices of axes, none included: (0, 1) -> [(), (0,), (1,), (0, 1)]."""
    subsets: list[tuple[int, ...]] = [()]
    for axis in axes:
        subsets += [(*subset, axis) for subset in subsets]
    return subsets


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


@contextmanager
def _cancel_between_layers(networks: Sequence[nn.Module], cancel: CancelToken) -> Iterator[None]:
    """A tile can take half a minute on a CPU: look at the token before every layer as well."""

    def look(*_: object) -> None:
        cancel.raise_if_cancelled()

    hooks = [module.register_forward_pre_hook(look) for network in networks for module in network.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
