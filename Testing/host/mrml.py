"""A real MRML scene with Slicer's real module logics, from the slicer-core package; no application around it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import slicer
import vtk

from Testing.host.terminology_files import writeTerminologies

# Terminologies after its files are written; Segmentations after Terminologies and Colors
_MODULE_LOGICS = {
    "Colors": "",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Texts": "vtkSlicerTextsLogic",
}
# the names under which Slicer's own Python files import these
_ALIASES = {
    "vtkSegmentationCorePython": "vtkSegmentationCore",
    "MRMLCorePython": "MRMLCore",
    "MRMLLogicPython": "MRMLLogic",
    "vtkITK": "vtkITK",
}


class Mrml:
    """The scene and everything that must outlive it; started once in a process.

    Attributes:
        scene: also `slicer.mrmlScene`.
        applicationLogic: vtkSlicerApplicationLogic.
        logics: module name → its logic.
    """

    def __init__(self, folder: Path) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.applicationLogic = slicer.vtkSlicerApplicationLogic()
        self.applicationLogic.SetMRMLScene(self.scene)
        self.applicationLogic.SetTemporaryPath(str(_made(folder / "temporary")))
        colors = self.applicationLogic.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()  # before any display node, which would have no colour table
        self.applicationLogic.SetSliceLogics(vtk.vtkCollection())
        self.applicationLogic.SetViewLogics(vtk.vtkCollection())
        self._startDataIO(_made(folder / "cache"))
        self.logics: dict[str, Any] = {}
        self._startModuleLogics(folder / "share", colors)
        self._registerNodeClasses()
        for name, source in _ALIASES.items():
            sys.modules.setdefault(name, importlib.import_module(f"slicer_core.{source}"))
        slicer.mrmlScene = self.scene
        self._first_nodes = set(self._nodes())

    def reset(self) -> None:
        """Close the scene, and remove the singleton nodes that came since the start, which closing leaves."""
        self.scene.Clear(False)
        for node in self._nodes():
            if node not in self._first_nodes:
                self.scene.RemoveNode(node)

    def _nodes(self) -> list[Any]:
        return [self.scene.GetNthNode(index) for index in range(self.scene.GetNumberOfNodes())]

    def _startDataIO(self, cache: Path) -> None:
        """What .mrb files are read with."""
        self._remoteIO = slicer.vtkMRMLRemoteIOLogic()
        self._remoteIO.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self._remoteIO.SetMRMLScene(self.scene)
        self._remoteIO.SetMRMLApplicationLogic(self.applicationLogic)
        self._dataIO = slicer.vtkDataIOManagerLogic()
        self._dataIO.SetMRMLApplicationLogic(self.applicationLogic)
        self._dataIO.SetAndObserveDataIOManager(self._remoteIO.GetDataIOManager())
        self._remoteIO.AddDataIOToScene()

    def _startModuleLogics(self, share: Path, colors: Any) -> None:
        writeTerminologies(share / "Terminologies")
        for name, className in _MODULE_LOGICS.items():
            logic = getattr(slicer, className)() if className else colors
            if hasattr(logic, "SetModuleShareDirectory"):
                logic.SetModuleShareDirectory(str(_made(share / name)))
            logic.SetMRMLScene(self.scene)
            logic.SetMRMLApplicationLogic(self.applicationLogic)
            self.applicationLogic.SetModuleLogic(name, logic)
            self.logics[name] = logic

    def _registerNodeClasses(self) -> None:
        node = slicer.vtkMRMLScriptedModuleNode()
        if not self.scene.GetClassNameByTag(node.GetNodeTagName()):
            self.scene.RegisterNodeClass(node)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
