"""Which way the axes of a volume point, and how to turn an array without touching its values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ConfigError

AS_STORED = "as stored"
_POSITIVE, _NEGATIVE = "LPS", "RAI"  # the end that an axis points to, per row of a direction matrix in LPS


@dataclass(frozen=True)
class Turn:
    """A permutation of array axes followed by flips; undone exactly.

    Attributes:
        axes: axis n of the turned array is axis `axes[n]` of the original, both in array order.
        flipped: axes of the turned array that run backwards.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[int, ...] = ()

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of `array`, (K, J, I) as stored -> turned."""
        return np.flip(np.transpose(array, self.axes), self.flipped)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """A view of `array`, turned -> (K, J, I) as stored."""
        return np.transpose(np.flip(array, self.flipped), np.argsort(self.axes))

    def permute(self, values: Sequence[float]) -> tuple[float, ...]:
        """One value for each axis, such as the spacing, in the turned array's order."""
        return tuple(values[axis] for axis in self.axes)


def check_orientation(code: str) -> None:
    """Raises: ConfigError, unless `code` is "as stored" or holds one of R/L, one of A/P and one of S/I."""
    if code == AS_STORED:
        return
    if len(code) != 3 or {_row(letter) for letter in code} != {0, 1, 2}:
        raise ConfigError(
            f'orientation {code!r} is not known; expected "{AS_STORED}" or three letters, '
            'one of R/L, one of A/P and one of S/I, such as "LPS"'
        )


def orientation_of(direction: Sequence[float]) -> str:
    """The three letters nearest to a direction matrix, for the I, J and K axis, as SimpleITK's DICOMOrient names them.

    Args:
        direction: 9 floats, row-major, LPS; column n is the direction of index axis n. The identity is "LPS".
    """
    matrix = np.asarray(direction, dtype=np.float64).reshape(3, 3)
    letters = ["", "", ""]
    remaining = np.abs(matrix)
    for _ in range(3):  # the clearest axis chooses first, so that no anatomical axis is taken twice
        row, column = np.unravel_index(int(np.argmax(remaining)), (3, 3))
        letters[int(column)] = (_POSITIVE if matrix[row, column] > 0 else _NEGATIVE)[int(row)]
        remaining[row, :] = -1.0
        remaining[:, column] = -1.0
    return "".join(letters)


def turn_towards(direction: Sequence[float], code: str, axis_order: tuple[int, int, int] = (0, 1, 2)) -> Turn:
    """The turn that brings an array with this direction into orientation `code`, its axes then in `axis_order`.

    Oblique volumes are turned to the nearest of the 48 orientations; nothing is resampled.
    """
    axes_ijk: list[int] = [0, 1, 2]
    flips_ijk = [False, False, False]
    if code != AS_STORED:
        stored = orientation_of(direction)
        axes_ijk = [next(axis for axis in range(3) if _row(stored[axis]) == _row(letter)) for letter in code]
        flips_ijk = [stored[axis] != letter for axis, letter in zip(axes_ijk, code, strict=True)]
    axes_kji = [2 - axes_ijk[2 - axis] for axis in range(3)]
    flips_kji = flips_ijk[::-1]
    return Turn(
        axes=(axes_kji[axis_order[0]], axes_kji[axis_order[1]], axes_kji[axis_order[2]]),
        flipped=tuple(new for new, axis in enumerate(axis_order) if flips_kji[axis]),
    )


def _row(letter: str) -> int:
    """The anatomical axis of a letter: 0 for R/L, 1 for A/P, 2 for S/I, -1 for any other."""
    return max(_POSITIVE.find(letter), _NEGATIVE.find(letter))
