"""The model's own labels beside the segmentation under review: a hidden node that nobody edits.

It is hidden from editors, selectors and the subject hierarchy, has no surface, and shows in slices only while it is
compared. The segmentation refers to it, so the two find each other again in a loaded scene.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from MambaSegmentLib.errors import ConfigError

from .layers import BINARY_LABELMAP, layersOf

ROLE = "MambaSegment.Prediction"
_OUTLINE_BEFORE = "MambaSegment.OutlineBeforeCompare"
_OUTLINE_PX = 3


def predictionOf(segmentationNode: Any) -> Any:
    """The hidden node, or None."""
    return None if segmentationNode is None else segmentationNode.GetNodeReference(ROLE)


def keepPrediction(segmentationNode: Any, identifiers: Iterable[str]) -> Any:
    """Copy segments as they are now into the hidden node, which is made if it is not there; others in it stay.

    Returns:
        The hidden node.
    """
    node = predictionOf(segmentationNode) or _newNode(segmentationNode)
    copied = node.GetSegmentation()
    wanted = [each for each in identifiers if copied.GetSegment(each) is None]
    for layer in layersOf(segmentationNode):
        labels = {each: label for each, label in layer.labels.items() if each in wanted}
        if labels:
            image = slicer.vtkOrientedImageData()
            image.DeepCopy(layer.image)
            if len(labels) < len(layer.labels):
                _clearOthers(image, labels.values())
            for identifier in labels:
                _addCopy(copied, segmentationNode.GetSegmentation().GetSegment(identifier), identifier, image)
    return node


def dropSegments(segmentationNode: Any, present: Iterable[str]) -> None:
    """Forget copies of segments other than these."""
    node = predictionOf(segmentationNode)
    if node is not None:
        kept = set(present)
        for identifier in node.GetSegmentation().GetSegmentIDs():
            if identifier not in kept:
                node.GetSegmentation().RemoveSegment(identifier)


def removePrediction(node: Any) -> None:
    """Of a segmentation that is gone; unless another one, such as a clone, refers to it as well."""
    scene = None if node is None else node.GetScene()
    if scene is None:
        return
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        if predictionOf(scene.GetNthNodeByClass(number, "vtkMRMLSegmentationNode")) is node:
            return
    removeWithParts(node)


def removeWithParts(node: Any) -> None:
    """A node, and the display and storage nodes that are of no use without it."""
    scene = node.GetScene()
    parts = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    parts += [node.GetNthStorageNode(number) for number in range(node.GetNumberOfStorageNodes())]
    for each in (node, *parts):
        if each is not None and scene.IsNodePresent(each):
            scene.RemoveNode(each)


def isCompared(segmentationNode: Any) -> bool:
    node = predictionOf(segmentationNode)
    return node is not None and node.GetDisplayNode() is not None and bool(node.GetDisplayNode().GetVisibility())


def compare(segmentationNode: Any, on: bool) -> None:
    """Show the model's outlines over the fill of the segments as they are, or stop that.

    Their own outlines would hide where the two agree, so they are off meanwhile.
    """
    node = predictionOf(segmentationNode)
    if node is None or on == isCompared(segmentationNode):
        return
    display = segmentationNode.GetDisplayNode()
    if on:
        node.SetAndObserveTransformNodeID(segmentationNode.GetTransformNodeID())
        _showOutlines(node.GetDisplayNode(), display, node.GetSegmentation().GetSegmentIDs())
    else:
        node.GetDisplayNode().SetVisibility(False)
    if display is None:
        return
    if on:
        node.SetAttribute(_OUTLINE_BEFORE, str(int(display.GetVisibility2DOutline())))
        display.SetVisibility2DOutline(False)
    elif node.GetAttribute(_OUTLINE_BEFORE) is not None:
        display.SetVisibility2DOutline(node.GetAttribute(_OUTLINE_BEFORE) == "1")
        node.RemoveAttribute(_OUTLINE_BEFORE)


def restoreSegment(segmentationNode: Any, identifier: str, editorNode: Any) -> None:
    """Give a segment the voxels that the model gave it; where others lie there now, they give way.

    Args:
        editorNode: a vtkMRMLSegmentEditorNode; its masks and its way of overwriting stay as they were.
    Raises:
        ConfigError: there is no copy of the segment.
    """
    prediction = predictionOf(segmentationNode)
    original = None if prediction is None else prediction.GetSegmentation().GetSegment(identifier)
    if original is None:
        raise ConfigError(_("The model's result of this segment is no longer in the scene."))
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(segmentationNode.GetScene())
    logic.SetSegmentEditorNode(editorNode)
    logic.SetSegmentationNode(segmentationNode)
    logic.SetCurrentSegmentID(identifier)
    with _WithoutMasks(editorNode):
        logic.ModifySegmentByLabelmap(
            segmentationNode, identifier, _maskOf(original), logic.ModificationModeSet, False, False
        )


class _WithoutMasks:
    """Everything may be overwritten, everywhere; afterwards the settings of the editor are the user's again."""

    def __init__(self, editorNode: Any) -> None:
        self._node = editorNode

    def __enter__(self) -> None:
        node = self._node
        self._before = node.GetOverwriteMode(), node.GetMaskMode(), node.GetSourceVolumeIntensityMask()
        node.SetOverwriteMode(node.OverwriteAllSegments)
        node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        node.SetSourceVolumeIntensityMask(False)

    def __exit__(self, *_: object) -> None:
        overwrite, mask, intensity = self._before
        self._node.SetOverwriteMode(overwrite)
        self._node.SetMaskMode(mask)
        self._node.SetSourceVolumeIntensityMask(intensity)


