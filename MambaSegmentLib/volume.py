"""Volume: voxels together with the place where they lie in the patient.

The array is in (K, J, I) order, as NumPy and networks see it. Spacing, origin and direction are in (I, J, K) order and
in LPS coordinates (x to the patient's left, y to posterior, z to superior), as SimpleITK gives them. Every function of
the library that needs geometry takes a Volume, so that the two orders meet only here.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import GeometryError, ImageError, ShapeError

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813  (the name that SimpleITK's own documentation uses)

# Largest |DᵀD - 1| of a direction matrix D that still counts as orthonormal. Cosines rounded to four digits reach
# 2e-4; 5e-4 is an angle of 0.03 degrees, which moves the far side of a 250 mm volume by 0.1 mm.
ORTHONORMAL_TOLERANCE = 5e-4


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their grid.

    Attributes:
        array: shape (K, J, I), any real dtype; never copied or converted.
        spacing_mm: distance between voxel centres along (I, J, K).
        origin_mm: centre of voxel (0, 0, 0), LPS.
        direction: 3×3 matrix, row-major; its columns are the unit vectors of the I, J and K axes in LPS.
    Raises:
        ShapeError: the array is not 3-D, has no voxels or is not made of real numbers.
        GeometryError: a spacing that is not a positive number, an origin that is no number, or axes that are not
            perpendicular unit vectors (shear, as in a CT with tilted gantry).
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        _check_array(self.array)
        for name, count in (("spacing_mm", 3), ("origin_mm", 3), ("direction", 9)):
            object.__setattr__(self, name, _floats(name, getattr(self, name), count))
        if not all(math.isfinite(value) and value > 0 for value in self.spacing_mm):
            raise GeometryError(
                f"the voxel spacing is {_text(self.spacing_mm)} mm along (I, J, K); three positive numbers are needed. "
                "Correct the spacing in the file's header"
            )
        if not all(math.isfinite(value) for value in self.origin_mm):
            raise GeometryError(f"the origin is {_text(self.origin_mm)} mm; three finite numbers are needed")
        _check_orthonormal(self.direction)

    @classmethod
    def from_sitk(cls, image: "sitk.Image") -> "Volume":
        """Take over a SimpleITK image; a 2-D one becomes a single slice, trailing axes of length 1 are dropped.

        Raises:
            ImageError: more than one number per voxel, or complex ones. ShapeError: 4-D. GeometryError: as for Volume.
        """
        import SimpleITK as sitk  # noqa: N813

        components = image.GetNumberOfComponentsPerPixel()
        if components != 1:
            raise ImageError(
                f"the image has {components} numbers per voxel (a colour or vector image); one is needed. "
                "Save each channel as an image of its own"
            )
        if "complex" in image.GetPixelIDTypeAsString():
            raise ImageError("the image holds complex numbers; save its magnitude as a real image")
        dimension = image.GetDimension()
        matrix = np.eye(max(dimension, 3))
        matrix[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
        array = sitk.GetArrayFromImage(image)
        while array.ndim > 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim == 2:
            array = array[None]
        return cls(
            array,
            spacing_mm=(*image.GetSpacing(), 1.0)[:3],
            origin_mm=(*image.GetOrigin(), 0.0)[:3],
            direction=tuple(matrix[:3, :3].ravel()),
        )

    def to_sitk(self) -> "sitk.Image":
        """The same grid and voxels as a SimpleITK image; bool becomes uint8, every other dtype stays.

        Raises:
            ImageError: a dtype that SimpleITK does not know, such as float16.
        """
        import SimpleITK as sitk  # noqa: N813

        array = self.array.astype(np.uint8) if self.array.dtype == bool else self.array
        array = array.astype(array.dtype.newbyteorder("="), copy=False)  # SimpleITK knows no foreign byte order
        try:
            image = sitk.GetImageFromArray(array)
        except (KeyError, TypeError) as problem:
            raise ImageError(
                f"voxels of type {array.dtype} cannot be stored in an image file; convert them to float32 first"
            ) from problem
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image

    def with_array(self, array: np.ndarray) -> "Volume":
        """Other voxels on the same grid.

        Raises:
            ShapeError: the new array has another shape.
        """
        if array.shape != self.array.shape:
            raise ShapeError(
                f"an array of shape {array.shape} does not lie on a grid of shape {self.array.shape} (K, J, I)"
            )
        return replace(self, array=array)

    @cached_property
    def ijk_to_lps(self) -> np.ndarray:
        """4×4 matrix that takes a voxel index (i, j, k, 1) to its place (x, y, z, 1) in mm, LPS."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing_mm
        matrix[:3, 3] = self.origin_mm
        return matrix

    def same_grid(self, other: "Volume", tolerance_mm: float = 1e-3) -> bool:
        """Whether voxel (k, j, i) of both volumes is at the same place, everywhere within `tolerance_mm`.

        The eight corners are compared: between them the distance can only be smaller.
        """
        if self.array.shape != other.array.shape:
            return False
        ends = [(0, size - 1) for size in self.array.shape[::-1]]
        corners = np.array([(*corner, 1) for corner in itertools.product(*ends)], dtype=float)
        distances_mm = np.linalg.norm(corners @ (self.ijk_to_lps - other.ijk_to_lps).T, axis=1)
        return bool(distances_mm.max() <= tolerance_mm)


