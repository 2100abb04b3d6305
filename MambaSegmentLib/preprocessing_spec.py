"""What is done to a case before the network sees it, as every bundle says it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError
from .normalization import Normalization
from .orientation import AS_STORED, check_orientation


@dataclass(frozen=True)
class PreprocessingSpec:
    """What is done to a case before the network sees it; part of every bundle.

    Attributes:
        normalization: one entry per channel.
        orientation: "as stored", or three letters for the I, J and K axis, named as SimpleITK's DICOMOrient does.
        axis_order: array axes after turning, a permutation of (0, 1, 2); nnU-Net's transpose_forward.
        spacing_mm: wanted voxel size along the axes of the prepared array, (K, J, I) when `axis_order` is
            (0, 1, 2); None as a whole, or for one axis, keeps what the volume has.
        size: wanted number of voxels along the same axes, whatever their size becomes, for networks that were trained
            on images of one size; None as a whole, or for one axis, where the spacing decides.
        resampling_order: spline order for images, 0..3. Labels and class scores go linearly, or nearest for order 0.
        coarse_axis_order: order along the coarse axis of a volume with thick slices (one axis more than three times
            the finest, before or, failing that, after resampling), for images, labels and scores alike;
            None treats all axes alike.
        score_orders: order and coarse axis order for class scores where they are not those of labels, as imported
            plans may say.
        crop: "none", or "nonzero" for the bounding box of all voxels that are not zero in some channel.
    """

    normalization: tuple[Normalization, ...]
    orientation: str = AS_STORED
    axis_order: tuple[int, int, int] = (0, 1, 2)
    spacing_mm: tuple[float | None, float | None, float | None] | None = None
    resampling_order: int = 3
    coarse_axis_order: int | None = None
    score_orders: tuple[int, int | None] | None = None
    crop: str = "none"
    size: tuple[int | None, int | None, int | None] | None = None

    def __post_init__(self) -> None:
        check_orientation(self.orientation)
        if not self.normalization:
            raise ConfigError("preprocessing needs a normalization for each channel; got none")
        if sorted(self.axis_order) != [0, 1, 2]:
            raise ConfigError(f"axis_order {self.axis_order} is no permutation of (0, 1, 2)")
        if self.spacing_mm is not None and (
            len(self.spacing_mm) != 3 or not all(_is_spacing(wanted) for wanted in self.spacing_mm)
        ):
            raise ConfigError(f"spacing_mm {self.spacing_mm} must hold three positive numbers or None")
        if self.size is not None and (len(self.size) != 3 or not all(_is_size(wanted) for wanted in self.size)):
            raise ConfigError(f"size {self.size} must hold three whole numbers above 0, or None")
        if self.resampling_order not in range(4) or self.coarse_axis_order not in (None, 0, 1, 2, 3):
            raise ConfigError(
                f"resampling orders {self.resampling_order} and {self.coarse_axis_order} must be 0, 1, 2 or 3"
            )
        if self.score_orders is not None and (
            len(self.score_orders) != 2
            or self.score_orders[0] not in range(4)
            or self.score_orders[1] not in (None, 0, 1, 2, 3)
        ):
            raise ConfigError(f"score orders {self.score_orders} must be two of 0, 1, 2 or 3; the second may be None")
        if self.crop not in ("none", "nonzero"):
            raise ConfigError(f'crop {self.crop!r} is not known; expected "none" or "nonzero"')

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "PreprocessingSpec":
        """Read the `preprocessing` object of a bundle; keys that are not known are passed over.

        Raises:
            ConfigError: a key that is missing or makes no sense.
        """
        try:
            resampling = document.get("resampling", {})
            spacing_mm, size = document.get("spacing_mm"), document.get("size")
            scores = resampling.get("scores")
            return cls(
                normalization=tuple(Normalization.from_json(entry) for entry in document["normalization"]),
                orientation=document.get("orientation", AS_STORED),
                axis_order=tuple(document.get("axis_order", (0, 1, 2))),
                spacing_mm=None if spacing_mm is None else tuple(spacing_mm),
                resampling_order=resampling.get("order", 3),
                coarse_axis_order=resampling.get("coarse_axis_order"),
                score_orders=None if scores is None else (scores["order"], scores.get("coarse_axis_order")),
                crop=document.get("crop", "none"),
                size=None if size is None else tuple(size),
            )
        except (AttributeError, KeyError, TypeError) as problem:
            raise ConfigError(f"the preprocessing {document!r} cannot be understood ({problem!r})") from problem

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `from_json` reads."""
        resampling: dict[str, Any] = {"order": self.resampling_order, "coarse_axis_order": self.coarse_axis_order}
        if self.score_orders is not None:
            order, coarse = self.score_orders
            resampling["scores"] = {"order": order, "coarse_axis_order": coarse}
        return {
            "orientation": self.orientation,
            "axis_order": list(self.axis_order),
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "normalization": [entry.to_json() for entry in self.normalization],
            "resampling": resampling,
            "crop": self.crop,
            **({} if self.size is None else {"size": list(self.size)}),
        }


def _is_spacing(value: float | None) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value) and value > 0)


def _is_size(value: int | None) -> bool:
    return value is None or (type(value) is int and value > 0)
