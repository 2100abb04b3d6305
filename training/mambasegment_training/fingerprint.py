"""What a data set looks like, with everything that is wrong with it, and the plan that follows from it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError, MambaSegmentError
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.orientation import check_orientation, orientation_of, turn_towards
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.progress import Progress, ProgressCallback
from MambaSegmentLib.volume import Volume

from .case_files import RawCase, read_case
from .dataset import RawDataset
from .thumbnail import thumbnail

GRID_TOLERANCE_MM = 1e-2  # headers of the same grid, written by two programs, differ by rounding
INTENSITY_SAMPLES = 10_000  # intensities kept per case and channel
MOSTLY_EMPTY = 0.25  # share of voxels that are exactly 0 from which on the image counts as masked, as in nnU-Net
_KINDS = ("zscore", "rescale_0_1", "rgb", "ct", "none")
_NNUNET_NORMALIZATIONS = {"ct": "ct", "nonorm": "none", "rescale_to_0_1": "rescale_0_1", "rgb_to_0_1": "rgb"}
THICKER = 1.01  # than K by so much is another axis the one to cut across; less is rounding
THIN_SLICES = 3.0  # slices this much thicker than the pixels call for the 10th percentile, as in nnU-Net


@dataclass(frozen=True)
class CaseFacts:
    """Attributes:
    shape, spacing_mm: along (K, J, I), as stored.
    direction: of the axes (I, J, K), as in Volume.
    label_voxels: label value -> voxels, background and ignored voxels included.
    intensities: per channel, samples of the labelled voxels.
    zero_fraction: share of voxels that are 0 in all channels.
    image_sha256: of all channels' voxels.
    intensity_facts: per channel.
    thumbnail: a JPEG.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    label_voxels: dict[int, int]
    intensities: list[np.ndarray] = field(repr=False)
    zero_fraction: float
    image_sha256: str = ""
    intensity_facts: tuple["IntensityFacts", ...] = ()
    thumbnail: bytes = field(default=b"", repr=False)

    def volume_mm3(self, label: int) -> float:
        return self.label_voxels.get(label, 0) * float(np.prod(self.spacing_mm))


@dataclass(frozen=True)
class IntensityFacts:
    """Of one channel: all its voxels, and those that are labelled (NaN where none is)."""

    mean: float
    deviation: float
    labelled_mean: float
    highest: float  # the 99.9th percentile

    def labelled(self, absolute: bool) -> float:
        return self.labelled_mean if absolute else (self.labelled_mean - self.mean) / self.deviation

    def brightest(self, absolute: bool) -> float:
        return self.highest if absolute else (self.highest - self.mean) / self.deviation


def look_at_cases(
    dataset: RawDataset, progress: ProgressCallback | None = None
) -> tuple[dict[str, CaseFacts], dict[str, str]]:
    """Read and check every case.

    Returns:
        Facts of the cases that can be used, and what is wrong with the others, so that all are repaired in one go.
    """
    facts: dict[str, CaseFacts] = {}
    problems: dict[str, str] = {}
    for done, case in enumerate(dataset.cases, start=1):
        try:
            facts[case.identifier] = look_at_case(case, dataset)
        except MambaSegmentError as error:
            problems[case.identifier] = str(error)
        if progress is not None:
            progress(Progress("checking", done, len(dataset.cases)))
    return facts, problems


