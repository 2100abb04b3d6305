"""The parts of the review that need no panel: rules, the state, edits told by voxels, labels on a grid."""

import numpy as np
import pytest
import slicer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.document import Grid, ReviewedImage, ReviewedModel, ReviewedSlices
from Testing.module.review_cases import ANTERIOR, POSTERIOR, SHA, labelmap, result_of_a_run
from Testing.module.scene_cases import addVolume, gridMatrix, labelsOf

DONE, BUSY, NEW, FLAG = "completed", "in progress", "not started", "flagged"


# --- rules


def test_the_next_segment_is_one_that_is_not_done(panel_module):
    nextSegment = panel_module("review.rules").nextSegment
    statuses = {"a": DONE, "b": FLAG, "c": NEW, "d": BUSY}
    assert nextSegment(statuses, "a") == "c"
    assert nextSegment(statuses, "c") == "d"
    assert nextSegment(statuses, "d") == "c"  # from the top again
    assert nextSegment({"a": DONE, "b": FLAG}, "a") == "a"
    assert nextSegment({"a": NEW}, "a") == "a"
    assert nextSegment({"a": DONE, "b": NEW}, "gone") == "b"


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        (NEW, NEW, BUSY),
        (DONE, DONE, BUSY),
        (BUSY, BUSY, BUSY),
        (FLAG, FLAG, FLAG),
        (FLAG, DONE, FLAG),
        (DONE, BUSY, BUSY),
    ],
)
def test_the_status_after_an_edit(panel_module, before, now, after):
    assert panel_module("review.rules").statusAfterEdit(before, now) == after


def test_who_may_sign(panel_module):
    rules = panel_module("review.rules")

    def why(decision="accept", reviewer="A", statuses=(("Liver", NEW),), changed=()):
        return rules.whyNotSignedOff(rules.SignOff(decision, reviewer, statuses, changed))

    assert why() == ""
    assert why(decision="reject", changed=["Liver"]) == ""
    assert why(decision="accept with corrections", changed=["Liver"]) == ""
    assert why(decision="accept with corrections", changed=None) == ""
    assert "Choose a decision" in why(decision=None)
    assert "name" in why(reviewer="  ")
    assert "Accept with corrections" in why(changed=["Liver"])
    assert "No segment differs" in why(decision="accept with corrections")
    many = [(f"S{number}", FLAG) for number in range(5)]
    assert why(statuses=many) == "Resolve what is flagged first: S0, S1, S2 and 2 more."


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("case_7.nii.gz", "case_7"),
        ("T1.NRRD", "T1"),
        ("a/b: c?", "a_b_ c_"),
        ("..", "case"),
        ("  ", "case"),
        (" Kopf 3. ", "Kopf 3"),
        ("x.seg", "x.seg"),
    ],
)
def test_names_for_files(panel_module, text, case):
    assert panel_module("review.rules").caseNameOf(text) == case


def test_slices_as_a_user_writes_them(panel_module):
    rules = panel_module("review.rules")
    assert rules.slicesFromText(" ", 10) is None
    slices = rules.slicesFromText("7, 0 - 2,3–5", 10)
    assert slices == ReviewedSlices("K", ((0, 2), (3, 5), (7, 7)))
    assert rules.slicesFromText(rules.slicesAsText(slices), 10) == slices
    assert rules.slicesAsText(None) == ""
    for wrong in ("10", "3-1", "a", "1,,2", "-1", "1-2-3"):
        with pytest.raises(ConfigError):
            rules.slicesFromText(wrong, 10)


# --- the state in the node


def a_state(state):
    return state.ReviewState(
        case="c",
        images=(ReviewedImage("T1", None, SHA),),
        grid=Grid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)),
        model=ReviewedModel("m", "1", ""),
        segmentedUtc="2026-01-01T00:00:00Z",
        openedUtc="2026-01-01T00:00:00Z",
        predicted={"b": state.Predicted(1, "B", 0.5), "a": state.Predicted(2, "A", 0.25)},
        slices=ReviewedSlices("K", ((0, 1),)),
        saved=state.Saved("/x", "c", SHA, "2026-01-01T00:00:00Z"),
    )


