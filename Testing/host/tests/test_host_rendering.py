"""Slices are drawn off screen: the image is there, and the segment in its colour."""

import numpy as np
import pytest
import slicer
from PIL import Image

from Testing.host.rendering import SliceView, ThreeDView


@pytest.fixture
def a_scene(host):
    voxels = np.full((20, 20, 20), 100, np.int16)
    voxels[:, :10] = 0
    volume = slicer.util.addVolumeFromArray(voxels, name="T1")
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevel(100, 50)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.GetSegmentation().AddEmptySegment("part", "Part", [1.0, 0.0, 0.0])
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[:, 5:15, 5:15] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "part", volume)
    return volume


def test_a_slice_shows_image_and_segment(a_scene, tmp_path):
    view = SliceView(a_scene, size_px=(200, 200))
    pixels = np.asarray(Image.open(view.save(tmp_path / "slice.png")).convert("RGB")).astype(int)
    view.close()
    assert pixels.shape == (200, 200, 3)
    red = (pixels[..., 0] > pixels[..., 1] + 40).mean()
    white = (pixels.min(axis=-1) > 200).mean()
    assert 0.15 < red < 0.35  # a quarter of the slice
    assert 0.25 < white < 0.5  # half of it, less the segment's part


def test_a_view_shows_the_surface(a_scene, tmp_path):
    slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0].CreateClosedSurfaceRepresentation()
    view = ThreeDView(size_px=(200, 200))
    pixels = np.asarray(Image.open(view.save(tmp_path / "view.png")).convert("RGB")).astype(int)
    view.close()
    assert 0.05 < (pixels[..., 0] > pixels[..., 1] + 40).mean() < 0.9
