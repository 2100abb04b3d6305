"""Pictures of the scene without a screen: slice views and 3-D views through Slicer's own displayable managers.

VTK chooses a window that needs no display by itself; Mesa's software renderer is enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

_SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D",)
_VIEW_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)


class OffScreenView:
    """A window with a renderer, filled by the displayable managers of one view node."""

    def __init__(self, factory: Any, managers: tuple[str, ...], node: Any, size_px: tuple[int, int]) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetShowWindow(False)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size_px)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self.renderer)
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
            manager = slicer.vtkMRMLDisplayableManagerGroup.InstantiateDisplayableManager(name)
            manager.SetMRMLApplicationLogic(slicer.app.applicationLogic())
            self._group.AddDisplayableManager(manager)
            manager.UnRegister(None)
        self._group.SetMRMLDisplayableNode(node)

    def close(self) -> None:
        """Let go of the view node."""
        self._group.SetMRMLDisplayableNode(None)

    def save(self, path: Path) -> Path:
        """Render and write a PNG."""
        self.window.Render()
        picture = vtk.vtkWindowToImageFilter()
        picture.SetInput(self.window)
        picture.ReadFrontBufferOff()
        writer = vtk.vtkPNGWriter()
        writer.SetInputConnection(picture.GetOutputPort())
        writer.SetFileName(str(path))
        writer.Write()
        return path


class SliceView:
    """One slice through a volume with the segmentations over it, named as Slicer's views: Red, Yellow, Green."""

    def __init__(self, volume: Any, name: str = "Red", size_px: tuple[int, int] = (300, 300)) -> None:
        scene, application = slicer.mrmlScene, slicer.app.applicationLogic()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(scene)
        self.node = self.logic.AddSliceNode(name)
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self.logic.ResizeSliceNode(*size_px)
        self.node.RotateToVolumePlane(volume)
        self.logic.FitSliceToAll()
        self._view = OffScreenView(
            slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), _SLICE_MANAGERS, self.node, size_px
        )
        self._showImage()

    def _showImage(self) -> None:
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        mapper.SetInputConnection(self.logic.GetImageDataConnection())
        actor = vtk.vtkActor2D()
        actor.SetMapper(mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self._view.renderer.AddActor2D(actor)
        self._view.renderer.GetActiveCamera().ParallelProjectionOn()

    def save(self, path: Path) -> Path:
        self.logic.UpdatePipeline()
        return self._view.save(path)

    def close(self) -> None:
        """The scene may be closed afterwards."""
        slicer.app.applicationLogic().GetSliceLogics().RemoveItem(self.logic)
        self._view.close()
        self.logic.SetMRMLScene(None)


class ThreeDView:
    """Models and segment surfaces from one direction; a segmentation needs its closed surface."""

    def __init__(self, size_px: tuple[int, int] = (300, 300)) -> None:
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")
        self._view = OffScreenView(
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), _VIEW_MANAGERS, self.node, size_px
        )

    def save(self, path: Path) -> Path:
        self._view.renderer.ResetCamera()
        return self._view.save(path)

    def close(self) -> None:
        """The scene may be closed afterwards."""
        self._view.close()
        slicer.mrmlScene.RemoveNode(self.node)
