"""How much memory a case will take, and what to give up where that is too much.

Steps back, from what costs nothing but time to what may change labels: fewer tiles at once; adding tiles up in the
computer's memory rather than the GPU's; smaller tiles. Less overlap is not among them: the engine keeps the rows of one
tile's height whatever the overlap, so that it would free nothing.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import nn

from MambaSegmentLib.errors import ShapeError
from MambaSegmentLib.label_maps import label_dtype
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.models.counts import count_inference_memory
from MambaSegmentLib.preprocess import PreparedRows

_log = logging.getLogger(__name__)

_FLOAT_BYTES = 4
_SMALLEST_EDGE = 16  # voxels: below that hardly any network can work, and none sees enough


@dataclass(frozen=True)
class Settings:
    """What a prediction's memory depends on and may be changed.

    Attributes:
        patch: voxels of a tile, two or three numbers as in the manifest.
        batch: tiles that the networks take at once.
        blend_on_host: tiles are added up in the computer's memory, though the networks are on a GPU.
        extra: arrays that are blended beside the scores of the classes.
    """

    patch: tuple[int, ...]
    batch: int = 1
    blend_on_host: bool = False
    extra: int = 0


@dataclass(frozen=True)
class Estimate:
    """Bytes beyond the images and the weights, which are there already.

    Attributes:
        network: as the model file tells it was measured, else of the layers' inputs and outputs, as `models.counts`
            counts them; None where they cannot be counted.
        blend: of the rows in which tiles are added up, and those that are handed on.
        host: of prepared rows and labels.
    """

    network: int | None
    blend: int
    host: int

    @property
    def total(self) -> int:
        return (self.network or 0) + self.blend + self.host


class MemoryPlan:
    """Estimates and steps back for the networks of one model.

    Args:
        networks: as they will run; they are not touched.
        on_gpu: whether they are on a device with memory of its own.
        measured: bytes that a network took at most for one tile, by its voxels; others are counted.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        channels: int,
        values: Sequence[int],
        *,
        on_gpu: bool,
        measured: Mapping[tuple[int, ...], int] = MappingProxyType({}),
    ) -> None:
        self._networks, self._channels, self._values, self._on_gpu = networks, channels, values, on_gpu
        self._measured = measured
        self._counted: dict[tuple[int, ...], int | None] = {}

    def knows(self, settings: Settings) -> bool:
        """Whether an estimate with the network takes no time."""
        return settings.patch in self._measured

    def estimate(self, prepared: PreparedRows, settings: Settings, *, with_network: bool = True) -> Estimate:
        """What a case needs at these settings; counting the network takes seconds the first time."""
        height = settings.patch[0] if len(settings.patch) == 3 else 1
        size = [max(*axis) for axis in zip(prepared.shape, (height, *settings.patch[-2:]), strict=True)]
        rows = height * size[1] * size[2]
        outputs = len(self._values) + settings.extra
        blend = 2 * outputs * rows * _FLOAT_BYTES
        label_bytes = label_dtype(max(self._values))(0).nbytes
        crop = prepared.undo.crop_shape
        taken = math.ceil(height * crop[0] / prepared.shape[0])  # input rows that a row of tiles is made of
        host = math.prod(prepared.undo.shape) * label_bytes
        host += self._channels * _FLOAT_BYTES * (2 * rows + 2 * taken * size[1] * max(size[2], crop[2]))
        if max(prepared.undo.scores.orders) > 1:  # such scores are needed as a whole
            host += 2 * outputs * math.prod(prepared.shape) * _FLOAT_BYTES
        return Estimate(self._network_bytes(settings) if with_network else None, blend, host)

    def step_back(self, settings: Settings) -> tuple[Settings, str] | None:
        """Settings that need less memory, and in words what that means; None where nothing is left to give up."""
        if settings.batch > 1:
            fewer = settings.batch // 2
            return replace(settings, batch=fewer), f"{fewer} instead of {settings.batch} tiles are computed at once"
        if self._on_gpu and not settings.blend_on_host:
            return replace(settings, blend_on_host=True), (
                "tiles are added up in the computer's memory instead of the GPU's, which takes longer"
            )
        smaller = _halved(settings.patch)
        if smaller is None or not self._takes(replace(settings, patch=smaller)):
            return None
        sizes, before = (" × ".join(map(str, patch[::-1])) for patch in (smaller, settings.patch))
        return replace(settings, patch=smaller), (
            f"tiles of {sizes} voxels are computed instead of the model's {before}; the labels may differ from those "
            "that it gives with enough memory, so look at them with care"
        )

    def _takes(self, settings: Settings) -> bool:
        """Whether the networks are known to work on such tiles."""
        return self._network_bytes(settings) is not None

    def _network_bytes(self, settings: Settings) -> int | None:
        if settings.patch in self._measured:
            return settings.batch * self._measured[settings.patch]
        shape = (settings.batch, self._channels, *settings.patch)
        if shape not in self._counted:
            self._counted[shape] = _counted(self._networks[0], shape)  # all folds are of one kind
        return self._counted[shape]


def plan_within(
    plan: MemoryPlan, settings: Settings, fits: Callable[[Settings], bool], tell: Callable[[str], None]
) -> Settings | None:
    """The first settings on the way back that fit; each step is told. None where none do."""
    while not fits(settings):
        step = plan.step_back(settings)
        if step is None:
            return None
        settings, consequence = step
        tell(consequence)
    return settings


def measured_tiles(manifest: Manifest, device: str) -> dict[tuple[int, ...], int]:
    """What the model file tells of the memory of single tiles on this kind of device; {} where it tells nothing.

    Figures of other sizes are those of several tiles, which are blended besides, and so no measure of the network.
    """
    rows = manifest.measured.get(device)
    patch = tuple(manifest.patch_size)
    size = [1, *patch] if len(patch) == 2 else list(patch)
    for row in rows if isinstance(rows, list) else []:
        taken = row.get("memory_bytes") if isinstance(row, Mapping) and row.get("size") == size else None
        if isinstance(taken, int) and taken > 0:
            return {patch: taken}
    return {}


def _halved(patch: tuple[int, ...]) -> tuple[int, ...] | None:
    """Half as long along the longest axis."""
    axis = max(range(len(patch)), key=lambda axis: patch[axis])
    half = patch[axis] // 2
    return None if half < _SMALLEST_EDGE else (*patch[:axis], half, *patch[axis + 1 :])


def _counted(network: nn.Module, shape: tuple[int, ...]) -> int | None:
    try:
        return count_inference_memory(network, shape)
    except (ShapeError, NotImplementedError, RuntimeError):  # a size it cannot take, or an operator without shapes
        _log.debug("the memory of a tile of %s cannot be told beforehand", shape, exc_info=True)
        return None


def is_memory_error(problem: BaseException) -> bool:
    """Whether memory ran out, on the CPU or a GPU; torch's CPU allocator has no exception of its own."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory")
    return isinstance(problem, RuntimeError) and any(text in str(problem) for text in words)
