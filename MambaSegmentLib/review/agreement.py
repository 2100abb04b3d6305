"""All measures of agreement of two label volumes, by one stated rule for structures that one of them lacks.

The rule, after Metrics Reloaded (Maier-Hein et al. 2024, Nature Methods 21), which asks for an explicit one:

* a ratio whose denominator is 0 does not exist: it is None, and no mean counts it;
* where neither volume has the structure, that is so for Dice, IoU, precision, sensitivity, NSD and the distances;
* where one alone has it, Dice, IoU and NSD are 0, and a distance, which has no upper end, gets the worst value that
  the image allows: from one corner of it to the opposite one. Left out instead, missing an organ would make a method's
  distances look better.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, GeometryError
from ..volume import Volume
from .confusion import Confusion, confusion_matrix
from .instances import InstanceMatch, match_pieces
from .measure import voxel_volume_ml
from .structures import Structure
from .surface import SurfaceDistances, distances_of

Empty = Literal["both", "reference", "predicted"]


@dataclass(frozen=True)
class Rules:
    """How to measure.

    Attributes:
        tolerance_mm: of the NSD.
        hd95: "larger" of the two directed percentiles, or "pooled", one of all distances together (Mamba-UNet's code).
        missed: what a distance is where one volume alone has the structure: the image's "diagonal", or "left out".
        ignore_label: voxels that have it in the reference count nowhere.
        instances: count matching pieces too, for cells and lesions.
    Raises:
        ConfigError: a value that none of these can be.
    """

    tolerance_mm: float = 1.0
    hd95: Literal["larger", "pooled"] = "larger"
    missed: Literal["diagonal", "left out"] = "diagonal"
    ignore_label: int | None = None
    instances: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise ConfigError(f"the tolerance is {self.tolerance_mm} mm; expected 0 or more")
        for name, known in (("hd95", ("larger", "pooled")), ("missed", ("diagonal", "left out"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(map(repr, known))}")


@dataclass(frozen=True)
class Agreement:
    """Of one structure; what does not exist is None.

    Attributes:
        values: the label values of the structure in the reference.
        empty: which of the volumes lacks it.
        accuracy, specificity: over the whole image, so that they say little of a small structure.
        hd95_mm, asd_mm, assd_mm, nsd: of the surfaces, see `surface.py`.
        instance_f1 and what follows: only where they were asked for.
    """

    name: str
    values: tuple[int, ...]
    reference_voxels: int
    predicted_voxels: int
    reference_ml: float
    predicted_ml: float
    empty: Empty | None
    dice: float | None
    iou: float | None
    accuracy: float | None
    precision: float | None
    sensitivity: float | None
    specificity: float | None
    hd95_mm: float | None
    asd_mm: float | None
    assd_mm: float | None
    nsd: float | None
    instance_f1: float | None = None
    instances_matched: int | None = None
    instances_spurious: int | None = None
    instances_missed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "values": list(self.values)}


# what a mean over cases makes sense of, in the order of tables
METRICS = (
    "dice",
    "iou",
    "accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "hd95_mm",
    "asd_mm",
    "assd_mm",
    "nsd",
    "instance_f1",
)
LOWER_IS_BETTER = frozenset({"hd95_mm", "asd_mm", "assd_mm"})
HEADINGS: Mapping[str, str] = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "accuracy",
    "precision": "precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "hd95_mm": "HD95 mm",
    "asd_mm": "ASD mm",
    "assd_mm": "ASSD mm",
    "nsd": "NSD",
    "instance_f1": "F1",
}


@dataclass(frozen=True)
class CaseAgreement:
    """Of a case.

    Attributes:
        structures: in the order asked for.
        accuracy: voxels, background among them, that have the right label.
        mean_dice, mean_iou: over the single labels that either volume has, or over the regions where there are only
            such; mean_iou is mIoU.
    """

    structures: tuple[Agreement, ...]
    accuracy: float | None
    mean_dice: float | None
    mean_iou: float | None


def measure_agreement(
    predicted: Volume, reference: Volume, structures: Sequence[Structure], rules: Rules | None = None
) -> CaseAgreement:
    """Compare two label volumes.

    Args:
        predicted, reference: integer labels on one grid; 0 is the background.
        structures: labels and regions to measure; other values count as background.
    Raises:
        GeometryError: they lie on different grids. ShapeError: no integer labels.
    """
    rules = rules or Rules()
    if not predicted.same_grid(reference):
        raise GeometryError(
            f"the predicted labels {predicted.array.shape} do not lie on the grid of the reference "
            f"{reference.array.shape}: size, spacing, origin or direction differ; resample one to the other's grid"
        )
    matrix = confusion_matrix(predicted.array, reference.array, rules.ignore_label)
    arrays = _without_ignored(predicted.array, reference.array, rules.ignore_label)
    boxes = _boxes(arrays)
    measured = tuple(
        _measure(structure, matrix.of(structure), arrays, boxes, reference, rules) for structure in structures
    )
    single = [agreement for agreement in measured if len(agreement.values) == 1] or measured
    return CaseAgreement(
        measured,
        matrix.accuracy,
        _mean([agreement.dice for agreement in single]),
        _mean([agreement.iou for agreement in single]),
    )


def _measure(
    structure: Structure,
    voxels: Confusion,
    arrays: tuple[NDArray[np.integer], NDArray[np.integer]],
    boxes: Mapping[int, tuple[slice, ...]],
    grid: Volume,
    rules: Rules,
) -> Agreement:
    box = _around([boxes[value] for value in structure.values if value in boxes])
    distances = None if box is None else distances_of(structure, *arrays, grid.spacing_mm, box)
    pieces = _match(structure, arrays, box) if rules.instances else None
    empty = _empty(voxels)
    voxel_ml = voxel_volume_ml(grid.spacing_mm)
    return Agreement(
        name=structure.name,
        values=structure.values,
        reference_voxels=voxels.reference,
        predicted_voxels=voxels.predicted,
        reference_ml=voxels.reference * voxel_ml,
        predicted_ml=voxels.predicted * voxel_ml,
        empty=empty,
        dice=voxels.dice,
        iou=voxels.iou,
        accuracy=voxels.accuracy,
        precision=voxels.precision,
        sensitivity=voxels.sensitivity,
        specificity=voxels.specificity,
        **_of_surfaces(distances, empty, grid, rules),
        instance_f1=None if pieces is None else pieces.f1,
        instances_matched=None if pieces is None else pieces.matched,
        instances_spurious=None if pieces is None else pieces.spurious,
        instances_missed=None if pieces is None else pieces.missed,
    )


def _of_surfaces(
    distances: SurfaceDistances | None, empty: Empty | None, grid: Volume, rules: Rules
) -> dict[str, float | None]:
    if distances is not None:
        return {
            "hd95_mm": distances.hausdorff_mm(pooled=rules.hd95 == "pooled"),
            "asd_mm": distances.average_mm,
            "assd_mm": distances.average_symmetric_mm,
            "nsd": distances.within(rules.tolerance_mm),
        }
    missed = empty in ("reference", "predicted")
    worst = diagonal_mm(grid) if missed and rules.missed == "diagonal" else None
    return {"hd95_mm": worst, "asd_mm": worst, "assd_mm": worst, "nsd": 0.0 if missed else None}


def diagonal_mm(grid: Volume) -> float:
    """The largest distance between two voxel centres of the image."""
    return math.hypot(*((n - 1) * mm for n, mm in zip(grid.array.shape[::-1], grid.spacing_mm, strict=True)))


def _empty(voxels: Confusion) -> Empty | None:
    if voxels.reference and voxels.predicted:
        return None
    if voxels.reference:
        return "predicted"
    return "reference" if voxels.predicted else "both"


def _without_ignored(
    predicted: NDArray[np.integer], reference: NDArray[np.integer], ignore_label: int | None
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    if ignore_label is None:
        return predicted, reference
    ignored = reference == ignore_label
    return np.where(ignored, 0, predicted), np.where(ignored, 0, reference)


def _boxes(arrays: Sequence[NDArray[np.integer]]) -> dict[int, tuple[slice, ...]]:
    """For each label the box that holds it in both arrays."""
    from scipy import ndimage  # slow to import

    boxes: dict[int, tuple[slice, ...]] = {}
    for array in arrays:
        labels = array.astype(np.uint8) if array.dtype == np.bool_ else array
        for value, box in enumerate(ndimage.find_objects(labels), start=1):
            if box is not None:
                boxes[value] = box if value not in boxes else _union(boxes[value], box)
    return boxes


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...] | None:
    box = None
    for other in boxes:
        box = other if box is None else _union(box, other)
    return box


def _union(one: tuple[slice, ...], other: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _match(
    structure: Structure, arrays: tuple[NDArray[np.integer], NDArray[np.integer]], box: tuple[slice, ...] | None
) -> InstanceMatch:
    if box is None:
        return InstanceMatch(0, 0, 0)
    predicted, reference = (structure.mask(array[box]) for array in arrays)
    return match_pieces(predicted, reference)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
