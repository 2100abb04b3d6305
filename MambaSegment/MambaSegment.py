"""The four classes that Slicer looks for; the panel lies in MambaSegmentPanel, everything else in MambaSegmentLib.

Neither this file nor anything it imports imports torch: networks run in a process of their own.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
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

from MambaSegmentPanel.batches import NodesReport, segmentFolder, segmentNodes
from MambaSegmentPanel.dependencies import missingPackages, torchIsInstalled
from MambaSegmentPanel.job import Callbacks, SegmentationJob
from MambaSegmentPanel.panel import Panel
from MambaSegmentPanel.parameter_node import MambaSegmentParameterNode
from MambaSegmentPanel.segmenter import Segmenter, optionsOf
from MambaSegmentPanel.shell_line import ShellExample, shellExample

from MambaSegmentLib.errors import Cancelled

if TYPE_CHECKING:
    from MambaSegmentLib.batch.report import Report
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
            "Segmentation networks built on selective state-space models (Mamba). Choose a volume and a model, press "
            "Segment, and get named segments beside the volume. For research only: not for diagnosis or "
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
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        self.setParameterNode(None)  # at the end of Slicer exit() may not have come before
        self.removeObservers()
        if self.logic is not None:
            self.logic.close()
        if self.panel is not None:
            self.panel.close()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, _caller, _event):
        self.setParameterNode(None)
        self.panel.forgetResults()

    def onSceneEndClose(self, _caller, _event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller, _event):
        """A loaded scene brings a parameter node of its own."""
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
        if self.panel is not None:  # None where setup() failed half way
            self.panel.setParameterNode(node)

    def onParameterNodeModified(self, _caller, _event):
        self.panel.update()


class MambaSegmentLogic(ScriptedLoadableModuleLogic):
    """What the module can do without its panel; `slicer.util.getModuleLogic("MambaSegment")` in the console.

    Networks run in a worker process that this object owns: it starts with the first job, keeps the model warm, and ends
    with the application, with the module's reload, or by `close`. Errors are those of MambaSegmentLib/errors.py.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self.segmenter = Segmenter()

    def segment(self, volumeNode, model="hippocampus-t1", *, output=None, onProgress=None, **options):
        """Segment a volume and wait for the result; the application stays awake meanwhile.

        Args:
            volumeNode: a scalar volume node; for a model of several channels a list of them in the model's order, or
                a dict from channel names.
            model: a name of the model store or a file.
            output: a segmentation node to add the segments to; None makes a new one beside the volume.
            onProgress: called with a `MambaSegmentLib.progress.Progress`.
            options: device ("auto", "cpu", "cuda", …), overlap (0 to 0.9), statistics; `worker/protocol.py` has all.
        Returns:
            The vtkMRMLSegmentationNode.
        Raises:
            MambaSegmentError: what went wrong; `Cancelled` after `cancel()`, or when the volume was removed or the
                scene closed. KeyboardInterrupt: Ctrl-C in the terminal.
        """
        job = self.segmentAsync(volumeNode, model, output=output, onProgress=onProgress, **options)
        return self.segmenter.wait(job)

    def segmentAsync(
        self,
        volumeNode,
        model="hippocampus-t1",
        *,
        output=None,
        onProgress=None,
        onDone=None,
        onFailed=None,
        **options,
    ) -> SegmentationJob:
        """Begin to segment and return at once; arguments as for `segment`.

        Args:
            onDone: called with the segmentation node. onFailed: called with the error, an exception.
        Returns:
            The job, with `cancel()`, `isOver` and `outcome`.
        Raises:
            MambaSegmentError: nothing was begun, since the model, the nodes or the options cannot be used.
        """
        callbacks = Callbacks(onProgress, onDone, onFailed)
        return self.segmenter.begin(volumeNode, model, optionsOf(**options), output=output, callbacks=callbacks)

    def segmentNodes(
        self, cases, model="hippocampus-t1", *, reportFolder=None, onProgress=None, **options
    ) -> NodesReport:
        """Segment one volume after the other and wait; one that fails does not stop the rest.

        Args:
            cases: for each case what `segment` takes as `volumeNode`.
            reportFolder: for report.json and report.csv; None writes none.
            onProgress: called before each case.
        Returns:
            `nodes`, with None for a case that failed, and `report`, with the message of each.
        """
        options = optionsOf(**{"statistics": True, **options})
        return segmentNodes(
            self.segmenter, cases, model, options=options, reportFolder=reportFolder, onProgress=onProgress
        )

    def segmentFolder(
        self,
        source,
        outputFolder,
        model="hippocampus-t1",
        *,
        ending=".seg.nrrd",
        onProgress=None,
        onFailure=None,
        **options,
    ) -> "Report":
        """Segment files without loading them, and wait; as `mambasegment batch`, and it goes on where that stopped.

        Args:
            source: a folder, a pattern such as "/data/*/t1.nii.gz", or a .csv file with a column for each channel.
            outputFolder: for the labels, report.json and report.csv; made if it is not there.
            ending: .seg.nrrd, .nrrd, .nii.gz, .nii or .mha.
            onProgress: called before each case. onFailure: called with the outcome of a case that failed.
        Returns:
            The report: `to_json()`, `rows()` for a table, `outcomes`.
        """
        options = optionsOf(**{"statistics": True, **options})
        return segmentFolder(
            self.segmenter,
            source,
            model,
            outputFolder,
            ending=ending,
            options=options,
            onProgress=onProgress,
            onFailure=onFailure,
        )

    def warmUp(self, model="hippocampus-t1", **options):
        """Start the worker and load the model, so that the first click need not wait; returns at once."""
        self.segmenter.load(model, optionsOf(**options))

    def cancel(self):
        """Stop all that was begun, also what a caller waits for; the worker stays."""
        self.segmenter.cancel()

    def close(self):
        """Stop all and end the worker; it starts again when it is needed."""
        self.segmenter.close()

    def getParameterNode(self) -> MambaSegmentParameterNode:
        return MambaSegmentParameterNode(super().getParameterNode())

    def installedModels(self) -> "list[StoredModel]":
        """Every model of the store with its description; weights are not read.

        Raises: ModuleNotFoundError, when Slicer's Python lacks a package of requirements.txt that this needs.
        """
        from MambaSegmentLib.store import list_models  # here, so that the module loads before they are installed

        return list_models()

    def missingPackages(self) -> list[str]:
        return missingPackages(REQUIREMENTS)

    def torchIsInstalled(self) -> bool:
        return torchIsInstalled()

    def shellExample(self, model: "StoredModel | None", volumeNode=None) -> ShellExample:
        return shellExample(model, volumeNode)


