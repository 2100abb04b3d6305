"""A volume node becomes a file that the library reads as the same voxels in the same place."""

from pathlib import Path

import numpy as np
import pytest
import slicer

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError, ResourceError
from MambaSegmentLib.image_io import read_volume
from Testing.module.scene_cases import GRIDS, addBentTransform, addTransform, addVolume, aRotation, gridMatrix

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.fixture
def volume_out(host, panel_module):
    return panel_module("volume_out")


def written(volume_out, node, path, reference=None):
    fractions = list(volume_out.writeNrrd(volume_out.volumeOf(node, reference), path))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    return read_volume(path)


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_pixel_type_arrives_with_its_extremes(volume_out, tmp_path, kind):
    limits = np.iinfo(kind) if np.dtype(kind).kind in "iu" else np.finfo(kind)
    array = np.zeros((2, 3, 4), kind)
    array[0, 0, 0], array[1, 2, 3] = limits.min, limits.max
    read = written(volume_out, addVolume(array), tmp_path / "v.nrrd")
    assert read.array.dtype == array.dtype
    np.testing.assert_array_equal(read.array, array)


@pytest.mark.parametrize("grid", GRIDS)
def test_every_direction_arrives_as_it_is(volume_out, tmp_path, grid):
    matrix = gridMatrix(grid)
    read = written(volume_out, addVolume(VOXELS, matrix), tmp_path / "v.nrrd")
    np.testing.assert_array_equal(read.array, VOXELS)
    np.testing.assert_allclose(read.ijk_to_lps, RAS_TO_LPS @ matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: addTransform(aRotation()), addBentTransform])
def test_the_transform_of_a_single_volume_stays_out_of_its_file(volume_out, tmp_path, make):
    node = addVolume(VOXELS, gridMatrix("oblique"))
    node.SetAndObserveTransformNodeID(make().GetID())
    read = written(volume_out, node, tmp_path / "v.nrrd")
    np.testing.assert_allclose(read.ijk_to_lps, RAS_TO_LPS @ gridMatrix("oblique"), atol=1e-12)


def test_a_second_channel_is_given_in_the_space_of_the_first(volume_out, tmp_path):
    """Worked out by hand: world = A · first = B · second, so second in the first one's space is A⁻¹ · B · second."""
    first, second = addVolume(VOXELS, name="first"), addVolume(VOXELS, gridMatrix("anisotropic"), "second")
    a, b = aRotation(30), aRotation(-50)
    first.SetAndObserveTransformNodeID(addTransform(a).GetID())
    second.SetAndObserveTransformNodeID(addTransform(b).GetID())
    read = written(volume_out, second, tmp_path / "v.nrrd", reference=first)
    expected = RAS_TO_LPS @ np.linalg.inv(a) @ b @ gridMatrix("anisotropic")
    np.testing.assert_allclose(read.ijk_to_lps, expected, atol=1e-10)
    second.SetAndObserveTransformNodeID(first.GetTransformNodeID())
    read = written(volume_out, second, tmp_path / "v.nrrd", reference=first)
    np.testing.assert_allclose(read.ijk_to_lps, RAS_TO_LPS @ gridMatrix("anisotropic"), atol=1e-12)


def test_between_channels_neither_a_bent_transform_nor_shear_will_do(volume_out):
    first, second = addVolume(VOXELS, name="first"), addVolume(VOXELS, name="second")
    second.SetAndObserveTransformNodeID(addBentTransform().GetID())
    with pytest.raises(GeometryError, match="'first' and 'second' is a transform that is not linear"):
        volume_out.volumeOf(second, first)
    shear = np.eye(4)
    shear[0, 1] = 0.2
    second.SetAndObserveTransformNodeID(addTransform(shear).GetID())
    with pytest.raises(GeometryError, match="'second': the axes of the volume are not perpendicular"):
        volume_out.volumeOf(second, first)


def test_nodes_that_hold_no_image_are_refused(volume_out):
    scene = slicer.mrmlScene
    with pytest.raises(ConfigError, match="scalar volume node is needed; None"):
        volume_out.volumeOf(None)
    with pytest.raises(ConfigError, match="vtkMRMLModelNode"):
        volume_out.volumeOf(scene.AddNewNodeByClass("vtkMRMLModelNode"))
    with pytest.raises(ImageError, match="'empty' holds no voxels"):
        volume_out.volumeOf(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    vector = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 2)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    vector.SetAndObserveImageData(image)
    with pytest.raises(ImageError, match="'colour' has 3 numbers per voxel"):
        volume_out.volumeOf(vector)


@pytest.mark.parametrize(("entry", "value"), [((0, 1), 0.3), ((1, 1), 0.0), ((2, 3), np.nan)])
def test_grids_that_are_none_are_refused_by_name(volume_out, entry, value):
    matrix = np.eye(4)
    matrix[entry] = value
    with pytest.raises(GeometryError, match="'T1'"):
        volume_out.volumeOf(addVolume(VOXELS, matrix))


def test_a_large_volume_goes_out_in_pieces_and_a_place_that_is_not_there_is_named(volume_out, tmp_path):
    node = addVolume(np.zeros((40, 512, 512), np.int16))  # 20 MB
    volume = volume_out.volumeOf(node)
    assert len(list(volume_out.writeNrrd(volume, tmp_path / "v.nrrd"))) == 3
    with pytest.raises(ResourceError, match="nowhere"):
        list(volume_out.writeNrrd(volume, tmp_path / "nowhere" / "v.nrrd"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' file that is always full")
def test_a_full_disk_is_named(volume_out):
    volume = volume_out.volumeOf(addVolume(VOXELS))
    with pytest.raises(ResourceError, match=r"the disk is full on which .* lies; free some space"):
        list(volume_out.writeNrrd(volume, Path("/dev/full")))