def _newNode(segmentationNode: Any) -> Any:
    scene = segmentationNode.GetScene()
    node = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
    node.UnRegister(None)
    node.SetName(_("{name} (model's result)").format(name=segmentationNode.GetName()))
    node.SetHideFromEditors(True)  # before it is in the scene: otherwise it would be listed for a moment
    node.SetSelectable(False)
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    node.SetAttribute(constants.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")
    node = scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)
    node.GetDisplayNode().SetVisibility3D(False)
    node.SetAndObserveTransformNodeID(segmentationNode.GetTransformNodeID())
    segmentationNode.SetNodeReferenceID(ROLE, node.GetID())
    return node


def _addCopy(segmentation: Any, original: Any, identifier: str, image: Any) -> None:
    segment = slicer.vtkSegment()
    segment.DeepCopyMetadata(original)
    segment.SetLabelValue(original.GetLabelValue())
    segment.AddRepresentation(BINARY_LABELMAP, image)
    segmentation.AddSegment(segment, identifier)


def _clearOthers(image: Any, labels: Iterable[int]) -> None:
    scalars = image.GetPointData().GetScalars()
    if scalars is not None:
        array, kept = vtk_to_numpy(scalars), list(labels)
        table = np.zeros(max(int(array.max(initial=0)), *kept) + 1, array.dtype)
        table[kept] = kept
        array[...] = table[array]


def _maskOf(segment: Any) -> Any:
    """The voxels of one segment as 0 and 1."""
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(segment.GetRepresentation(BINARY_LABELMAP))
    scalars = image.GetPointData().GetScalars()
    if scalars is not None:
        array = vtk_to_numpy(scalars)
        array[...] = array == segment.GetLabelValue()
    return image


def _showOutlines(shown: Any, like: Any, identifiers: Iterable[str]) -> None:
    for identifier in identifiers:
        shown.SetSegmentVisibility(identifier, like is None or like.GetSegmentVisibility(identifier))
    shown.SetVisibility2DFill(False)
    shown.SetVisibility2DOutline(True)
    shown.SetVisibility3D(False)
    shown.SetSliceIntersectionThickness(_OUTLINE_PX)
    shown.SetVisibility(True)
