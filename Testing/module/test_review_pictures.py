"""What the review looks like in a narrow dock, in light and dark; nothing may be cut off.

With MAMBASEGMENT_PICTURES set to a folder the pictures are kept there, to be looked at.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from MambaSegmentLib.segments import SegmentInfo
from Testing.host.rendering import SliceView
from Testing.module.panel_cases import press
from Testing.module.review_cases import (
    ANTERIOR,
    a_mask,
    brush,
    choose,
    choose_folder,
    result_of_a_run,
    review_it,
    select,
    settle,
)
from Testing.module.scene_cases import addPhantom
from Testing.module.test_panel_pictures import NARROW_PX, darkPalette


@pytest.fixture
def picture(host, tmp_path):
    """`picture(widget, "ready")`: the section in light and in dark, and no text that does not fit."""
    folder = Path(os.environ.get("MAMBASEGMENT_PICTURES") or tmp_path)
    before = host.app.palette()

    def take(widget, name):
        host.process_events(0.3)  # until the change of the selected segment is measured
        for theme, palette in (("light", before), ("dark", darkPalette())):
            host.app.setPalette(palette)
            host.process_events()
            host.screenshot(widget.parent, folder / f"review-{name}-{theme}.png", width=NARROW_PX)
            assert widget.parent.width == NARROW_PX
            assert host.layout_faults(widget.parent) == []

    take.folder = folder
    yield take
    host.app.setPalette(before)


@pytest.fixture
def opened(host):
    host.load_module()
    widget = host.enter("MambaSegment")
    widget.panel.warmUp.want = lambda *_: None  # no worker is needed
    widget.ui.resultsCollapsibleButton.parentWidget()
    return widget


def test_empty_and_not_begun(host, opened, picture):
    opened.ui.reviewCollapsibleButton.collapsed = False
    picture(opened, "empty")
    _volume, node = result_of_a_run()
    opened.ui.reviewSegmentationSelector.setCurrentNode(node)
    picture(opened, "not-begun")


def test_from_begun_to_signed(host, opened, picture, tmp_path):
    _volume, node = result_of_a_run("a patient with a very long name 2026-11-25")
    review_it(host, opened, node)
    ui = opened.ui
    picture(opened, "begun")
    select(opened, ANTERIOR)
    brush(opened, a_mask((0, 0, 0), (1, 0, 0)))
    settle(host, opened)
    press(ui.reviewFlagButton)
    press(ui.reviewCompareButton)
    picture(opened, "flagged")
    press(ui.reviewFlagButton)
    (tmp_path / "reviews").mkdir()
    choose_folder(opened, tmp_path / "reviews")
    (tmp_path / "reviews" / f"{ui.reviewCaseEdit.text}.review.json").write_text("somebody's")
    choose(ui.reviewCorrectedButton)
    ui.reviewCommentEdit.plainText = "The tail was cut off on two slices."
    ui.reviewReviewerEdit.text = "A. Reviewer"
    press(ui.reviewSaveButton)
    picture(opened, "conflict")
    press(ui.reviewOtherNameButton)
    press(ui.reviewSignOffButton)
    assert "Signed off by A. Reviewer" in ui.reviewStateLabel.text
    picture(opened, "signed")
    choose_folder(opened, tmp_path / "none")
    press(ui.reviewSaveButton)
    picture(opened, "not-saved")


def test_many_segments(host, opened, picture):
    from MambaSegmentPanel.provenance import Provenance
    from MambaSegmentPanel.segmentation_in import addSegments, newSegmentation

    volume = addPhantom("CT")
    labels = np.zeros((3, 51, 35), np.uint8)
    labels.reshape(-1)[: 100 * 50] = np.repeat(np.arange(1, 101, dtype=np.uint8), 50)
    node = newSegmentation(volume, "many")
    segments = [SegmentInfo(value, f"Structure number {value}", (0.5, 0.5, value / 100)) for value in range(1, 101)]
    addSegments(node, labels, volume, segments, Provenance("m", "1", "0" * 64))
    review_it(host, opened, node)
    picture(opened, "many")


def test_compare_in_a_slice(host, opened, picture):
    from MambaSegmentPanel.provenance import Provenance
    from MambaSegmentPanel.segmentation_in import addSegments, newSegmentation

    from MambaSegmentLib.phantom import hippocampus_phantom

    volume = addPhantom("T1")
    phantom = hippocampus_phantom()
    node = newSegmentation(volume, "T1 result")
    segments = [SegmentInfo(1, "Anterior", (0.9, 0.3, 0.2)), SegmentInfo(2, "Posterior", (0.2, 0.6, 0.9))]
    addSegments(node, phantom.truth.array.astype(np.uint8), volume, segments, Provenance("m", "1", "0" * 64))
    review_it(host, opened, node)
    select(opened, "Segment_1")
    mask = np.zeros(phantom.truth.array.shape, bool)
    k = int(np.argmax((phantom.truth.array == 1).sum(axis=(1, 2))))
    j, i = (int(np.median(each)) for each in np.nonzero(phantom.truth.array[k] == 1))
    mask[k - 1 : k + 2, j - 12 : j - 2, i - 8 : i + 3] = True
    brush(opened, mask)
    mask[...] = False
    mask[k - 1 : k + 2, j + 1 : j + 8, i + 2 : i + 9] = True
    brush(opened, mask, erase=True)
    settle(host, opened)
    view = SliceView(volume, size_px=(500, 500))
    view.node.JumpSliceByCentering(*node.GetSegmentCenterRAS("Segment_1"))
    center = np.array([i, j, k, 1.0])
    from Testing.module.scene_cases import ijkToRasOf

    view.node.JumpSliceByCentering(*(ijkToRasOf(volume) @ center)[:3])
    before = view.save(picture.folder / "review-slice.png").read_bytes()
    press(opened.ui.reviewCompareButton)
    compared = view.save(picture.folder / "review-slice-compared.png").read_bytes()
    press(opened.ui.reviewCompareButton)
    after = view.save(picture.folder / "review-slice-after.png").read_bytes()
    view.close()
    assert before != compared
    assert before == after
