"""From a volume node to a file for the worker.

The file has the volume's own grid, without the transform that the node may stand under: the result is put under the
same transform (`segmentation_in.py`), so any transform will do, a curved one too. Only where a second channel stands
under another transform than the first must the difference of the two be put into its grid.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError, ResourceError
from MambaSegmentLib.files import disk_is_full
from MambaSegmentLib.volume import Volume

_PIECE_BYTES = 8_000_000  # written at once: a few milliseconds, so that the application stays awake in between
_NRRD_TYPES = {
    "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short", "int32": "int",
    "uint32": "unsigned int", "int64": "long long", "uint64": "unsigned long long", "float32": "float",
    "float64": "double",
}  # fmt: skip
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volumeOf(node: Any, reference: Any | None = None) -> Volume:
    """The voxels of a volume node, as a view, and where they lie in the space of its parent transform.

    Args:
        reference: the first channel's node; the grid is then given in the space of *its* parent transform.
    Raises:
        ConfigError: not a volume node. ImageError: no voxels, or several numbers for each.
        GeometryError: sheared axes, no spacing, or a transform between the two nodes that is not linear.
    """
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode"):
        kind = "None" if node is None else node.GetClassName()
        raise ConfigError(f"a scalar volume node is needed; {kind} given")
    name = node.GetName()
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise ImageError(f"the volume {name!r} holds no voxels; load or acquire an image first")
    if image.GetNumberOfScalarComponents() != 1:
        raise ImageError(
            f"the volume {name!r} has {image.GetNumberOfScalarComponents()} numbers per voxel (a colour or vector "
            "image); one is needed. Extract one component first (module 'Vector to Scalar Volume')"
        )
    if image.GetScalarTypeAsString() == "bit":
        raise ImageError(f"the voxels of the volume {name!r} are single bits; cast them to unsigned char first")
    matrix = _RAS_TO_LPS @ _between(node, reference) @ ijkToRas(node)
    try:
        return _volume(slicer.util.arrayFromVolume(node), matrix)
    except GeometryError as problem:
        raise GeometryError(f"the volume {name!r}: {problem}") from problem


def ijkToRas(node: Any) -> np.ndarray:
    """4×4, from voxel indices (i, j, k, 1) to mm in the space of the parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def writeNrrd(volume: Volume, path: Path) -> Iterator[float]:
    """Write an uncompressed NRRD piece by piece; yields the fraction that is done after each.

    Raises:
        ImageError: the voxels are of a type that NRRD does not know. ResourceError: the disk is full.
    """
    try:
        with path.open("wb") as stream:
            stream.write(_header(volume))
            slices, bytesPerSlice = len(volume.array), max(1, volume.array[0].nbytes)
            step = max(1, _PIECE_BYTES // bytesPerSlice)
            for begin in range(0, slices, step):
                stream.write(np.ascontiguousarray(volume.array[begin : begin + step]).data)
                yield min(1.0, (begin + step) / slices)
    except OSError as problem:
        if disk_is_full(problem):
            raise ResourceError(
                f"the volume cannot be handed to the worker: the disk is full on which {path.parent} lies; "
                "free some space there and try again"
            ) from problem
        raise ResourceError(f"cannot write {path}: {problem.strerror or problem}") from problem


def _volume(array: np.ndarray, ijkToLps: np.ndarray) -> Volume:
    spacing_mm = np.linalg.norm(ijkToLps[:3, :3], axis=0)
    if not (np.isfinite(spacing_mm).all() and spacing_mm.min() > 0):
        raise GeometryError(f"its voxel spacing is {spacing_mm.tolist()} mm; three positive numbers are needed")
    direction = ijkToLps[:3, :3] / spacing_mm
    return Volume(array, tuple(spacing_mm), tuple(ijkToLps[:3, 3]), tuple(direction.ravel()))


def _between(node: Any, reference: Any | None) -> np.ndarray:
    """4×4, from the space of one node's parent transform to that of the other's, RAS."""
    if reference is None or node.GetTransformNodeID() == reference.GetTransformNodeID():
        return np.eye(4)
    both = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), reference.GetParentTransformNode(), both
    )
    linear = vtk.vtkTransform()
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(both, linear):
        raise GeometryError(
            f"between the volumes {reference.GetName()!r} and {node.GetName()!r} is a transform that is not linear; "
            f"resample {node.GetName()!r} into the grid of the other first (module 'Resample Scalar/Vector/DWI Volume')"
        )
    return slicer.util.arrayFromVTKMatrix(linear.GetMatrix())


def _header(volume: Volume) -> bytes:
    kind = _NRRD_TYPES.get(volume.array.dtype.name)
    if kind is None:
        raise ImageError(f"voxels of type {volume.array.dtype} cannot be handed over; cast the volume to float first")
    columns = volume.ijk_to_lps[:3, :3].T
    lines = [
        "NRRD0004",
        f"type: {kind}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, volume.array.shape[::-1]))}",
        f"space directions: {' '.join(map(_vector, columns))}",
        "kinds: domain domain domain",
        f"endian: {sys.byteorder}",
        "encoding: raw",
        f"space origin: {_vector(volume.ijk_to_lps[:3, 3])}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


def _vector(values: np.ndarray) -> str:
    assert all(math.isfinite(value) for value in values)  # Volume has seen to it
    return f"({','.join(f'{value:.17g}' for value in values)})"
