"""How sure a model was, and its class probabilities, written slice by slice while the labels are made.

The uncertainty of a voxel is the entropy of the probabilities, over the largest that there can be: 0 where one class
has all, 1 where all are alike. With regions, each a yes or no of its own, it is the mean of their entropies. The
disagreement is that of the members, see `entropy.py`. Scores are divided by the model's temperature first, see
`calibration.py`; that changes no label.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from MambaSegmentLib.calibration import temperature
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.preprocess import Undo
from MambaSegmentLib.raw_nrrd import NrrdMap, refuse_full_disk, writable_nrrd
from MambaSegmentLib.volume import Volume

from .entropy import Disagreement, class_entropy, region_entropy
from .restoring import ScoreListener

if TYPE_CHECKING:
    from MambaSegmentLib.extras import Extras


@contextmanager
def score_files(extras: "Extras", grid: Volume, classes: tuple[str, ...]) -> Iterator["ScoreFiles"]:
    """Open the files that are wanted; they are whole when the block ends, and not there when it fails.

    Args:
        grid: the first image of the case.
        classes: names of the volumes of probabilities.
    Raises:
        ResourceError: the disk is too small for them. ImageError: they cannot be written.
    """
    files = ScoreFiles()
    wanted = ((extras.uncertainty, 1), (extras.disagreement, 1), (extras.probabilities, len(classes)))
    refuse_full_disk([(path, 4 * volumes * grid.array.size) for path, volumes in wanted if path is not None])
    with ExitStack() as stack:
        if extras.uncertainty is not None:
            files.uncertainty = stack.enter_context(writable_nrrd(extras.uncertainty, grid))
        if extras.disagreement is not None:
            files.disagreement = stack.enter_context(writable_nrrd(extras.disagreement, grid))
        if extras.probabilities is not None:
            files.probabilities = stack.enter_context(writable_nrrd(extras.probabilities, grid, classes))
        yield files


class ScoreFiles:
    """What is open; None where it is not wanted."""

    def __init__(self) -> None:
        self.uncertainty: NrrdMap | None = None
        self.disagreement: NrrdMap | None = None
        self.probabilities: NrrdMap | None = None

    def of(self, manifest: Manifest, extras: "Extras", *, over: bool = False) -> "ScoreWriter":
        """What turns the scores of one model into the files.

        Args:
            over: another model has written before: the larger one of two figures is kept.
        Raises:
            BundleError: a calibration that makes no sense.
        """
        return ScoreWriter(self, temperature(manifest, extras.calibrations), regions=bool(manifest.regions), over=over)

    def means(self, labels: Volume) -> dict[int, dict[str, Any]]:
        """To be called when all slices are there, before the files are closed.

        Returns:
            By label value, the mean uncertainty and disagreement of the voxels that have it; labels without voxels are
            left out.
        """
        found: dict[int, dict[str, Any]] = {}
        for name, file in (("mean_uncertainty", self.uncertainty), ("mean_disagreement", self.disagreement)):
            if file is not None:
                for value, mean in _mean_per_label(file, labels).items():
                    found.setdefault(value, {})[name] = mean
        return found


class ScoreWriter:
    """Turns the scores of each slice into what the files hold.

    Attributes:
        disagreement: to be measured by the predictor; None where it is not wanted.
    """

    def __init__(self, files: ScoreFiles, temperature: float, *, regions: bool, over: bool) -> None:
        self._files, self._temperature, self._regions, self._over = files, temperature, regions, over
        self._filled = False
        self.disagreement = None if files.disagreement is None else Disagreement(temperature, regions=regions)

    @property
    def listener(self) -> ScoreListener | None:
        """None where no file is open, so that nothing is computed."""
        files = (self._files.uncertainty, self._files.disagreement, self._files.probabilities)
        return self._take if any(file is not None for file in files) else None

    def finish(self) -> None:
        """To be called when all slices were told: where nothing was worth computing, none came."""
        self._fill_background()

    def _take(self, undo: Undo, row: int, scores: torch.Tensor, labels: np.ndarray) -> None:
        if self.disagreement is not None and self._files.disagreement is not None:
            self._keep(self._files.disagreement, undo, row, scores[-1].float().clamp(0.0, 1.0).numpy())
            scores = scores[:-1]
        scaled = scores.float() / self._temperature
        if self._files.probabilities is not None:
            self._keep_probabilities(self._files.probabilities, undo, row, scaled)
        if self._files.uncertainty is not None:
            entropy = region_entropy(scaled) if self._regions else class_entropy(scaled)
            self._keep(self._files.uncertainty, undo, row, entropy.numpy())

    def _keep(self, file: NrrdMap, undo: Undo, row: int, figures: np.ndarray) -> None:
        with file.writing(figures.nbytes) as (volume,):
            place = undo.turn.apply(volume)[undo.crop_slices][row]
            place[...] = np.maximum(place, figures) if self._over else figures

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
        if self._files.probabilities is not None and not self._regions and not self._filled:
            self._files.probabilities.fill(0, 1.0)
        self._filled = True


def class_names(manifest: Manifest) -> tuple[str, ...]:
    """Of the outputs of a model, in their order."""
    if manifest.regions:
        return tuple(region.name for region in manifest.regions)
    return ("background", *(segment.name for segment in manifest.segments))


def _mean_per_label(file: NrrdMap, labels: Volume) -> dict[int, float]:
    size = int(labels.array.max()) + 1
    sums, counts = np.zeros(size), np.zeros(size, np.int64)
    for k, plane in enumerate(labels.array):
        with file.writing(4 * plane.size) as (volume,):
            sums += np.bincount(plane.ravel(), volume[k].ravel(), minlength=size)
        counts += np.bincount(plane.ravel(), minlength=size)
    return {int(value): float(sums[value] / counts[value]) for value in np.flatnonzero(counts) if value}
