"""The tests that run inside the real Slicer run on the stand-in as well; and what the panel looks like."""

import pytest
import slicer

from Testing.module import panel_in_slicer


class TestPanelInSlicer(panel_in_slicer.PanelInSlicer):
    @pytest.fixture(autouse=True)
    def _loaded_module(self, host):
        host.load_module()


def test_the_modules_self_test_passes(host):
    host.load_module()
    slicer.selfTests["MambaSegment"]()


def test_the_end_of_the_application_leaves_nothing_behind(host):
    host.load_module()
    host.enter("MambaSegment")
    host.unload("MambaSegment")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    host.close_scene()  # the fixture fails if an observer or a connection of the panel still answers


def test_the_panel_is_built_without_being_shown_and_changes_scenes(host):
    """As Slicer's generic module test does."""
    module = host.load_module()
    representation = module.widgetRepresentation()
    assert module.widgetRepresentation() is representation
    representation.setMRMLScene(slicer.vtkMRMLScene())
    representation.setMRMLScene(slicer.mrmlScene)


@pytest.mark.parametrize("width", [300, 420])  # a narrow dock, a usual one
def test_pictures_of_the_panel(host, tmp_path, width):
    host.load_module()
    widget = host.enter("MambaSegment")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    picture = host.screenshot(widget.parent, tmp_path / f"panel-{width}.png", width=width)
    assert picture.stat().st_size > 5000
    assert host.layout_faults(widget.parent) == []
