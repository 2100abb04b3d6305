"""A segment tells whether somebody changed it since a model made it, after saving and loading too."""

import numpy as np
import pytest
import slicer

from MambaSegmentLib.segments import SegmentInfo
from Testing.module.scene_cases import GRIDS, addVolume, gridMatrix

SEGMENTS = [
    SegmentInfo(1, "Front", (1.0, 0.0, 0.0)),
    SegmentInfo(5, "Back", (0.0, 1.0, 0.0)),
    SegmentInfo(7, "None", (0.0, 0.0, 1.0)),
]


@pytest.fixture
def parts(host, panel_module):
    names = ("edits", "segmentation_in", "provenance")
    return {name: panel_module(name) for name in names}


@pytest.fixture
def a_result(parts):
    """`a_result()` is a segmentation as a model made it, its volume beside it."""

    def make(grid="all of it", model="m"):
        labels = np.zeros((6, 7, 8), np.uint8)
        labels[1:4, 2:5, 3:6] = 1
        labels[4, 2:5, 1:7] = 5
        volume = addVolume(labels.astype(np.int16), gridMatrix(grid))
        node = parts["segmentation_in"].newSegmentation(volume, "result")
        made = parts["provenance"].Provenance(model, "1", "sha")
        ids = parts["segmentation_in"].addSegments(node, labels, volume, SEGMENTS, made)
        parts["edits"].markAsMade(node, ids)
        return node, volume

    return make


def edited(parts, node, model="m"):
    return {segment.name: segment.isEdited for segment in parts["edits"].earlierSegments(node, model)}


def paint(node, volume, identifier, place, value=1):
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    mask[place] = value
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, identifier, volume)


@pytest.mark.parametrize("grid", GRIDS)
def test_as_it_was_made_it_is_not_edited_and_one_voxel_more_is(parts, a_result, grid):
    node, volume = a_result(grid)
    assert edited(parts, node) == {"Front": False, "Back": False, "None": False}
    paint(node, volume, "Segment_1", (1, 2, 6))
    assert edited(parts, node) == {"Front": True, "Back": False, "None": False}
    paint(node, volume, "Segment_1", (1, 2, 6), 0)  # taken back
    assert edited(parts, node) == {"Front": False, "Back": False, "None": False}


def test_a_first_voxel_a_name_and_a_move_are_edits_and_a_colour_is_none(parts, a_result):
    node, volume = a_result()
    segmentation = node.GetSegmentation()
    paint(node, volume, "Segment_7", (0, 0, 0))
    segmentation.GetSegment("Segment_5").SetName("Rear")
    segmentation.GetSegment("Segment_1").SetColor(0.1, 0.2, 0.3)
    assert edited(parts, node) == {"Front": False, "Rear": True, "None": True}
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Segment_1", volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.roll(mask, 1, axis=2), node, "Segment_1", volume)
    assert edited(parts, node)["Front"]


@pytest.mark.parametrize("ending", [".seg.nrrd", ".mrb"])
@pytest.mark.parametrize("grid", ["as the phantom", "all of it"])
def test_saved_and_loaded_it_still_tells(parts, a_result, host, tmp_path, grid, ending):
    node, volume = a_result(grid)
    paint(node, volume, "Segment_5", (0, 0, 0))
    path = str(tmp_path / f"x{ending}")
    if ending == ".mrb":
        assert slicer.util.saveScene(path)
        host.close_scene()
        slicer.util.loadScene(path)
        node = slicer.util.getNode("result")
    else:
        assert slicer.util.saveNode(node, path)
        node = slicer.util.loadSegmentation(path)
    assert edited(parts, node) == {"Front": False, "Back": True, "None": False}


def test_only_segments_of_that_model_count_and_without_a_mark_nothing_is_sure(parts, a_result):
    node, _volume = a_result()
    assert parts["edits"].earlierSegments(node, "another") == []
    node.GetSegmentation().GetSegment("Segment_1").RemoveTag("MambaSegment.Fingerprint")
    assert edited(parts, node) == {"Front": True, "Back": False, "None": False}
