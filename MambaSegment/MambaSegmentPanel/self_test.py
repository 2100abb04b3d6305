"""What the module tries of itself inside the real Slicer; on the stand-in host the same runs with the other tests.

The phantom is drawn here, so that nothing is downloaded. Without PyTorch or another package there is nothing to segment
with: then only what needs none of them is tried, since installing is for the user to decide.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from MambaSegmentLib.errors import Cancelled

_MODEL = "hippocampus-t1"


class SelfTest:
    """The methods of MambaSegmentTest, which is a ScriptedLoadableModuleTest besides."""

    delayDisplay: Callable[..., None]

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = slicer.util.getModuleLogic("MambaSegment")  # whose worker ends with the application

    def test_installation(self) -> None:
        """The panel can be built, and says what is missing if and only if something is."""
        ui = slicer.util.getModuleWidget("MambaSegment").ui
        missing = self.logic.missingPackages() or not self.logic.torchIsInstalled()
        assert ui.missingPackagesLabel.isVisibleTo(ui.MambaSegment) == bool(missing)
        assert "esearch" in ui.researchUseLabel.text

    def test_shippedModelHasACard(self) -> None:
        cards = {model.name: model.manifest for model in self.logic.installedModels()}
        assert _MODEL in cards
        assert cards[_MODEL] is not None, "its file cannot be read"

    def test_choicesAreKeptInTheScene(self) -> None:
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
        node = self.logic.getParameterNode()
        node.inputVolume, node.model = volume, _MODEL
        again = self.logic.getParameterNode()
        assert (again.inputVolume.GetID(), again.model) == (volume.GetID(), _MODEL)

    def test_shellLineNamesModelAndResult(self) -> None:
        model = next(model for model in self.logic.installedModels() if model.name == _MODEL)
        line = self.logic.shellExample(model).line
        assert f"-m {_MODEL}" in line
        assert ".seg.nrrd" in line

    def test_segmentsAPhantomAgainAndAfterCancel(self) -> None:
        if not self._canSegment():
            return
        volume = self._phantom()
        node = self.logic.segment(volume, _MODEL)
        voxels = [self._voxels(node, volume, number) for number in (1, 2)]
        assert all(1000 < count < 4000 for count in voxels), voxels
        assert node.GetTransformNodeID() == volume.GetTransformNodeID()
        job = self.logic.segmentAsync(volume, _MODEL, onProgress=lambda _: job.cancel())
        try:
            self.logic.segmenter.wait(job)
            raise AssertionError("a cancelled job gave a result")
        except Cancelled:
            pass
        again = self.logic.segment(volume, _MODEL, output=node)
        assert again.GetSegmentation().GetNumberOfSegments() == 4

    def test_savedAndLoadedItIsTheSame(self) -> None:
        """The segmentation as a file of its own, and the scene as a whole with what was chosen."""
        if not self._canSegment():
            return
        volume = self._phantom()
        self.logic.getParameterNode().inputVolume = volume
        node = self.logic.segment(volume, _MODEL)
        expected = self._voxels(node, volume, 1)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "result.seg.nrrd")
            assert slicer.util.saveNode(node, path)
            self._checkSegments(slicer.util.loadSegmentation(path), volume, expected)
            scene = str(Path(folder) / "scene.mrb")
            assert slicer.util.saveScene(scene)
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(scene)
        volume = self.logic.getParameterNode().inputVolume
        assert volume.GetName() == "phantom"
        for again in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            self._checkSegments(again, volume, expected)

    def test_batchOfFilesGoesOn(self) -> None:
        if not self._canSegment():
            return
        with tempfile.TemporaryDirectory() as folder:
            images, labels = Path(folder) / "images", Path(folder) / "labels"
            images.mkdir()
            assert slicer.util.saveNode(self._phantom(), str(images / "phantom.nrrd"))
            (images / "bad.nrrd").write_text("no image", encoding="utf-8")
            for resumed in (0, 1):
                report = self.logic.segmentFolder(images, labels, _MODEL).to_json()
                assert (report["done"], report["failed"], report["resumed"]) == (1, 1, resumed), report
            assert (labels / "phantom.seg.nrrd").is_file()
            assert (labels / "report.csv").is_file()

    def test_batchOfVolumes(self) -> None:
        if not self._canSegment():
            return
        result = self.logic.segmentNodes([self._phantom(), None], _MODEL)
        assert [outcome.status for outcome in result.report.outcomes] == ["done", "failed"]
        assert [node is None for node in result.nodes] == [False, True]

    def _canSegment(self) -> bool:
        if importlib.util.find_spec("torch") is not None and not self.logic.missingPackages():
            return True
        self.delayDisplay("PyTorch or another package is not installed: nothing was segmented")
        return False

    def _phantom(self) -> Any:
        from MambaSegmentLib.phantom import hippocampus_phantom

        image = hippocampus_phantom().image
        lpsToRas = np.diag([-1.0, -1.0, 1.0, 1.0])
        return slicer.util.addVolumeFromArray(image.array, ijkToRAS=lpsToRas @ image.ijk_to_lps, name="phantom")

    def _checkSegments(self, segmentationNode: Any, volumeNode: Any, expected: int) -> None:
        assert self._voxels(segmentationNode, volumeNode, 1) == expected
        assert segmentationNode.GetSegmentation().GetSegment("Segment_1").GetName() == "Anterior hippocampus"

    def _voxels(self, segmentationNode: Any, volumeNode: Any, number: int) -> int:
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, f"Segment_{number}", volumeNode)
        return int(np.count_nonzero(mask))