class MambaSegmentTest(ScriptedLoadableModuleTest):
    """Self-test, started from the developer tools of the panel or by ctest."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = slicer.util.getModuleLogic("MambaSegment")  # whose worker ends with the application

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

    def test_segmentsAPhantomAgainAndAfterCancel(self):
        if not self._canSegment():
            return
        volume = self._phantom()
        node = self.logic.segment(volume, "hippocampus-t1")
        voxels = [self._voxels(node, volume, number) for number in (1, 2)]
        assert all(1000 < count < 4000 for count in voxels), voxels
        assert node.GetTransformNodeID() == volume.GetTransformNodeID()
        job = self.logic.segmentAsync(volume, "hippocampus-t1", onProgress=lambda _: job.cancel())
        try:
            self.logic.segmenter.wait(job)
            raise AssertionError("a cancelled job gave a result")
        except Cancelled:
            pass
        again = self.logic.segment(volume, "hippocampus-t1", output=node)
        assert again.GetSegmentation().GetNumberOfSegments() == 4

    def test_savedAndLoadedItIsTheSame(self):
        if not self._canSegment():
            return
        volume = self._phantom()
        node = self.logic.segment(volume, "hippocampus-t1")
        expected = self._voxels(node, volume, 1)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "result.seg.nrrd")
            assert slicer.util.saveNode(node, path)
            slicer.mrmlScene.RemoveNode(node)
            again = slicer.util.loadSegmentation(path)
        assert self._voxels(again, volume, 1) == expected
        assert again.GetSegmentation().GetSegment("Segment_1").GetName() == "Anterior hippocampus"

    def test_aFolder(self):
        if not self._canSegment():
            return
        with tempfile.TemporaryDirectory() as folder:
            images, labels = Path(folder) / "images", Path(folder) / "labels"
            images.mkdir()
            assert slicer.util.saveNode(self._phantom(), str(images / "phantom.nrrd"))
            report = self.logic.segmentFolder(images, labels, "hippocampus-t1").to_json()
            assert (report["done"], report["failed"]) == (1, 0), report
            assert (labels / "phantom.seg.nrrd").is_file()

    def _canSegment(self):
        """Without PyTorch there is nothing to test: installing it is for the user to decide."""
        if importlib.util.find_spec("torch") is not None and not self.logic.missingPackages():
            return True
        self.delayDisplay("PyTorch or another package is not installed: nothing was segmented")
        return False

    def _phantom(self):
        from MambaSegmentLib.phantom import hippocampus_phantom

        image = hippocampus_phantom().image
        lpsToRas = np.diag([-1.0, -1.0, 1.0, 1.0])
        return slicer.util.addVolumeFromArray(image.array, ijkToRAS=lpsToRas @ image.ijk_to_lps, name="phantom")

    def _voxels(self, segmentationNode, volumeNode, number):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, f"Segment_{number}", volumeNode)
        return int(np.count_nonzero(mask))
