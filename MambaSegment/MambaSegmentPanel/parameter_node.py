"""What the user chose, saved with the scene."""

from typing import Any

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class MambaSegmentParameterNode:
    """The choices with a fixed list are texts without `Choice`: a scene from another computer, or from a version that
    knows other qualities, must open all the same. `choice_box.py` shows them.
    """

    inputVolume: vtkMRMLScalarVolumeNode  # the model's first channel; the others: see `channelVolume`
    outputSegmentation: vtkMRMLSegmentationNode  # to add to; None makes a new one
    region: vtkMRMLMarkupsROINode  # None means the whole image
    model: str = ""  # a name of the model store; its list changes at run time, so the panel fills the box by hand
    device: str = "auto"
    quality: str = "best"
    surface: str = "small"  # when surfaces are made for the 3D views
    queuedModels: list[str]  # their volumes are node references, see `model_queue.py`
    batchKind: str = "files"  # or "scene"
    batchSource: str = ""  # a folder, a pattern or a .csv file
    batchOutput: str = ""  # a folder
    batchEnding: str = ".seg.nrrd"
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
