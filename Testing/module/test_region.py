"""A region drawn in the views is the box of voxels that it touches, wherever transforms put it; worked out by hand."""

import numpy as np
import pytest
import slicer

from MambaSegmentLib.errors import ConfigError
from Testing.module.scene_cases import GRIDS, addBentTransform, addTransform, addVolume, aRotation, gridMatrix


@pytest.fixture
def region_of(host, panel_module):
    return panel_module("region").regionOf


def addRegion(center, size):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(*center)
    node.SetSize(*size)
    return node


def test_a_voxel_that_is_touched_belongs_to_it(region_of):
    volume = addVolume(np.zeros((6, 7, 8), np.int16))  # voxel n of 1 mm reaches from n - 0.5 to n + 0.5
    assert region_of(addRegion((3, 2, 1), (2, 2, 2)), volume).text == "voxels:2:5,1:4,0:3"
    assert region_of(addRegion((3, 2, 1), (1, 1, 1)), volume).text == "voxels:3:4,2:3,1:2"
    assert region_of(addRegion((3, 2, 1), (0.2, 0.2, 0.2)), volume).text == "voxels:3:4,2:3,1:2"
    assert region_of(addRegion((0, 0, 0), (100, 100, 3)), volume).text == "voxels:0:8,0:7,0:2"


@pytest.mark.parametrize("grid", GRIDS)
def test_the_box_around_some_voxels_gives_them_back(region_of, grid):
    """Drawn along the volume's own axes, under a transform for the region that the volume has not."""
    volume = addVolume(np.zeros((6, 7, 8), np.int16), gridMatrix(grid))
    matrix = gridMatrix(grid)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = np.eye(4)
    axes[:3, :3] = matrix[:3, :3] / spacing
    axes[:3, 3] = matrix[:3, 3]
    region = addRegion(spacing * (2.5, 3.0, 1.5), spacing * (4, 3, 2))  # voxels 1 to 4, 2 to 4, 1 to 2
    region.SetAndObserveTransformNodeID(addTransform(axes).GetID())
    found = region_of(region, volume)
    assert found.text == "voxels:1:5,2:5,1:3"
    assert not found.isOblique


def test_what_stands_under_one_transform_is_as_without(region_of):
    volume = addVolume(np.zeros((6, 7, 8), np.int16))
    region = addRegion((3, 2, 1), (2, 2, 2))
    for transform in (addTransform(aRotation()), addBentTransform()):
        for node in (volume, region):
            node.SetAndObserveTransformNodeID(transform.GetID())
        assert region_of(region, volume).text == "voxels:2:5,1:4,0:3"


def test_a_turned_region_is_boxed_and_says_so(region_of, panel_module):
    volume = addVolume(np.zeros((20, 20, 20), np.int16))
    region = addRegion((10, 10, 10), (6, 6, 6))
    turn = np.eye(4)
    turn[:2, :2] = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])  # 45° about the axis through the middle
    turn[:3, 3] = np.array([10, 10, 10]) - turn[:3, :3] @ (10, 10, 10)
    region.SetAndObserveTransformNodeID(addTransform(turn).GetID())
    found = region_of(region, volume)
    assert found.text == "voxels:6:15,6:15,7:14"  # half a diagonal is 3 √2 = 4.24
    assert found.isOblique
    assert "turned against the voxels" in panel_module("readiness").regionHint(region, [volume])


def test_nothing_drawn_and_elsewhere_are_refused(region_of):
    volume = addVolume(np.zeros((6, 7, 8), np.int16))
    with pytest.raises(ConfigError, match="'box' has no size yet"):
        region_of(addRegion((3, 2, 1), (0, 0, 0)), volume)
    with pytest.raises(ConfigError, match="'box' lies outside the volume 'T1'"):
        region_of(addRegion((30, 2, 1), (2, 2, 2)), volume)


def test_a_new_region_begins_around_the_volume(region_of, panel_module):
    volume = addVolume(np.zeros((6, 7, 8), np.int16), gridMatrix("anisotropic"))
    volume.SetAndObserveTransformNodeID(addTransform(aRotation(90)).GetID())
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "new")
    panel_module("region").fitToVolume(region, volume)
    assert region_of(region, volume).bounds == ((0, 8), (0, 7), (0, 6))
