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
        self._filled = False

    @property
    def listener(self) -> ScoreListener | None:
        """None where no file is open, so that nothing is computed."""
        return self._take if self.uncertainty is not None or self.probabilities is not None else None

    def finish(self, labels: Volume) -> dict[int, dict[str, Any]]:
        """To be called when all slices are there, before the files are closed.

        Returns:
            By label value, the mean uncertainty of the voxels that have it; labels without voxels are left out.
        """
        self._fill_background()  # where nothing was worth computing, no slice came
        if self.uncertainty is None:
            return {}
        size = int(labels.array.max()) + 1
        sums, counts = np.zeros(size), np.zeros(size, np.int64)
        for k, plane in enumerate(labels.array):
            with self.uncertainty.writing(4 * plane.size) as (volume,):
                sums += np.bincount(plane.ravel(), volume[k].ravel(), minlength=size)
            counts += np.bincount(plane.ravel(), minlength=size)
        values = (int(value) for value in np.flatnonzero(counts) if value)
        return {value: {"mean_uncertainty": float(sums[value] / counts[value])} for value in values}

    def _take(self, undo: Undo, row: int, scores: torch.Tensor, labels: np.ndarray) -> None:
        scaled = scores.float() / self._temperature
        if self.probabilities is not None:
            self._keep_probabilities(self.probabilities, undo, row, scaled)
        if self.uncertainty is not None:
            entropy = (region_entropy(scaled) if self._regions else class_entropy(scaled)).numpy()
            with self.uncertainty.writing(entropy.nbytes) as (volume,):
                undo.turn.apply(volume)[undo.crop_slices][row] = entropy

    def _keep_probabilities(self, file: NrrdMap, undo: Undo, row: int, scores: torch.Tensor) -> None:
        if undo.crop_shape != tuple(undo.shape[axis] for axis in undo.turn.axes):
            self._fill_background()
        self._filled = True
        found = (torch.sigmoid(scores) if self._regions else torch.softmax(scores, dim=0)).numpy()
        with file.writing(found.nbytes) as volumes:
            for volume, probability in zip(volumes, found, strict=True):
                undo.turn.apply(volume)[undo.crop_slices][row] = probability

    def _fill_background(self) -> None:
        """Outside the crop all is background; once, before the first slice."""
        if self.probabilities is not None and not self._regions and not self._filled:
            self.probabilities.fill(0, 1.0)
        self._filled = True


def class_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Of the softmax over the first axis, over its largest value log(classes): (classes, J, I) -> (J, I), 0 to 1."""
    logs = F.log_softmax(scores, dim=0)
    return (-(logs.exp() * logs).sum(dim=0) / math.log(len(scores))).clamp_(0.0, 1.0)


def region_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Mean over the regions of the entropy of yes and no, in bits: (regions, J, I) -> (J, I), 0 to 1."""
    yes = torch.sigmoid(scores)
    nats = -(yes * F.logsigmoid(scores) + (1 - yes) * F.logsigmoid(-scores))
    return (nats.mean(dim=0) / math.log(2)).clamp_(0.0, 1.0)
