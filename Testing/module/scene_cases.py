"""Volumes of the scene, and labels read back from segmentations, for the tests of the module's logic."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from scipy.spatial.transform import Rotation
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

_OBLIQUE = Rotation.from_euler("xyz", (20, -30, 40), degrees=True).as_matrix()
_PERMUTED = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])

# Columns are the I, J and K axes in RAS, times the spacing in mm.
GRIDS = {
    "as the phantom": np.eye(3),
    "anisotropic": np.diag([-0.8, -0.9, 1.3]),
    "oblique": _OBLIQUE @ np.diag([0.9, 1.0, 1.2]),
    "permuted": _PERMUTED @ np.diag([1.1, -0.9, 1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "all of it": _OBLIQUE @ _PERMUTED @ np.diag([0.8, 1.0, -1.4]),
}


def gridMatrix(name: str) -> np.ndarray:
    """4×4 from (i, j, k, 1) to RAS in mm, with an origin that is not 0."""
    matrix = np.eye(4)
    matrix[:3, :3] = GRIDS[name]
    matrix[:3, 3] = 11.5, -23.25, 37.125
    return matrix


def addVolume(array: np.ndarray, matrix: np.ndarray | None = None, name: str = "T1") -> Any:
    """A scalar volume node with these voxels, (K, J, I), of exactly this type."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(array.dtype), 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)[...] = array
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.eye(4) if matrix is None else matrix))
    return node


def ijkToRasOf(volumeNode: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def addPhantom(name: str = "T1") -> Any:
    """The drawn hippocampus with its grid."""
    from MambaSegmentLib.phantom import hippocampus_phantom

    image = hippocampus_phantom().image
    return addVolume(image.array, np.diag([-1.0, -1, 1, 1]) @ image.ijk_to_lps, name)


def addTransform(matrix: np.ndarray) -> Any:
    """A linear transform node, 4×4 to parent."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def aRotation(degrees: float = 37.0) -> np.ndarray:
    """4×4: a turn about an oblique axis, and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * np.array([1, 2, 2]) / 3).as_matrix()
    matrix[:3, 3] = 50.0, -20.0, 10.0
    return matrix


def addBentTransform() -> Any:
    """A thin-plate spline that moves every corner of a box otherwise: no linear transform does that."""
    spline, source, target = vtk.vtkThinPlateSplineTransform(), vtk.vtkPoints(), vtk.vtkPoints()
    for number in range(8):
        corner = [40.0 if number & bit else -40.0 for bit in (1, 2, 4)]
        source.InsertNextPoint(corner)
        target.InsertNextPoint([part + 5 * ((number * (axis + 2)) % 3) for axis, part in enumerate(corner)])
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    node.SetAndObserveTransformToParent(spline)
    return node


def labelsOf(segmentationNode: Any, volumeNode: Any) -> np.ndarray:
    """(K, J, I) on the volume's grid, put together from the segments by Slicer's own export, one at a time."""
    labels = np.zeros(slicer.util.arrayFromVolume(volumeNode).shape, np.uint16)
    segmentation = segmentationNode.GetSegmentation()
    for identifier in segmentation.GetSegmentIDs():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, identifier, volumeNode)
        labels[mask > 0] = segmentation.GetSegment(identifier).GetLabelValue()
    return labels


def tag(segment: Any, name: str) -> str | None:
    value = vtk.mutable("")
    return str(value) if segment.GetTag(name, value) else None
