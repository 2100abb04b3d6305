"""`slicer.app.coreIOManager()` as far as slicer.util uses it: files to nodes and back, through real storage nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import vtk

_SCENES = (".mrml", ".mrb")
_SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr", ".seg.vtm")
_VOLUMES = (
    ".nrrd",
    ".nhdr",
    ".nii",
    ".nii.gz",
    ".mha",
    ".mhd",
    ".hdr",
    ".img",
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".dcm",
)
# file type → node class whose default storage node reads it
_PLAIN = {
    "ModelFile": "vtkMRMLModelNode",
    "TransformFile": "vtkMRMLTransformNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
    "MarkupsFile": "vtkMRMLMarkupsFiducialNode",
}
_PLAIN_ENDINGS = {
    "ModelFile": (".vtk", ".vtp", ".stl", ".ply", ".obj"),
    "TransformFile": (".h5", ".tfm"),
    "TableFile": (".csv", ".tsv"),
    "TextFile": (".txt", ".json"),
    "ColorTableFile": (".ctbl",),
    "MarkupsFile": (".fcsv", ".mrk.json"),
}


class CoreIOManager:
    """No file dialogs; returns False and leaves a message where Slicer does."""

    def __init__(self, mrml: Any) -> None:
        self._mrml = mrml
        self._readers: dict[str, Callable[..., Any]] = {
            "VolumeFile": self._readVolume,
            "SegmentationFile": self._readSegmentation,
            **{name: self._plainReader(cls) for name, cls in _PLAIN.items()},
        }

    def fileType(self, fileName: str) -> str:
        name = fileName.lower()
        known = {"SceneFile": _SCENES, "SegmentationFile": _SEGMENTATIONS, **_PLAIN_ENDINGS, "VolumeFile": _VOLUMES}
        return next((kind for kind, endings in known.items() if name.endswith(endings)), "NoFile")

    def loadNodes(self, fileType: str, properties: dict[str, Any], loaded: vtk.vtkCollection, messages: Any) -> bool:
        path = properties["fileName"]
        if not Path(path).exists():
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"the file {path} does not exist")
            return False
        if fileType == "SceneFile":
            return self._readScene(path, properties)
        if fileType not in self._readers:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"no reader for file type {fileType!r}")
            return False
        node = self._readers[fileType](path, properties, messages)
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def fileWriterFileType(self, node: Any) -> str:
        if node.IsA("vtkMRMLVolumeNode"):
            return "VolumeFile"
        return "SegmentationFile" if node.IsA("vtkMRMLSegmentationNode") else f"{node.GetNodeTagName()}File"

    def fileWriterExtensions(self, node: Any) -> tuple[str, ...]:
        """As "NRRD (.nrrd)"."""
        storage = node.CreateDefaultStorageNode()
        formats = storage.GetSupportedWriteFileTypes()
        storage.UnRegister(None)
        return tuple(formats.GetValue(index) for index in range(formats.GetNumberOfValues()))

    def extractKnownExtension(self, fileName: str, _node: Any = None) -> str:
        known = [*_SCENES, *_SEGMENTATIONS, *_VOLUMES, *(each for group in _PLAIN_ENDINGS.values() for each in group)]
        return max((each for each in known if fileName.lower().endswith(each)), key=len, default=Path(fileName).suffix)

    def saveNodes(self, fileType: str, properties: dict[str, Any], messages: Any) -> bool:
        path = properties["fileName"]
        if fileType == "SceneFile":
            return self._writeScene(str(path), messages)
        node = self._mrml.scene.GetNodeByID(properties["nodeID"])
        if node is None or not node.AddDefaultStorageNode(str(path)):
            return False
        storage = node.GetStorageNode()
        storage.SetFileName(str(path))
        if "useCompression" in properties:
            storage.SetUseCompression(bool(properties["useCompression"]))
        return _withMessages(storage, messages, storage.WriteData(node))

    def exportNodes(
        self, nodeIDs: list[str], fileNames: list[str], properties: dict[str, Any], hardenTransform: bool, messages: Any
    ) -> bool:
        """Write copies, so that the nodes keep their own storage nodes."""
        if hardenTransform:
            raise NotImplementedError("the host exports in the node's own coordinates only")
        return all(
            self._export(self._mrml.scene.GetNodeByID(nodeID), fileName, properties, messages)
            for nodeID, fileName in zip(nodeIDs, fileNames, strict=True)
        )

    def _export(self, node: Any, fileName: str, properties: dict[str, Any], messages: Any) -> bool:
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        storage.SetScene(self._mrml.scene)
        storage.SetFileName(str(fileName))
        if "useCompression" in properties:
            storage.SetUseCompression(bool(properties["useCompression"]))
        return _withMessages(storage, messages, storage.WriteData(node))

    def _readVolume(self, path: str, properties: dict[str, Any], messages: Any) -> Any:
        options = sum(
            bit * bool(properties.get(name, False))
            for bit, name in (
                (1, "labelmap"),
                (2, "center"),
                (4, "singleFile"),
                (8, "autoWindowLevel"),
                (16, "discardOrientation"),
            )
        )
        name = properties.get("name") or _baseName(path, self.extractKnownExtension(path))
        node = self._mrml.logics["Volumes"].AddArchetypeVolume(path, name, options)
        if node is None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"{path} could not be read as a volume")
        return node

    def _readSegmentation(self, path: str, properties: dict[str, Any], messages: Any) -> Any:
        node = self._mrml.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", properties.get("name") or "")
        if not properties.get("name"):
            node.SetName(self._mrml.scene.GenerateUniqueName(_baseName(path, self.extractKnownExtension(path))))
        if not self._readInto(node, path, messages):
            return None
        node.CreateDefaultDisplayNodes()
        return node

    def _plainReader(self, className: str) -> Callable[..., Any]:
        def read(path: str, properties: dict[str, Any], messages: Any) -> Any:
            name = properties.get("name") or _baseName(path, self.extractKnownExtension(path))
            node = self._mrml.scene.AddNewNodeByClass(className, self._mrml.scene.GenerateUniqueName(name))
            return node if self._readInto(node, path, messages) else None

        return read

    def _readInto(self, node: Any, path: str, messages: Any) -> bool:
        """Through the node's own storage node; a node that could not be read leaves the scene."""
        ok = bool(node.AddDefaultStorageNode(path)) and bool(node.GetStorageNode().ReadData(node))
        if node.GetStorageNode() is not None:
            _withMessages(node.GetStorageNode(), messages, ok)
        if not ok:
            if node.GetStorageNode() is not None:
                self._mrml.scene.RemoveNode(node.GetStorageNode())
            self._mrml.scene.RemoveNode(node)
        return ok

    def _readScene(self, path: str, properties: dict[str, Any]) -> bool:
        scene = self._mrml.scene
        clear = bool(properties.get("clear", False))
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def _writeScene(self, path: str, messages: Any) -> bool:
        scene = self._mrml.scene
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path))
        if path.lower().endswith(".mrml"):
            scene.SetURL(path)
            scene.SetRootDirectory(str(Path(path).parent))
            return bool(scene.Commit())
        Path(path).mkdir(parents=True, exist_ok=True)
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(path, None, messages))


def _withMessages(storage: Any, messages: Any, ok: Any) -> bool:
    if messages is not None and storage.GetUserMessages() is not None:
        messages.AddMessages(storage.GetUserMessages())
    return bool(ok)


def _baseName(path: str, ending: str) -> str:
    name = Path(path).name
    return name[: -len(ending)] if ending and name.lower().endswith(ending) else name
