"""In which numbers a network computes: float32, or bfloat16 where that is safe.

On a GPU bfloat16 products take a fraction of the time. Whether a model's answers survive its eight bits of precision
depends on the model, so `auto` asks it: the first tile with an image in it is computed both ways, and bfloat16 is
taken from there on if it decides as float32 does in all but one of 2000 voxels. Elsewhere than on a GPU with bfloat16,
`auto` is float32; on CPUs that emulate bfloat16 it would be slower.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from MambaSegmentLib.quality import check_precision

_ALIKE = 0.9995  # of the voxels of a tile

_log = logging.getLogger(__name__)


class Arithmetic:
    """Asks networks in the precision that was chosen; shared by all windows of a predictor.

    Args:
        precision: "auto", "float32" or "bfloat16".
        regions: the classes are regions, each a yes or no of its own.
    Attributes:
        half: whether bfloat16 is taken; None until the first tile has shown it.
    Raises:
        ConfigError: no precision of this name.
    """

    def __init__(self, precision: str, device: torch.device, *, regions: bool = False) -> None:
        check_precision(precision)
        self._device, self._regions, self._trying = device, regions, True
        self.half: bool | None = precision == "bfloat16"
        if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            self.half = None

    @property
    def name(self) -> str:
        """For the record."""
        return "undecided" if self.half is None else "bfloat16" if self.half else "float32"

    def logits(self, network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """A network's answer, float32; of one with deep supervision the largest, which comes first."""
        if self.half is None and self._trying:
            full, short = self._asked(network, batch, half=False), self._asked(network, batch, half=True)
            alike = self._same_decisions(full, short)
            self.half = alike >= _ALIKE
            _log.info("bfloat16 decides as float32 in %.3f %% of a tile: %s", 100 * alike, self.name)
            return full
        return self._asked(network, batch, half=bool(self.half))

    @contextmanager
    def undecided(self) -> Iterator[None]:
        """Meanwhile nothing is decided: noise, as in warming up, is no image."""
        self._trying = False
        try:
            yield
        finally:
            self._trying = True

    def _asked(self, network: nn.Module, batch: torch.Tensor, *, half: bool) -> torch.Tensor:
        with torch.autocast(self._device.type, dtype=torch.bfloat16) if half else nullcontext():
            output = network(batch)
        return (output[0] if isinstance(output, list | tuple) else output).float()

    def _same_decisions(self, first: torch.Tensor, second: torch.Tensor) -> float:
        one, other = (x > 0 if self._regions else x.argmax(dim=1) for x in (first, second))
        return float((one == other).float().mean())
