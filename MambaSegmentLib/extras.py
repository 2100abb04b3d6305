"""What is measured and written beside the labels of a case, when it is asked for."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ImageError
from .image_io import check_writable, exists
from .review.statistics_files import ENDINGS as STATISTICS_ENDINGS
from .review.statistics_files import write_statistics
from .volume import Volume

if TYPE_CHECKING:
    from .inference.predictor import SegmentationResult

SCORE_ENDINGS = (".nrrd",)  # written while the network computes, so the voxels must lie in the file as they are
SIDECAR_ENDINGS = (".json",)


@dataclass(frozen=True)
class Extras:
    """What is wanted besides the labels; files appear whole or not at all.

    Attributes:
        statistics: measure each segment: size, intensity, diameters, pieces.
        statistics_file: the same as .csv or .json.
        uncertainty: .nrrd, float32, on the grid of the first image: the entropy of the model's answer, 0 to 1.
        disagreement: the same of how far folds and mirrored copies disagree, 0 to 1; of several models, here and in
            uncertainty, the larger figure.
        probabilities: .nrrd, float32, 4-D: a volume for each class of the model, the background first.
        sidecar: .json, how the labels came about.
        calibrations: .json, see `calibration.py`: temperatures to use in place of the models' own.
    """

    statistics: bool = False
    statistics_file: Path | None = None
    uncertainty: Path | None = None
    probabilities: Path | None = None
    sidecar: Path | None = None
    disagreement: Path | None = None
    calibrations: tuple[Path, ...] = ()

    @property
    def measures(self) -> bool:
        return self.statistics or self.statistics_file is not None

    @property
    def files(self) -> tuple[Path, ...]:
        """In the order in which they are written."""
        listed = (self.uncertainty, self.disagreement, self.probabilities, self.statistics_file, self.sidecar)
        return tuple(path for path in listed if path is not None)

    def check(self, output: Path | None, images: Sequence[str | Path]) -> None:
        """Refuse files that could not be written after the work, or that would replace one another or an image.

        Raises:
            ImageError: a place that cannot be written, a wrong ending. ConfigError: one name twice.
        """
        for path, endings in self._endings():
            check_writable(path, endings)
            for given in (*map(Path, images), *self.calibrations):
                if exists(path) and exists(given) and path.samefile(given):
                    kind = "a calibration that is read" if given in self.calibrations else "an input image"
                    raise ImageError(f"{path} is {kind}, which would be lost; choose another name")
        names = [str(path.resolve()).casefold() for path in (*self.files, *([output] if output else []))]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ConfigError(f"{name} is asked for as two different outputs; give each a name of its own")

    def _endings(self) -> Iterator[tuple[Path, tuple[str, ...]]]:
        of_kinds = (
            (self.statistics_file, STATISTICS_ENDINGS),
            (self.uncertainty, SCORE_ENDINGS),
            (self.disagreement, SCORE_ENDINGS),
            (self.probabilities, SCORE_ENDINGS),
            (self.sidecar, SIDECAR_ENDINGS),
        )
        return ((path, endings) for path, endings in of_kinds if path is not None)


NOTHING = Extras()


def with_statistics(result: "SegmentationResult", image: Volume, extras: Extras) -> "SegmentationResult":
    """The result with the figures of each segment, and the file of them written, if they are wanted.

    Args:
        image: the first one of the case, for intensities.
    Raises:
        ImageError, ResourceError: the file cannot be written.
    """
    if not extras.measures:
        return result
    from .review.statistics import segment_statistics  # scipy is slow to import

    started = time.perf_counter()
    figures: dict[int, dict[str, Any]] = {}
    for found in segment_statistics(result.labels, result.segments, image):
        figures[found.value] = {**found.to_json(), **result.measures.get(found.value, {})}
        del figures[found.value]["value"], figures[found.value]["name"]
    timings = {**result.timings, "measure": time.perf_counter() - started}
    result = replace(result, measures=figures, timings=timings)
    if extras.statistics_file is not None:
        write_statistics(segment_rows(result), extras.statistics_file)
    return result


def segment_rows(result: "SegmentationResult") -> list[dict[str, Any]]:
    """Value, name and whatever was measured of each segment, as JSON objects."""
    return [{"value": s.value, "name": s.name, **result.measures.get(s.value, {})} for s in result.segments]
