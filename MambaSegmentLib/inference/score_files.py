"""How sure the model was, and its class probabilities, written slice by slice while the labels are made.

The uncertainty of a voxel is the entropy of the probabilities, over the largest that there can be: 0 where one class
has all, 1 where all are alike. With regions, each a yes or no of its own, it is the mean of their entropies. The scores
are divided by the bundle's `calibration` `temperature` first (Guo et al. 2017, "On calibration of modern neural
networks"); that changes no label.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from MambaSegmentLib.errors import BundleError
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.preprocess import Undo
from MambaSegmentLib.raw_nrrd import NrrdMap, refuse_full_disk, writable_nrrd
from MambaSegmentLib.volume import Volume

from .restoring import ScoreListener

if TYPE_CHECKING:
    from MambaSegmentLib.extras import Extras


def temperature(manifest: Manifest) -> float:
    """What the scores of a model are divided by before they are taken for probabilities; 1 where nobody measured it.

    Raises:
        BundleError: it is no positive number.
    """
    value = manifest.calibration.get("temperature", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise BundleError(
            f"the calibration of {manifest.name!r} holds the temperature {value!r}; a number above 0 fits"
        )
    return float(value)


@contextmanager
def score_files(extras: "Extras", grid: Volume, manifest: Manifest) -> Iterator["ScoreFiles"]:
    """Open the files that are wanted; they are whole when the block ends, and not there when it fails.

    Args:
        grid: the first image of the case.
    Raises:
        ResourceError: the disk is too small for them. ImageError: they cannot be written.
        BundleError: a calibration that makes no sense.
    """
    names = [region.name for region in manifest.regions] or ["background", *(s.name for s in manifest.segments)]
    files = ScoreFiles(temperature(manifest), regions=bool(manifest.regions))
    wanted = ((extras.uncertainty, 1), (extras.probabilities, len(names)))
    refuse_full_disk([(path, 4 * volumes * grid.array.size) for path, volumes in wanted if path is not None])
    with ExitStack() as stack:
        if extras.uncertainty is not None:
            files.uncertainty = stack.enter_context(writable_nrrd(extras.uncertainty, grid))
        if extras.probabilities is not None:
            files.probabilities = stack.enter_context(writable_nrrd(extras.probabilities, grid, names))
        yield files


class ScoreFiles:
    """Turns the scores of each slice into what the files hold.

    Attributes:
        uncertainty, probabilities: open files, or None.
    """

    def __init__(self, temperature: float, *, regions: bool) -> None:
        self.uncertainty: NrrdMap | None = None
        self.probabilities: NrrdMap | None = None
        self._temperature = temperature
        self._regions = regions
        self._sums = np.zeros(0)
        self._counts = np.zeros(0, np.int64)

    @property
    def listener(self) -> ScoreListener | None:
        """None where no file is open, so that nothing is computed."""
        return self._take if self.uncertainty is not None or self.probabilities is not None else None

    def mean_uncertainty(self) -> dict[int, dict[str, Any]]:
        """By label value, the mean over the voxels that have it; labels without voxels are left out."""
        if self.uncertainty is None:
            return {}
        values = (int(value) for value in np.flatnonzero(self._counts) if value)
        return {value: {"mean_uncertainty": float(self._sums[value] / self._counts[value])} for value in values}

    def _take(self, undo: Undo, row: int, scores: torch.Tensor, labels: np.ndarray) -> None:
        scaled = scores.float() / self._temperature
        if self.probabilities is not None:
            self._keep_probabilities(self.probabilities, undo, row, scaled)
        if self.uncertainty is not None:
            entropy = (region_entropy(scaled) if self._regions else class_entropy(scaled)).numpy()
            self._add(entropy, labels)
            with self.uncertainty.writing(entropy.nbytes) as (volume,):
                undo.turn.apply(volume)[undo.crop_slices][row] = entropy

    def _keep_probabilities(self, file: NrrdMap, undo: Undo, row: int, scores: torch.Tensor) -> None:
        if row == 0 and not self._regions and undo.crop_shape != tuple(undo.shape[axis] for axis in undo.turn.axes):
            file.fill(0, 1.0)  # outside the crop all is background
        found = (torch.sigmoid(scores) if self._regions else torch.softmax(scores, dim=0)).numpy()
        with file.writing(found.nbytes) as volumes:
            for volume, probability in zip(volumes, found, strict=True):
                undo.turn.apply(volume)[undo.crop_slices][row] = probability

    def _add(self, entropy: np.ndarray, labels: np.ndarray) -> None:
        size = max(len(self._sums), int(labels.max()) + 1)
        flat = labels.ravel()
        self._sums = _longer(self._sums, size) + np.bincount(flat, entropy.ravel(), minlength=size)
        self._counts = _longer(self._counts, size) + np.bincount(flat, minlength=size)


def class_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Of the softmax over the first axis, over its largest value log(classes): (classes, J, I) -> (J, I), 0 to 1."""
    logs = F.log_softmax(scores, dim=0)
    return (-(logs.exp() * logs).sum(dim=0) / math.log(len(scores))).clamp_(0.0, 1.0)


def region_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Mean over the regions of the entropy of yes and no, in bits: (regions, J, I) -> (J, I), 0 to 1."""
    yes = torch.sigmoid(scores)
    nats = -(yes * F.logsigmoid(scores) + (1 - yes) * F.logsigmoid(-scores))
    return (nats.mean(dim=0) / math.log(2)).clamp_(0.0, 1.0)


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, (0, size - len(array)))