def orthonormality_error(direction: Sequence[float]) -> float:
    """Largest |DᵀD - 1| of a 3×3 direction matrix: 0 for perpendicular unit axes; NaN stays NaN."""
    matrix = np.reshape(np.asarray(direction, dtype=float), (3, 3))
    return float(np.abs(matrix.T @ matrix - np.eye(3)).max())


def _check_array(array: np.ndarray) -> None:
    if not isinstance(array, np.ndarray):
        raise ShapeError(f"a volume needs a NumPy array, not {type(array).__name__}")
    if array.ndim != 3:
        raise ShapeError(
            f"the array has shape {array.shape}, that is {array.ndim} dimensions; a volume has three (K, J, I). "
            "Save each time point or channel of a 4-D image as an image of its own"
        )
    if array.size == 0:
        raise ShapeError(f"the array has shape {array.shape} and so not one voxel")
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"the array is of type {array.dtype}; real numbers (integer, float or bool) are needed")


def _check_orthonormal(direction: tuple[float, ...]) -> None:
    error = orthonormality_error(direction)
    if not error <= ORTHONORMAL_TOLERANCE:  # so that NaN is caught too
        raise GeometryError(
            f"the axes of the volume are not perpendicular unit vectors (direction {_text(direction)}, off by "
            f"{error:.2g}); a sheared volume, such as a CT with tilted gantry, cannot be segmented as it is. "
            "Resample it to a straight grid first (in 3D Slicer: loading the DICOM series with 'regularize geometry')"
        )


def _floats(name: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count:
        raise GeometryError(f"{name} has {len(numbers)} numbers; {count} are needed")
    return numbers


def _text(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def grid_difference(first: Volume, second: Volume) -> str | None:
    """In words, what makes two grids differ, with the numbers; None where they agree within 1 µm at every corner."""
    if first.array.shape != second.array.shape:
        return f"{_size(second)} voxels against {_size(first)} (I × J × K)"
    if first.same_grid(second):
        return None
    parts = []
    for name, unit in (("spacing_mm", "mm"), ("origin_mm", "mm"), ("direction", "")):
        one, other = getattr(first, name), getattr(second, name)
        apart = max(abs(a - b) for a, b in zip(one, other, strict=True))
        if apart > 0:
            parts.append(f"{name.removesuffix('_mm')} differs by up to {apart:.6g} {unit}".rstrip())
    return "; ".join(parts)


def _size(volume: Volume) -> str:
    return " × ".join(str(size) for size in volume.array.shape[::-1])
