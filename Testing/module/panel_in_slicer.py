"""The panel's life inside Slicer: built, shown, left, scene closed, reloaded. Run by ctest, or with

Slicer --testing --no-splash --additional-module-paths <repository>/MambaSegment --python-code "import slicer.testing;
slicer.testing.runUnitTest(['<repository>/Testing/module'], 'panel_in_slicer')" --exit-after-startup
"""

import unittest

import slicer


class PanelInSlicer(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear()
        self.widget = slicer.util.getModuleWidget("MambaSegment")
        self.widget.enter()

    def tearDown(self):
        self.widget.exit()

    def test_the_first_image_is_chosen_and_a_label_map_is_not(self):
        self.widget.exit()
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        image = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
        self.widget.enter()
        assert self.widget.logic.getParameterNode().inputVolume is image
        assert self.widget.ui.inputVolumeSelector.currentNodeID == image.GetID()

    def test_the_shipped_model_is_shown(self):
        box = self.widget.ui.modelSelector
        assert "hippocampus-t1" in [box.itemText(index) for index in range(box.count)]
        assert self.widget.ui.shellLineEdit.plainText.startswith("mambasegment segment ")

    def test_closing_the_scene_empties_the_selector(self):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
        slicer.mrmlScene.Clear()
        assert self.widget.ui.inputVolumeSelector.currentNode() is None

    def test_a_left_panel_writes_nothing_into_the_scene(self):
        self.widget.exit()
        node = self.widget.logic.getParameterNode()
        node.model = "kept"
        self.widget.panel.refresh()
        assert self.widget.logic.getParameterNode().model == "kept"

    def test_reload_brings_a_working_panel(self):
        self.widget.onReload()
        self.widget = slicer.util.getModuleWidget("MambaSegment")
        self.widget.enter()
        assert self.widget.ui.versionLabel.text.startswith("MambaSegment ")