def look_at_case(case: RawCase, dataset: RawDataset) -> CaseFacts:
    """Check one case and measure it.

    Raises:
        GeometryError: image and labels, or two channels, lie on different grids.
        ImageError: voxels that are no numbers, a constant channel, or labels that the data set does not declare.
    """
    images, labels = read_case(case, dataset.reading)
    check_grids(case, images, labels)
    for path, volume in zip(_files(case, images), images, strict=True):
        if not np.isfinite(volume.array).all():
            raise ImageError(f"{_short(path)} holds voxels that are NaN or infinite; replace them")
        if volume.array.min() == volume.array.max():
            raise ImageError(f"{_short(path)} has the same value everywhere; there is nothing to learn from it")
    label_voxels = _count_labels(labels.array, _short(case.labels), dataset)
    known = [value for value in label_voxels if value not in (0, dataset.ignore_label)]
    foreground = np.isin(labels.array, known) if known else np.ones(labels.array.shape, bool)
    digest = hashlib.sha256()
    for volume in images:
        digest.update(np.ascontiguousarray(volume.array).data)
    return CaseFacts(
        shape=labels.array.shape,
        spacing_mm=images[0].spacing_mm[::-1],
        direction=images[0].direction,
        label_voxels=label_voxels,
        intensities=[_even_sample(volume.array[foreground]) for volume in images],
        zero_fraction=float(np.mean(np.all([volume.array == 0 for volume in images], axis=0))),
        image_sha256=digest.hexdigest(),
        intensity_facts=tuple(_intensity_facts(volume.array, foreground if known else None) for volume in images),
        thumbnail=thumbnail(images[0], labels.array, known),
    )


def check_grids(case: RawCase, images: Sequence[Volume], labels: Volume) -> None:
    """Raises: GeometryError, when a channel or the labels do not lie on the grid of the first channel."""
    files = _files(case, images)
    for path, volume in zip((*files[1:], case.labels), (*images[1:], labels), strict=True):
        if not images[0].same_grid(volume, GRID_TOLERANCE_MM):
            raise GeometryError(_grids_differ(case.images[0], images[0], path, volume))


def _files(case: RawCase, images: Sequence[Volume]) -> tuple[Path, ...]:
    """One for each channel; the colours of a picture are all in one."""
    return case.images if len(case.images) == len(images) else case.images * len(images)


def _even_sample(values: np.ndarray) -> np.ndarray:
    """INTENSITY_SAMPLES of the values, evenly spaced in their order: every case weighs the same, as in nnU-Net.

    nnU-Net draws 1e8 values of all cases together, with repetition, which takes seconds and gigabytes; these keep each
    case's distribution to 1 / 10,000 and need no random numbers.
    """
    places = ((np.arange(INTENSITY_SAMPLES) + 0.5) * values.size / INTENSITY_SAMPLES).astype(np.int64)
    return np.sort(values)[places].astype(np.float64)