def test_the_state_survives_in_the_node(host, panel_module):
    state = panel_module("review.state")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert state.stateOf(node) is None
    a_state(state).store(node)
    assert state.stateOf(node) == a_state(state)
    assert list(state.stateOf(node).predicted) == ["b", "a"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"case": 3}'])
def test_a_state_of_another_version_is_no_review(host, panel_module, text, caplog):
    state = panel_module("review.state")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetAttribute(state.ATTRIBUTE, text)
    assert state.stateOf(node) is None
    assert "cannot be read" in caplog.text


# --- edits, told by voxels


LABELS = arrays(np.uint8, (3, 2, 3), elements=st.integers(0, 3))
STARTS = st.tuples(*[st.integers(-2, 2)] * 3)
NUMBERS = {"a": 1, "b": 2, "c": 3}


def voxels(copy, identifier):
    """Places of a segment, whatever the box that holds them."""
    return {tuple(place) for place in np.argwhere(copy.array == copy.labels[identifier]) + copy.start}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LABELS, STARTS, LABELS, STARTS, st.permutations([1, 2, 3]), st.integers(1, 3))
def test_changed_are_those_whose_voxels_differ(panel_module, before, start, after, otherStart, numbers, split):
    """Boxes of other places, labels given anew, segments moved to a label map of their own."""
    edits = panel_module("review.edits")
    renumbered = dict(zip(NUMBERS, numbers, strict=True))
    old = [edits._Copy(NUMBERS, start, before, (1,))]
    names = list(NUMBERS)
    new = [
        edits._Copy({each: renumbered[each] for each in part}, otherStart, after, (number,))
        for number, part in enumerate((names[:split], names[split:]))
        if part
    ]
    holder = {each: copy for copy in new for each in copy.labels}
    found = edits._difference(old, new)
    assert found.changed == {each for each in NUMBERS if voxels(old[0], each) != voxels(holder[each], each)}
    assert (found.added, found.removed) == (frozenset(), frozenset())


def test_a_larger_box_alone_is_no_edit_and_a_label_map_that_is_gone_is(host, panel_module):
    edits = panel_module("review.edits")
    array = np.zeros((2, 2, 2), np.uint8)
    array[1, 1, 1] = 1
    larger = np.pad(array, 1)
    old = [edits._Copy({"a": 1}, (0, 0, 0), array, ())]
    assert not edits._difference(old, [edits._Copy({"a": 1}, (-1, -1, -1), larger, ())]).isAny
    assert edits._difference(old, []).removed == {"a"}
    assert edits._difference([], old).added == {"a"}
    nothing = edits._Copy({"a": 1}, (0, 0, 0), np.zeros((0, 0, 0), np.uint8), ())
    assert edits._difference(old, [nothing]).changed == {"a"}
    assert not edits._difference([nothing], [nothing]).isAny


# --- labels on the grid of the image


@pytest.fixture
def grid_labels(panel_module):
    return panel_module("review.grid_labels")


def grid_of(panel_module, volume):
    return Grid.of(panel_module("volume_out").volumeOf(volume))


def test_labels_get_the_values_that_are_wished_for(host, panel_module, grid_labels):
    volume, node = result_of_a_run()
    labels = grid_labels.labelsOnGrid(node, {ANTERIOR: 300, POSTERIOR: 1}, grid_of(panel_module, volume))
    expected = labelsOf(node, volume)
    assert labels.array.dtype == np.uint16
    np.testing.assert_array_equal(labels.array == 300, expected == 1)
    np.testing.assert_array_equal(labels.array == 1, expected == 5)
    assert labels.warnings == ()
    only = grid_labels.labelsOnGrid(node, {POSTERIOR: 7}, grid_of(panel_module, volume))
    assert only.array.dtype == np.uint8
    assert set(np.unique(only.array)) == {0, 7}


