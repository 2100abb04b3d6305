"""Bring the intensities of one channel to the range a network was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ConfigError, ImageError

_KINDS = ("zscore", "zscore_nonzero", "rescale_0_1", "rgb", "ct", "none")
_SMALLEST_DIVISOR = 1e-8  # as in nnU-Net


@dataclass(frozen=True)
class Normalization:
    """What is done to the intensities of one channel.

    Attributes:
        kind: "zscore" subtracts the mean and divides by the standard deviation of the whole (cropped) channel;
            "zscore_nonzero" takes both from the object alone, the voxels where any channel is not zero, holes
            included, and sets the rest to 0; "rescale_0_1" maps minimum and maximum to 0 and 1; "rgb" divides
            colours of 0 to 255 by 255; "ct" clips to [lower, upper], then subtracts `mean` and divides by `std`, all
            four taken from the training set; "none" only converts to float32.
        lower, upper, mean, std: for "ct" only, in the unit of the image.
    """

    kind: str
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigError(f"normalization {self.kind!r} is not known; expected one of {', '.join(_KINDS)}")
        numbers = self._numbers
        if self.kind == "ct" and not all(isinstance(number, int | float) for number in numbers):
            raise ConfigError(f'normalization "ct" needs the numbers lower, upper, mean and std; got {numbers}')
        if self.kind != "ct" and any(number is not None for number in numbers):
            raise ConfigError(f"normalization {self.kind!r} takes no lower, upper, mean or std; got {numbers}")

    @property
    def _numbers(self) -> tuple[float | None, ...]:
        return self.lower, self.upper, self.mean, self.std

    @classmethod
    def from_json(cls, document: str | Mapping[str, Any]) -> "Normalization":
        """From a kind alone or a JSON object with `kind` and, for "ct", its numbers; other keys are passed over."""
        if isinstance(document, str):
            return cls(document)
        return cls(document["kind"], *(document.get(key) for key in ("lower", "upper", "mean", "std")))

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `from_json` reads."""
        if self.kind != "ct":
            return {"kind": self.kind}
        return {"kind": "ct", "lower": self.lower, "upper": self.upper, "mean": self.mean, "std": self.std}

    @property
    def needs_object_mask(self) -> bool:
        return self.kind == "zscore_nonzero"

    def fit(self, channel: np.ndarray, object_mask: np.ndarray | None = None) -> "FittedNormalization":
        """Take from a channel what its normalisation needs; sums are float64, slice after slice, so repeatable.

        Args:
            channel: (K, J, I), any real dtype, finite.
            object_mask: bool (K, J, I), for "zscore_nonzero".
        Raises:
            ImageError: values outside 0 to 255 where colours are expected.
        """
        if self.kind == "none":
            return FittedNormalization()
        if self.kind == "ct":
            lower, upper, mean, std = (float(number or 0.0) for number in self._numbers)
            return FittedNormalization(mean, std, clip=(lower, upper))
        if self.kind == "rgb":
            _check_colours(channel)
            return FittedNormalization(0.0, 255.0)
        if self.kind == "rescale_0_1":
            low, high = float(channel.min()), float(channel.max())
            return FittedNormalization(low, high - low)
        mask = object_mask if self.needs_object_mask else None
        return FittedNormalization(*_mean_and_std(channel, mask), masked=self.needs_object_mask)

    def apply(self, channel: np.ndarray, object_mask: np.ndarray | None = None) -> np.ndarray:
        """Normalise a whole channel: `fit`, then `FittedNormalization.apply`."""
        return self.fit(channel, object_mask).apply(channel, object_mask)


@dataclass(frozen=True)
class FittedNormalization:
    """What is done to every voxel of one channel.

    Attributes:
        shift, divisor: subtracted first, divided by then; None converts to float32 and nothing else.
        clip: lowest and highest value kept, before that.
        masked: voxels outside the object become 0.
    """

    shift: float | None = None
    divisor: float = 1.0
    clip: tuple[float, float] | None = None
    masked: bool = False

    def apply(self, rows: np.ndarray, object_mask: np.ndarray | None = None) -> np.ndarray:
        """Normalise slices of the channel.

        Args:
            rows: (rows, J, I), any real dtype.
            object_mask: bool, of the same shape, where `masked`.
        Returns:
            A new contiguous float32 array.
        """
        if self.shift is None:
            return np.ascontiguousarray(rows, dtype=np.float32).copy()
        result = np.empty(rows.shape, dtype=np.float32)
        for k in range(rows.shape[0]):  # a slice at a time keeps the float64 copy small
            values = rows[k].astype(np.float64)
            if self.clip is not None:
                np.clip(values, *self.clip, out=values)
            values -= self.shift
            values /= max(self.divisor, _SMALLEST_DIVISOR)
            result[k] = np.where(object_mask[k], values, 0.0) if self.masked and object_mask is not None else values
        return result


def _check_colours(channel: np.ndarray) -> None:
    low, high = channel.min(), channel.max()
    if low < 0 or high > 255:
        raise ImageError(f"the model takes colours from 0 to 255; the image ranges from {low} to {high}")


def _mean_and_std(channel: np.ndarray, mask: np.ndarray | None) -> tuple[float, float]:
    """Mean and population standard deviation, in two passes: one pass loses digits where the mean is large."""

    def slices() -> "list[np.ndarray]":
        return [channel[k] if mask is None else channel[k][mask[k]] for k in range(channel.shape[0])]

    count = channel.size if mask is None else int(np.count_nonzero(mask))
    if count == 0:
        return 0.0, 1.0
    mean = sum(float(values.sum(dtype=np.float64)) for values in slices()) / count
    squares = sum(float(np.square(values.astype(np.float64) - mean).sum()) for values in slices())
    return mean, float(np.sqrt(squares / count))