def _intensity_facts(array: np.ndarray, labelled: np.ndarray | None) -> IntensityFacts:
    step = max(1, array.size // 1_000_000)  # a percentile of a million voxels is that of all
    return IntensityFacts(
        mean=float(array.mean(dtype=np.float64)),
        deviation=float(array.std(dtype=np.float64)),
        labelled_mean=float("nan") if labelled is None else float(array[labelled].mean(dtype=np.float64)),
        highest=float(np.percentile(array.reshape(-1)[::step], 99.9)),
    )


def _count_labels(array: np.ndarray, name: str, dataset: RawDataset) -> dict[int, int]:
    values, counts = np.unique(array, return_counts=True)
    if not np.array_equal(values, np.round(values)) or values.min() < 0 or values.max() > 254:
        raise ImageError(f"{name} holds the values {_some_values(values)}; labels are whole numbers from 0 to 254")
    found = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    if dataset.label_names is not None:
        declared = {0, *dataset.label_names} | ({dataset.ignore_label} if dataset.ignore_label is not None else set())
        undeclared = sorted(set(found) - declared)
        if undeclared:
            raise ImageError(
                f"{name} holds label {undeclared[0]} ({found[undeclared[0]]} voxels), which is not declared; "
                f"declared: {', '.join(map(str, sorted(declared)))}. Correct the file or declare the label"
            )
    return found


@dataclass(frozen=True)
class Wishes:
    """What a user, or a paper, wants of the preprocessing; None and the like leave it to the data.

    Attributes:
        orientation: three letters or "as stored".
        resize: rows and columns (J, I) of every slice, instead of a common voxel size.
        nearest: resample images without interpolation.
        normalization: kind for all channels, see `MambaSegmentLib.normalization`.
    """

    orientation: str | None = None
    resize: tuple[int, int] | None = None
    nearest: bool = False
    normalization: str | None = None

    def __post_init__(self) -> None:
        if self.orientation is not None:
            check_orientation(self.orientation)
        if self.normalization not in (None, *_KINDS):
            raise ConfigError(f"normalization {self.normalization!r} is not known; expected one of {', '.join(_KINDS)}")

    def over(self, others: "Wishes") -> "Wishes":
        """These, and the others' where these leave it to the data."""
        return Wishes(
            orientation=self.orientation or others.orientation,
            resize=self.resize or others.resize,
            nearest=self.nearest or others.nearest,
            normalization=self.normalization or others.normalization,
        )


NO_WISHES = Wishes()


def decide_preprocessing(
    dataset: RawDataset, facts: Sequence[CaseFacts], wishes: Wishes = NO_WISHES
) -> PreprocessingSpec:
    """The steps between a stored image and the network's input.

    Orientation is the most frequent one of the data, spacing the median per axis (for thick slices, as nnU-Net does,
    the 10th percentile along them), and the axis with the longest voxels comes first. CT is normalised by the labelled
    voxels of all cases, everything else by its own mean and deviation, unless the channel has one of nnU-Net's names
    for another way.
    """
    orientation = wishes.orientation
    if orientation is None:
        orientation = Counter(orientation_of(case.direction) for case in facts).most_common(1)[0][0]
    spacings = np.array([turn_towards(case.direction, orientation).permute(case.spacing_mm) for case in facts])
    spacing_mm = np.median(spacings, axis=0)
    thick = int(np.argmax(spacing_mm))
    if spacing_mm[thick] > THIN_SLICES * np.delete(spacing_mm, thick).max():
        thin = float(np.percentile(spacings[:, thick], 10))
        spacing_mm[thick] = max(thin, float(np.delete(spacing_mm, thick).max()))
    masked = float(np.median([case.zero_fraction for case in facts])) > MOSTLY_EMPTY
    normalization = tuple(
        _normalization(
            wishes.normalization or _kind_of(name), np.concatenate([case.intensities[index] for case in facts]), masked
        )
        for index, name in enumerate(dataset.channels)
    )
    order = _thickest_first(spacing_mm)
    first, second, third = (round(float(spacing_mm[axis]), 6) for axis in order)
    return PreprocessingSpec(
        orientation=orientation,
        axis_order=order,
        spacing_mm=None if wishes.resize else (first, second, third),
        size=(None, *wishes.resize) if wishes.resize else None,
        normalization=normalization,
        resampling_order=0 if wishes.nearest else 3,
        coarse_axis_order=0,
    )


def _short(path: Path) -> str:
    """With its folder, since images and labels have the same names."""
    return f"{path.parent.name}/{path.name}"


def _grids_differ(first: Path, one: Volume, second: Path, other: Volume) -> str:
    def text(volume: Volume) -> str:
        spacing = " x ".join(f"{value:g}" for value in volume.spacing_mm)
        origin = ", ".join(f"{value:g}" for value in volume.origin_mm)
        return f"{volume.array.shape} voxels of {spacing} mm from ({origin})"

    return (
        f"{_short(first)} and {_short(second)} lie on different grids: {text(one)} against {text(other)}; "
        "resample one to the other, or correct the header"
    )


def _some_values(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values[:6]) + (" …" if len(values) > 6 else "")


def _thickest_first(spacing_mm: np.ndarray) -> tuple[int, int, int]:
    """Slices are cut across the axis along which voxels are longest, as nnU-Net does; K unless another is longer."""
    thickest = int(np.argmax(spacing_mm))
    first, second, third = (thickest, *(axis for axis in range(3) if axis != thickest))
    return (first, second, third) if spacing_mm[thickest] > THICKER * spacing_mm[0] else (0, 1, 2)


def _kind_of(channel: str) -> str:
    """What nnU-Net does for a channel of this name."""
    return _NNUNET_NORMALIZATIONS.get(channel.strip().casefold(), "zscore")


def _normalization(kind: str, intensities: np.ndarray, masked: bool) -> Normalization:
    if kind == "zscore" and masked:
        return Normalization("zscore_nonzero")
    if kind != "ct":
        return Normalization(kind)
    lower, upper = (float(value) for value in np.percentile(intensities, (0.5, 99.5)))
    return Normalization("ct", lower, upper, float(intensities.mean()), float(intensities.std()))
