"""Networks over a volume of any size: padded where it is smaller than the patch, tiled and blended where it is larger.

Prediction and the validation of a training share this file, so that both see the same numbers.
"""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError, ResourceError
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.quality import Mirrorings

from .arithmetic import Arithmetic
from .entropy import Disagreement
from .feeding import FetchedRows, TileFeeder
from .rolling import RollingBlend
from .side_by_side import SideBySide
from .tiling import padding, tile_corners

Rows = Callable[[int, int], np.ndarray]


class SlidingWindow:
    """Scores of the classes, from one or several networks that take a patch.

    Args:
        networks: in evaluation mode, on `device`; their answers are averaged.
        classes: outputs of the networks, background included.
        patch: voxels (K, J, I) of the prepared array; two numbers for networks that work slice by slice along K.
        step: distance of neighbouring tiles as a fraction of the patch.
        mirrorings: of the patch: the axes of each mirrored copy whose answers are averaged; () is the patch itself.
        batch: tiles beside each other that the networks take at once, or answers that are computed at once; more need
            more memory. Of slices, whole ones.
        stacked: whether tiles taken at once are one tensor, as suits a GPU, or are answered each on threads of their
            own, as suits a CPU; None goes by the device.
        blend_on: the device where overlapping answers are added up; None takes that of the networks.
        arithmetic: how networks are asked; None is float32.
        disagreement: measured of the answers that are averaged, and given as one class more, the last.
        slabs_ahead: how many slabs may be under way before one is handed on; None is one for a GPU, so that it computes
            while the rows before are restored, and none for a CPU.
        name: of the model, for messages.
    Attributes:
        tiles, reused_tiles: of the last volume: how many there were, and how many of them were uniform (one value per
            channel throughout, as air is outside a body) and bit for bit equal to one before, so that its answer was
            taken again. That is exact: the networks see nothing but the tile.
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
        mirrorings: Mirrorings = ((),),
        batch: int = 1,
        blend_on: torch.device | None = None,
        arithmetic: Arithmetic | None = None,
        disagreement: Disagreement | None = None,
        slabs_ahead: int | None = None,
        stacked: bool | None = None,
        name: str = "network",
    ) -> None:
        if not 0 < step <= 1:
            raise ConfigError(f"step {step} must be a fraction of the patch, above 0 and at most 1")
        self.step, self.device = step, device
        self._networks, self._classes, self._name = networks, classes, name
        self._slicewise = len(patch) == 2
        self._patch = (1, *patch) if self._slicewise else tuple(patch)
        self._steps = (1.0, step, step) if self._slicewise else (step, step, step)  # each slice once
        self._mirrorings, self._batch, self._blend_on = mirrorings, batch, blend_on or device
        self._arithmetic = arithmetic or Arithmetic("float32", device)
        self._disagreement = disagreement
        self._ahead = int(device.type == "cuda") if slabs_ahead is None else slabs_ahead
        self._feeder = TileFeeder(device)
        self._stacked = device.type != "cpu" if stacked is None else stacked
        self.tiles = self.reused_tiles = 0

    @property
    def _outputs(self) -> int:
        return self._classes + (self._disagreement is not None)

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
        total = np.empty((self._outputs, *shape), dtype=np.float32)

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
    ) -> Generator[tuple[int, torch.Tensor], None, None]:
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
            self._beside = stack.enter_context(SideBySide(1 if self._stacked else self._batch))
            for first, slab in self._blended(_padded(read, shape, margins), size, report, cancel):
                begin, end = max(first, rows.start), min(first + slab.shape[1], rows.stop)
                if begin < end:
                    yield begin - rows.start, slab[:, begin - first : end - first, inner[1], inner[2]]

    def _blended(
        self, read: Rows, size: Sequence[int], report: ProgressCallback, cancel: CancelToken
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """First row and weighted mean of all tiles' logits, as soon as no tile can change them."""
        groups = self._grouped(tile_corners(size, self._patch, self._steps))
        held = max(group[-1][0] - group[0][0] for group in groups) + self._patch[0]
        blend = RollingBlend(self._outputs, size, self._patch, self._steps, self._blend_on, rows=held)
        ends = [*(group[0][0] for group in groups[1:]), size[0]]
        under_way: deque[tuple[int, FetchedRows]] = deque()
        started = time.perf_counter()
        self.tiles, self.reused_tiles, done = sum(map(len, groups)), 0, 0
        uniform = _LastAnswer()
        for group, end in zip(groups, ends, strict=True):
            row = group[0][0]
            rows = torch.from_numpy(read(row, group[-1][0] + self._patch[0]))
            if done == 0:
                report(Progress("network", 0, self.tiles))  # not before the first rows are there
            for some in _chunks(group, self._tiles_at_once):
                cancel.raise_if_cancelled()
                tiles = [_tile(rows, (k - row, *plane), self._patch) for k, *plane in some]
                for corner, logits in zip(some, self._answers(tiles, uniform), strict=True):
                    blend.add(corner, logits)
                done += len(some)
                seconds_left = (time.perf_counter() - started) / done * (self.tiles - done)
                report(Progress("network", done, self.tiles, seconds_left))
            under_way.append((row, blend.close_before(end)))
            while len(under_way) > (self._ahead if done < self.tiles else 0):
                first, closed = under_way.popleft()
                yield first, self._finite(closed.wait())

    def _grouped(self, corners: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
        """Tiles that are read together: those of one row, or of as many slices as the networks take at once."""
        rows = [list(beside) for _, beside in itertools.groupby(corners, key=lambda corner: corner[0])]
        together = max(1, self._tiles_at_once // len(rows[0])) if self._slicewise else 1
        return [list(itertools.chain(*rows[n : n + together])) for n in range(0, len(rows), together)]

    @property
    def _tiles_at_once(self) -> int:
        if self._stacked:
            return self._batch
        return math.ceil(self._batch / (len(self._networks) * len(self._mirrorings)))  # all members of a tile at once

    def _answers(self, tiles: Sequence[torch.Tensor], uniform: "_LastAnswer") -> list[torch.Tensor]:
        """Logits of each tile; of one that is uniform the answer that a tile like it had before."""
        keys = [_uniform_value(tile) for tile in tiles]
        answers: list[torch.Tensor | None] = []
        for tile, key in zip(tiles, keys, strict=True):
            if key is None:
                answers.append(None)
                continue
            if key == uniform.key:
                self.reused_tiles += 1
            else:
                uniform.key, uniform.logits = key, self._tile_logits([tile])[0]
            answers.append(uniform.logits)
        others = [tile for tile, key in zip(tiles, keys, strict=True) if key is None]
        fresh = iter(self._tile_logits(others) if others else ())
        return [next(fresh) if answer is None else answer for answer in answers]

    def _tile_logits(self, tiles: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Of each tile (C, K, J, I), (outputs, K, J, I): averaged over folds and mirrorings, on the device."""
        batches = [self._feeder.send(some) for some in ([tiles] if self._stacked else [[tile] for tile in tiles])]
        if self._slicewise:
            batches = [batch[:, :, 0] for batch in batches]
        members = list(itertools.product(self._networks, self._mirrorings))
        asked = [(network, batch, axes) for batch in batches for network, axes in members]
        answers = self._beside.map(lambda one: self._mirrored(*one), asked)
        averaged = [self._averaged(itertools.islice(answers, len(members)), len(members)) for _ in batches]
        logits = [of_tile for of_batch in averaged for of_tile in of_batch]
        return [of_tile[:, None] for of_tile in logits] if self._slicewise else logits

    def _averaged(self, answers: Iterator[torch.Tensor], count: int) -> torch.Tensor:
        """The mean of the members' answers to one batch, and how far they disagree if that is asked for."""
        if self._disagreement is None and count == 1:
            return next(answers)
        if self._disagreement is not None:
            self._disagreement.clear()
        logits = torch.zeros((), device=self.device)
        for answer in answers:
            logits = logits + answer
            if self._disagreement is not None:
                self._disagreement.add(answer)
        logits = logits / count
        if self._disagreement is not None:
            logits = torch.cat([logits, self._disagreement.result()], dim=1)
        return logits

    def _mirrored(self, network: nn.Module, batch: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        dims = tuple(axis + 2 for axis in axes)
        logits = self._arithmetic.logits(network, torch.flip(batch, dims) if dims else batch)
        expected = (len(batch), self._classes, *batch.shape[2:])
        if tuple(logits.shape) != expected:
            raise BundleError(
                f"the model {self._name!r} answers an array of shape {tuple(logits.shape)}, but its labels and "
                f"patch_size lead to {expected}; it was put together wrongly"
            )
        return torch.flip(logits, dims) if dims else logits

    def _finite(self, slab: torch.Tensor) -> torch.Tensor:
        """Looked at here rather than tile by tile, for which a GPU would have to be waited for."""
        if not all(bool(torch.isfinite(slab[:, row]).all()) for row in range(slab.shape[1])):
            raise BundleError(f"the model {self._name!r} answers NaN or infinity; it was not trained properly")
        return slab

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


class _LastAnswer:
    """The logits of the uniform tile that came last, and what it was filled with."""

    key: bytes | None = None
    logits: torch.Tensor


def _uniform_value(tile: torch.Tensor) -> bytes | None:
    """The bytes of the one value that each channel (C, K, J, I) has throughout; None where a bit differs."""
    bits = tile.view(torch.int32)
    first = bits[:, :1, :1, :1]
    if not torch.equal(bits[:, -1:, -1:, -1:], first) or not bool((bits == first).all()):
        return None
    return first.numpy().tobytes()


def _tile(rows: torch.Tensor, corner: Sequence[int], patch: Sequence[int]) -> torch.Tensor:
    k, j, i = (slice(first, first + length) for first, length in zip(corner, patch, strict=True))
    return rows[:, k, j, i]


def _chunks(corners: Sequence[tuple[int, ...]], count: int) -> Iterator[Sequence[tuple[int, ...]]]:
    return (corners[first : first + count] for first in range(0, len(corners), count))


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
