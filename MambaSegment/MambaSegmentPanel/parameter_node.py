"""What the user chose, saved with the scene."""

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import parameterNodeWrapper


@parameterNodeWrapper
class MambaSegmentParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode  # the model's first channel
    model: str = ""  # a name of the model store; its list changes at run time, so the panel fills the box by hand