def test_overlaps_and_what_lies_outside_are_warned_of(host, panel_module, grid_labels):
    volume, node = result_of_a_run()
    everywhere = labelmap(np.ones((6, 7, 8), bool), volume)
    larger = labelmap(np.ones((6, 7, 9), bool), volume)
    identifier = node.AddSegmentFromBinaryLabelmapRepresentation(everywhere, "all", [0, 0, 1], "all")
    values = {ANTERIOR: 1, POSTERIOR: 2, identifier: 3}
    grid = grid_of(panel_module, volume)
    labels = grid_labels.labelsOnGrid(node, values, grid)
    assert node.GetSegmentation().GetNumberOfLayers() == 2
    below = slicer.util.arrayFromSegmentBinaryLabelmap(node, ANTERIOR, volume) > 0
    below |= slicer.util.arrayFromSegmentBinaryLabelmap(node, POSTERIOR, volume) > 0
    count = np.count_nonzero(below)
    assert labels.warnings == (f"{count} voxels belong to several segments; in the file each has one.",)
    assert (labels.array == 3).all()
    node.GetSegmentation().RemoveSegment(identifier)
    node.AddSegmentFromBinaryLabelmapRepresentation(larger, "larger", [0, 0, 1], "larger")
    labels = grid_labels.labelsOnGrid(node, {"larger": 1}, grid)
    assert labels.warnings == ("42 voxels lie outside the image and are not in the file.",)


def test_a_label_map_on_another_grid_is_resampled_as_slicer_does(host, panel_module, grid_labels):
    volume = addVolume(np.zeros((6, 7, 8), np.int16), gridMatrix("all of it"))
    finer = gridMatrix("all of it")
    finer[:3, :3] /= 2
    finer[:3, 3] += finer[:3, :3] @ [0.5, 0.5, 0.5]
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    mask = np.zeros((12, 14, 16), bool)
    mask[3:9, 2:10, 4:13] = True
    other = addVolume(mask.astype(np.uint8), finer, "finer")
    node.AddSegmentFromBinaryLabelmapRepresentation(labelmap(mask, other), "a", [1, 0, 0], "a")
    labels = grid_labels.labelsOnGrid(node, {"a": 4}, grid_of(panel_module, volume))
    expected = slicer.util.arrayFromSegmentBinaryLabelmap(node, "a", volume)
    assert expected.any()
    np.testing.assert_array_equal(labels.array == 4, expected > 0)


def test_a_label_map_whose_first_voxel_is_another_is_put_in_place(host, panel_module, grid_labels):
    """As Slicer reads them from files: the origin is that of the piece."""
    volume, node = result_of_a_run()
    matrix = gridMatrix("all of it")
    matrix[:3, 3] += matrix[:3, :3] @ [2, 1, 3]
    piece = addVolume(np.ones((2, 3, 4), np.uint8), matrix, "piece")
    node.AddSegmentFromBinaryLabelmapRepresentation(
        labelmap(np.ones((2, 3, 4), bool), piece), "piece", [0, 0, 1], "piece"
    )
    labels = grid_labels.labelsOnGrid(node, {"piece": 9}, grid_of(panel_module, volume))
    expected = np.zeros((6, 7, 8), bool)
    expected[3:5, 1:4, 2:6] = True
    np.testing.assert_array_equal(labels.array == 9, expected)
    assert labels.warnings == ()


def test_labels_for_new_segments_are_free_ones(panel_module):
    valueFor = panel_module("review.beginning").valueFor
    assert valueFor(5, {1, 2}) == 5
    assert valueFor(1, {1, 2, 4}) == 3
    assert valueFor(0, set()) == 1
    assert [valueFor(1, set(range(1, count))) for count in range(1, 5)] == [1, 2, 3, 4]
