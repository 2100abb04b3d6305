"""What the user chose, saved with the scene."""

from typing import Any

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class MambaSegmentParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode  # the model's first channel; the others: see `channelVolume`
    outputSegmentation: vtkMRMLSegmentationNode  # to add to; None makes a new one
    model: str = ""  # a name of the model store; its list changes at run time, so the panel fills the box by hand
    device: str = "auto"  # no Choice: a scene from another kind of computer must open all the same
    reviewSegmentation: vtkMRMLSegmentationNode  # what the section Review shows; its state lies in that node


def channelVolume(node: Any, channel: int) -> Any:
    """The volume that was chosen for a channel of the model, counted from 0, or None."""
    if channel == 0:
        return node.inputVolume
    return node.parameterNode.GetNodeReference(_role(channel))


def setChannelVolume(node: Any, channel: int, volumeNode: Any) -> None:
    """Choose a volume for a channel, or None. Node references, as Slicer keeps them right when a scene is loaded."""
    if channel == 0:
        node.inputVolume = volumeNode
    else:
        node.parameterNode.SetNodeReferenceID(_role(channel), None if volumeNode is None else volumeNode.GetID())


def _role(channel: int) -> str:
    return f"inputVolume{channel + 1}"
