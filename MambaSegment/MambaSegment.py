"""The four classes that Slicer looks for; the panel lies in MambaSegmentPanel, everything else in MambaSegmentLib.

Neither this file nor anything it imports imports torch: networks run in a process of their own.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import MambaSegmentLib
except ModuleNotFoundError:  # a source checkout, where the library lies beside the module's folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import MambaSegmentLib  # noqa: F401  (to fail here, with a clear message, rather than in the middle of a click)

from MambaSegmentPanel.dependencies import missingPackages
from MambaSegmentPanel.panel import Panel
from MambaSegmentPanel.parameter_node import MambaSegmentParameterNode
from MambaSegmentPanel.shell_line import ShellExample, shellExample

if TYPE_CHECKING:
    from MambaSegmentLib.store import StoredModel

HOMEPAGE = "https://github.com/MambaSegment/SlicerMambaSegment"
REQUIREMENTS = Path(__file__).resolve().parent / "Resources" / "requirements.txt"


class MambaSegment(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("MambaSegment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["MambaSegment contributors"]
        self.parent.helpText = _(
            "Segmentation networks built on selective state-space models (Mamba). The panel shows the installed models "
            "with what each is for, and the shell command that runs one. For research only: not for diagnosis or "
            'treatment. See the <a href="{homepage}">documentation</a>.'
        ).format(homepage=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "Mamba: A. Gu and T. Dao, arXiv:2312.00752. LightM-UNet: W. Liao et al., arXiv:2403.05246. "
            "The shipped model was trained on Task04_Hippocampus of the Medical Segmentation Decathlon "
            "(M. Antonelli et al., Nature Communications 13, 4128, 2022), CC BY-SA 4.0."
        )


class MambaSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Follows Slicer's life cycle: scene, module shown or left, reload; the panel itself is `Panel`."""

    def __init__(self, parent=None):
        self.ui = None
        self.logic = None
        self.panel = None
        self._parameterNode = None
        self._guiTag = None
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup() itself

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        root = slicer.util.loadUI(self.resourcePath("UI/MambaSegment.ui"))
        root.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(root)
        self.ui = slicer.util.childWidgetVariables(root)
        self.logic = MambaSegmentLogic()
        self.panel = Panel(self.ui, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self):
        self.setParameterNode(None)  # at the end of Slicer exit() may not have come before
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, _caller, _event):
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller, _event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onReload(self):
        """Forget both packages, so that all of their files are read again, not only this one."""
        self.exit()
        for name in list(sys.modules):
            if name.partition(".")[0] in ("MambaSegmentLib", "MambaSegmentPanel"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            self._parameterNode.inputVolume = self.logic.firstVolume()

    def setParameterNode(self, node):
        """Bind the widgets to another node, or with None to none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self._parameterNode = node
        self._guiTag = None
        if node is not None:
            self._guiTag = node.connectGui(self.ui)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self.panel.setParameterNode(node)

    def onParameterNodeModified(self, _caller, _event):
        self.panel.update()


class MambaSegmentLogic(ScriptedLoadableModuleLogic):
    """What the module can do without its panel; `slicer.util.getModuleLogic("MambaSegment")` in the console."""

    def getParameterNode(self) -> MambaSegmentParameterNode:
        return MambaSegmentParameterNode(super().getParameterNode())

    def firstVolume(self):
        """The scene's first image; label maps, which Slicer derives from images, do not count."""
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return next((volume for volume in volumes if volume.GetClassName() == "vtkMRMLScalarVolumeNode"), None)

    def installedModels(self) -> "list[StoredModel]":
        """Every model of the store with its description; weights are not read.

        Raises: ModuleNotFoundError, when Slicer's Python lacks a package of requirements.txt that this needs.
        """
        from MambaSegmentLib.store import list_models  # here, so that the module loads before they are installed

        return list_models()

    def missingPackages(self) -> list[str]:
        return missingPackages(REQUIREMENTS)

    def shellExample(self, model: "StoredModel | None", volumeNode=None) -> ShellExample:
        return shellExample(model, volumeNode)


class MambaSegmentTest(ScriptedLoadableModuleTest):
    """Self-test, started from the developer tools of the panel or by ctest."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = MambaSegmentLogic()

    def test_shippedModelHasACard(self):
        cards = {model.name: model.manifest for model in self.logic.installedModels()}
        assert "hippocampus-t1" in cards
        assert cards["hippocampus-t1"] is not None, "its file cannot be read"

    def test_choicesAreKeptInTheScene(self):
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
        node = self.logic.getParameterNode()
        node.inputVolume, node.model = volume, "hippocampus-t1"
        again = self.logic.getParameterNode()
        assert (again.inputVolume.GetID(), again.model) == (volume.GetID(), "hippocampus-t1")

    def test_shellLineNamesModelAndResult(self):
        model = next(model for model in self.logic.installedModels() if model.name == "hippocampus-t1")
        line = self.logic.shellExample(model).line
        assert "-m hippocampus-t1" in line
        assert ".seg.nrrd" in line
