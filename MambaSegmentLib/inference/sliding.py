"""Networks over a volume of any size: padded where it is smaller than the patch, tiled and blended where it is larger.

Prediction and the validation of a training share this file, so that both see the same numbers.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError, ResourceError
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback

from .rolling import RollingBlend
from .tiling import padding, tile_corners

Rows = Callable[[int, int], np.ndarray]


class SlidingWindow:
    """Scores of the classes, from one or several networks that take a patch.

    Args:
        networks: in evaluation mode, on `device`; their answers are averaged.
        classes: outputs of the networks, background included.
        patch: voxels (K, J, I) of the prepared array; two numbers for networks that work slice by slice along K.
        step: distance of neighbouring tiles as a fraction of the patch.
        mirror_axes: of the patch; answers are averaged over all mirrored copies (2 to 8 times the work).
        name: of the model, for messages.
    Raises:
        ConfigError: a step out of range.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        classes: int,
        patch: Sequence[int],
        *,
        device: torch.device,
        step: float = 0.5,
        mirror_axes: Sequence[int] = (),
        name: str = "network",
    ) -> None:
        if not 0 < step <= 1:
            raise ConfigError(f"step {step} must be a fraction of the patch, above 0 and at most 1")
        self.step, self.device = step, device
        self._networks, self._classes, self._name = networks, classes, name
        self._slicewise = len(patch) == 2
        self._patch = (1, *patch) if self._slicewise else tuple(patch)
        self._steps = (1.0, step, step) if self._slicewise else (step, step, step)  # each slice once
        self._mirrorings = _subsets(mirror_axes)

    def scores(
        self, array: np.ndarray, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> np.ndarray:
        """Logits of a whole prepared array at once: what `slabs` gives, put together.

        Args:
            array: float32 (C, K, J, I).
        Returns:
            float32 (classes, K, J, I).
        """
        shape = array.shape[1:]
        self._check_memory(shape)
        total = np.empty((self._classes, *shape), dtype=np.float32)

        def read(first: int, end: int) -> np.ndarray:
            return array[:, first:end]

        for first, slab in self.slabs(read, shape, progress=progress, cancel=cancel):
            total[:, first : first + slab.shape[1]] = slab.numpy()
        return total

    @torch.inference_mode()
    def slabs(
        self,
        read: Rows,
        shape: Sequence[int],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of a prepared case, averaged over overlapping tiles, mirrorings and folds, row by row.

        A volume smaller than the patch is padded with zeros around it and cropped back. The same input gives the same
        bytes on the same machine.

        Args:
            read: gives rows [first, end) of the prepared array, float32 (C, rows, J, I); asked for in order.
            shape: (K, J, I) of the prepared array.
        Yields:
            The first row and the logits of the rows from there on, float32 (classes, rows, J, I), on the CPU; rows
            come in order, each once.
        """
        report = progress or _ignore
        cancel = cancel or CancelToken()
        margins = padding(shape, self._patch)
        size = [before + inside + after for (before, after), inside in zip(margins, shape, strict=True)]
        inner = tuple(slice(before, before + size) for (before, _), size in zip(margins, shape, strict=True))
        rows = range(inner[0].start, inner[0].stop)
        with ExitStack() as stack:
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
            stack.enter_context(_cancel_between_layers(self._networks, cancel))
            for first, slab in self._blended(_padded(read, shape, margins), size, report, cancel):
                begin, end = max(first, rows.start), min(first + slab.shape[1], rows.stop)
                if begin < end:
                    yield begin - rows.start, slab[:, begin - first : end - first, inner[1], inner[2]]

    def _blended(
        self, read: Rows, size: Sequence[int], report: ProgressCallback, cancel: CancelToken
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """First row and weighted mean of all tiles' logits, as soon as no tile can change them."""
        corners = tile_corners(size, self._patch, self._steps)
        blend = RollingBlend(self._classes, size, self._patch, self._steps, self.device)
        started = time.perf_counter()
        report(Progress("network", 0, len(corners)))
        rows = torch.empty(0)
        for done, corner in enumerate(corners, start=1):
            cancel.raise_if_cancelled()
            if done == 1 or corner[0] != corners[done - 2][0]:
                rows = torch.from_numpy(read(corner[0], corner[0] + self._patch[0]))
            j, i = (slice(c, c + p) for c, p in zip(corner[1:], self._patch[1:], strict=True))
            blend.add(corner, self._tile_logits(rows[:, :, j, i]))
            seconds_left = (time.perf_counter() - started) / done * (len(corners) - done)
            report(Progress("network", done, len(corners), seconds_left))
            following = corners[done][0] if done < len(corners) else size[0]
            if following > corner[0]:
                yield corner[0], blend.close_before(following)

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
            raise BundleError(f"the model {self._name!r} answers NaN or infinity; it was not trained properly")
        return logits

    def _mirrored(self, network: nn.Module, batch: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        dims = tuple(axis + 2 for axis in axes)
        output = network(torch.flip(batch, dims) if dims else batch)
        logits = output[0] if isinstance(output, list | tuple) else output  # deep supervision: the largest comes first
        expected = (1, self._classes, *batch.shape[2:])
        if tuple(logits.shape) != expected:
            raise BundleError(
                f"the model {self._name!r} answers an array of shape {tuple(logits.shape)}, but its labels and "
                f"patch_size lead to {expected}; it was put together wrongly"
            )
        return torch.flip(logits, dims) if dims else logits

    def _check_memory(self, shape: Sequence[int]) -> None:
        needed = self._classes * int(np.prod(shape)) * 4
        available = psutil.virtual_memory().available
        if needed > available:
            raise ResourceError(
                f"the scores of {' × '.join(map(str, shape[::-1]))} voxels need {needed / 1e9:.1f} GB of memory, "
                f"{available / 1e9:.1f} GB are free; crop the image, or close other programs"
            )


def _padded(read: Rows, shape: Sequence[int], margins: Sequence[tuple[int, int]]) -> Rows:
    """The same rows with zeros around them."""
    (above, below), *around = margins
    if not any((above, below, *itertools.chain(*around))):
        return read

    def padded(first: int, end: int) -> np.ndarray:
        begin, stop = max(first - above, 0), min(end - above, shape[0])
        before, after = max(above - first, 0), max(end - above - shape[0], 0)
        return np.pad(read(begin, stop), [(0, 0), (before, after), *around])

    return padded


def _ignore(_: Progress) -> None:
    """Nobody wants to know."""


def _subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All choices of axes, none included: (0, 1) -> [(), (0,), (1,), (0, 1)]."""
    subsets: list[tuple[int, ...]] = [()]
    for axis in axes:
        subsets += [(*subset, axis) for subset in subsets]
    return subsets


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
