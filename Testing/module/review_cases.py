"""What a reviewer does: a run that gave segments, a brush, clicks; and what then lies on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import qt
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from MambaSegmentLib.review.document import read_review
from Testing.module.panel_cases import expectedLabels, press, someVoxels
from Testing.module.scene_cases import addVolume, gridMatrix, ijkToRasOf

SHA = "0123456789abcdef" * 4
ANTERIOR, POSTERIOR = "Segment_1", "Segment_5"  # of the tiny model, whose label values these are
AT_ANTERIOR, NOWHERE = (0, 0, 1), (0, 0, 0)  # (k, j, i) of a voxel of the one segment, and of none
DECIDED = "reviewAcceptButton", "reviewCorrectedButton", "reviewRejectButton"


def result_of_a_run(name="case 7"):
    """A volume and the segments of the tiny model for it, as a run brings them, without the worker."""
    from MambaSegmentPanel.segmentation_in import newSegmentation

    volume = addVolume(someVoxels(), gridMatrix("all of it"), name=name)
    node = newSegmentation(volume, f"{name} tiny")
    add_segments_of_a_run(volume, node)
    return volume, node


def add_segments_of_a_run(volume, node):
    from MambaSegmentPanel.provenance import Provenance
    from MambaSegmentPanel.segmentation_in import addSegments

    from MambaSegmentLib.segments import SegmentInfo

    segments = [SegmentInfo(1, "Anterior", (1.0, 0.0, 0.0)), SegmentInfo(5, "Posterior", (0.0, 1.0, 0.0))]
    provenance = Provenance("tiny", "1", SHA, {"device": "cpu"})
    return addSegments(node, expectedLabels(someVoxels()).astype(np.uint8), volume, segments, provenance)


def review_it(host, widget, node):
    """The user chooses a segmentation and begins its review."""
    widget.ui.reviewCollapsibleButton.collapsed = False
    widget.ui.reviewSegmentationSelector.setCurrentNode(node)
    host.process_events()
    press(widget.ui.reviewBeginButton)
    host.process_events()


def brush(widget, mask, *, erase=False):
    """The user paints the selected segment where the mask, (K, J, I) on the image, is True."""
    editor = widget.panel.review.editor.widget
    logic = editor.logic()
    editor.applyEffect(
        labelmap(mask, editor.sourceVolumeNode()),
        logic.ModificationModeRemove if erase else logic.ModificationModeAdd,
    )


def labelmap(mask, volume):
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*(end for size in mask.shape[::-1] for end in (0, size - 1)))
    image.AllocateScalars(3, 1)  # VTK_UNSIGNED_CHAR
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(mask.shape)[...] = mask
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijkToRasOf(volume)))
    return image


def a_mask(*voxels):
    """True at these (k, j, i)."""
    mask = np.zeros(someVoxels().shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def settle(host, widget):
    """Until the panel has taken notice of an edit."""
    for session in widget.panel.review.reviews.sessions():
        session.look()
    host.process_events(0.25)


def statuses(widget):
    return list(widget.panel.review._session.statuses().values())


def select(widget, identifier):
    widget.ui.reviewSegmentsTable.setSelectedSegmentIDs([identifier])


def choose(button):
    """A radio button answers to clicks on its mark and text only."""
    assert button.isVisible()
    qt.QTest.mouseClick(button, qt.Qt.LeftButton, qt.Qt.NoModifier, qt.QPoint(8, button.height // 2))
    assert button.checked


def choose_folder(widget, folder):
    widget.ui.reviewFolderEdit.currentPath = str(folder)


def correct_and_sign(host, widget, *voxels, comment=""):
    """The anterior segment is painted, completed, and all of it signed off with corrections and saved."""
    select(widget, ANTERIOR)
    brush(widget, a_mask(*voxels))
    settle(host, widget)
    press(widget.ui.reviewCompleteButton)
    choose(widget.ui.reviewCorrectedButton)
    widget.ui.reviewCommentEdit.plainText = comment
    press(widget.ui.reviewSignOffButton)


def session_of(widget):
    return widget.panel.review._session


def all_segmentations():
    """The model's own results too, which a user does not see."""
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def all_prediction_nodes():
    return [each for each in all_segmentations() if each.GetHideFromEditors()]


def document_of(folder, case="case 7"):
    return read_review(Path(folder) / f"{case}.review.json")
