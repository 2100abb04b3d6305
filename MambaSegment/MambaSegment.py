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

from MambaSegmentPanel.batch_job import BatchCallbacks, BatchJob
from MambaSegmentPanel.batches import NodesReport, beginFiles, beginVolumes, casesOf, segmentFolder, segmentNodes
from MambaSegmentPanel.dependencies import missingPackages, torchIsInstalled
from MambaSegmentPanel.job import Callbacks, SegmentationJob
from MambaSegmentPanel.links import HOMEPAGE, TUTORIAL
from MambaSegmentPanel.panel import Panel
from MambaSegmentPanel.parameter_node import MambaSegmentParameterNode
from MambaSegmentPanel.preferences import Preferences
from MambaSegmentPanel.sample_data import registerSamples
from MambaSegmentPanel.segmenter import Segmenter, optionsOf
from MambaSegmentPanel.self_test import SelfTest
from MambaSegmentPanel.shell_line import ShellExample, shellExample
from MambaSegmentPanel.torch_build import nvidiaDriverIsThere, torchIsForCpuOnly

if TYPE_CHECKING:
    from MambaSegmentLib.batch.cases import Case
    from MambaSegmentLib.batch.report import Report
    from MambaSegmentLib.store import StoredModel

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
            'treatment. See the <a href="{tutorial}">tutorial</a> and the <a href="{homepage}">documentation</a>.'
        ).format(tutorial=TUTORIAL, homepage=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "Mamba: A. Gu and T. Dao, arXiv:2312.00752. LightM-UNet: W. Liao et al., arXiv:2403.05246. "
            "The shipped models were trained on Task04_Hippocampus of the Medical Segmentation Decathlon "
            "(M. Antonelli et al., Nature Communications 13, 4128, 2022), CC BY-SA 4.0, and on the Sunnybrook Cardiac "
            "Data (P. Radau et al., The MIDAS Journal, 2009), CC0 1.0."
        )
        slicer.app.connect("startupCompleted()", registerSamples)


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
        self.panel.enter()

    def exit(self):
        self.setParameterNode(None)
        if self.panel is not None:
            self.panel.exit()

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
        Preferences().apply()

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
        replace=None,
        onProgress=None,
        onDone=None,
        onFailed=None,
        **options,
    ) -> SegmentationJob:
        """Begin to segment and return at once; arguments as for `segment`.

        Args:
            replace: ids of segments of `output` that the new ones take the place of once they are there, with their
                fingerprints (`MambaSegmentPanel/edits.py`); None only adds.
            onDone: called with the segmentation node. onFailed: called with the error, an exception.
        Returns:
            The job, with `cancel()`, `isOver` and `outcome`.
        Raises:
            MambaSegmentError: nothing was begun, since the model, the nodes or the options cannot be used.
        """
        callbacks = Callbacks(onProgress, onDone, onFailed)
        return self.segmenter.begin(
            volumeNode, model, optionsOf(**options), output=output, replace=replace, callbacks=callbacks
        )

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

    def segmentFolderAsync(
        self,
        source,
        outputFolder,
        model="hippocampus-t1",
        *,
        ending=".seg.nrrd",
        callbacks=None,
        **options,
    ) -> BatchJob:
        """Begin what `segmentFolder` does and return at once.

        Args:
            callbacks: a `MambaSegmentPanel.batch_job.BatchCallbacks`: onProgress, onCase, onOver.
        Returns:
            The batch, with `cancel()`, `isOver`, `error`, `report` and `names`.
        Raises:
            MambaSegmentError: nothing was begun, since the source, the folder or the model cannot be used.
        """
        options = optionsOf(**{"statistics": True, **options})
        callbacks = callbacks or BatchCallbacks()
        return beginFiles(
            self.segmenter, source, model, outputFolder, ending=ending, options=options, callbacks=callbacks
        )

    def segmentVolumesAsync(
        self, cases, model="hippocampus-t1", *, reportFolder=None, callbacks=None, **options
    ) -> BatchJob:
        """Begin what `segmentNodes` does and return at once; as `segmentFolderAsync`.

        Args:
            cases: `MambaSegmentPanel.batch_volumes.VolumesCase` objects.
        """
        options = optionsOf(**{"statistics": True, **options})
        callbacks = callbacks or BatchCallbacks()
        return beginVolumes(
            self.segmenter, cases, model, options=options, reportFolder=reportFolder, callbacks=callbacks
        )

    def casesOfFolder(self, source, model="hippocampus-t1") -> "list[Case]":
        """What `segmentFolder` would do, in its order. Raises: ConfigError, when there is nothing to do."""
        return casesOf(source, model)

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

    def mayRemoveModel(self, model: "StoredModel") -> bool:
        """Whether a model of the store is the user's own."""
        from MambaSegmentLib.store import is_users_own

        return is_users_own(model.path)

    def removeModel(self, name: str):
        """Delete the file of a model; the worker, which may have it open, is ended first.

        Raises:
            BundleError: it is none of the user's own, or cannot be deleted.
        """
        from MambaSegmentLib.fetching.models import remove_model

        self.segmenter.close()
        remove_model(name)

    def missingPackages(self) -> list[str]:
        return missingPackages(REQUIREMENTS)

    def torchIsInstalled(self) -> bool:
        return torchIsInstalled()

    def gpuIsIdle(self) -> bool:
        """Whether this computer has a graphics card that the installed build of PyTorch cannot use."""
        return nvidiaDriverIsThere() and torchIsForCpuOnly()

    def shellExample(self, model: "StoredModel | None", volumeNode=None) -> ShellExample:
        return shellExample(model, volumeNode)


class MambaSegmentTest(SelfTest, ScriptedLoadableModuleTest):
    """Self-test, started from the developer tools of the panel or by ctest; see MambaSegmentPanel/self_test.py."""
