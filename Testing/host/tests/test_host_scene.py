"""The scene below the host is Slicer's own: arrays, segments, files and scene bundles come back as they went in."""

import numpy as np
import pytest
import slicer

IJK_TO_RAS = np.array([[-2.0, 0, 0, 5], [0, 0, 1.5, -7], [0, 1.0, 0, 11], [0, 0, 0, 1]])


@pytest.fixture
def a_volume(host):
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=IJK_TO_RAS, name="T1")


@pytest.fixture
def a_segmentation(a_volume):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "parts")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
    segmentation.GetSegmentation().AddEmptySegment("front", "Front", [1.0, 0.0, 0.0])
    mask = slicer.util.arrayFromVolume(a_volume) < 30
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, "front", a_volume)
    return segmentation


def test_volumes_go_to_files_and_back(a_volume, tmp_path):
    assert slicer.util.saveNode(a_volume, str(tmp_path / "T1.nrrd"))
    again = slicer.util.loadVolume(str(tmp_path / "T1.nrrd"))
    assert again is not a_volume
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(a_volume))


def test_segmentations_go_to_files_and_back(a_volume, a_segmentation, tmp_path):
    assert slicer.util.saveNode(a_segmentation, str(tmp_path / "parts.seg.nrrd"))
    again = slicer.util.loadSegmentation(str(tmp_path / "parts.seg.nrrd"))
    assert again.GetSegmentation().GetSegment("front").GetName() == "Front"
    read = slicer.util.arrayFromSegmentBinaryLabelmap(again, "front", a_volume)
    np.testing.assert_array_equal(read > 0, slicer.util.arrayFromVolume(a_volume) < 30)


@pytest.mark.parametrize("name", ["scene.mrb", "folder"])
def test_scenes_go_to_files_and_back(host, a_segmentation, tmp_path, name):
    assert slicer.util.saveScene(str(tmp_path / name))
    host.close_scene()
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    path = tmp_path / name
    slicer.util.loadScene(str(path if path.is_file() else next(path.glob("*.mrml"))))
    volume = slicer.util.getNode("T1")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume).ravel(), np.arange(120))
    read = slicer.util.arrayFromSegmentBinaryLabelmap(slicer.util.getNode("parts"), "front", volume)
    assert (read > 0).sum() == 30


def test_a_file_that_is_no_image_is_an_error_that_names_it(host, tmp_path):
    (tmp_path / "text.nrrd").write_text("not an image")
    with host.failures.expected(), pytest.raises(RuntimeError, match=r"text\.nrrd"):
        slicer.util.loadVolume(str(tmp_path / "text.nrrd"))
    assert slicer.util.getNodesByClass("vtkMRMLVolumeNode") == []


def test_a_missing_file_is_an_error(host, tmp_path):
    with pytest.raises(RuntimeError, match="does not exist"):
        slicer.util.loadSegmentation(str(tmp_path / "gone.seg.nrrd"))


def test_terminologies_are_found_by_label(host):
    entry = slicer.vtkSlicerTerminologyEntry()
    general = "Segmentation category and type - 3D Slicer General Anatomy list"
    assert slicer.modules.terminologies.logic().FindTypeInTerminologyBy3dSlicerLabel(general, "liver", entry)
    assert entry.GetTypeObject().GetCodeValue() == "10200004"


def test_module_logics_are_reached_as_in_slicer(host):
    assert slicer.util.getModuleLogic("Segmentations") is slicer.modules.segmentations.logic()
    with pytest.raises(RuntimeError):
        slicer.util.getModule("NoSuchModule")


def test_vtk_errors_are_recorded(host):
    with host.failures.expected() as seen:
        slicer.vtkMRMLScene().SetURL("nowhere.mrml")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLNoSuchNode")
    assert any("vtkMRMLNoSuchNode" in each for each in seen.vtk_errors)
