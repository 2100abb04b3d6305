"""A scripted module lives in the host as in Slicer: loaded, opened, left, scene closed, reloaded, unloaded."""

import sys
from pathlib import Path

import ctk
import pytest
import slicer

MODULE = """
import slicer
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin
from ExampleParts import COLOUR

class Example(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "An example"
        parent.categories = ["Segmentation"]
        parent.dependencies = {dependencies}
        parent.contributors = ["Nobody (Nowhere)"]
        slicer.app.connect("startupCompleted()", self.onStartup)
        self.started = False

    def setup(self):
        self.wasSetUp = True

    def onStartup(self):
        self.started = True

class ExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = ExampleLogic()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onStartClose)
        self.calls.append("setup")

    def onStartClose(self, caller, event):
        self.calls.append("closing")

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def setEditedNode(self, node, role="", context=""):
        return 1

class ExampleLogic(ScriptedLoadableModuleLogic):
    pass

class ExampleTest(ScriptedLoadableModuleTest):
    ran = []

    def setUp(self):
        self.ran.append("setUp")

    def test_first(self):
        self.ran.append("first")
        self.delayDisplay("said")
"""


@pytest.fixture
def write_module(tmp_path):
    def write(dependencies="['Segmentations']"):
        (tmp_path / "ExampleParts").mkdir(exist_ok=True)
        (tmp_path / "ExampleParts" / "__init__.py").write_text("COLOUR = 'green'\n", encoding="utf-8")
        file = tmp_path / "Example.py"
        file.write_text(MODULE.replace("{dependencies}", dependencies), encoding="utf-8")
        return file

    return write


def test_loading_registers_the_module(host, write_module):
    file = write_module()
    module = host.load_module(file)
    assert slicer.modules.example is module
    assert (module.name, module.title, module.categories) == ("Example", "An example", ("Segmentation",))
    assert Path(module.path) == file
    assert slicer.util.modulePath("Example") == str(file)
    instance = slicer.modules.ExampleInstance
    assert (instance.parent, instance.wasSetUp, instance.started) == (module, True, True)
    assert not hasattr(slicer.modules, "ExampleWidget")  # the panel is built when it is asked for
    assert "Example" in slicer.app.moduleManager().modulesNames()
    with pytest.raises(AttributeError):
        module.titel = "misspelt"


def test_a_missing_dependency_stops_the_module(host, write_module):
    with pytest.raises(RuntimeError, match="NoSuchModule"):
        host.load_module(write_module("['NoSuchModule']"))


def test_the_life_of_a_panel(host, write_module):
    host.load_module(write_module())
    widget = host.enter("Example")
    assert slicer.modules.ExampleWidget is widget
    assert widget.parent.isEntered
    assert slicer.util.getModuleLogic("Example") is widget.logic
    host.enter("Example")  # it is shown already
    host.exit("Example")
    assert not widget.parent.isEntered
    host.close_scene()
    host.unload("Example")
    assert widget.calls == ["setup", "enter", "exit", "closing", "cleanup"]
    host.close_scene()
    assert widget.calls[-1] == "cleanup"  # nothing is observed any more
    assert not hasattr(slicer.modules, "example")
    assert "Example" not in sys.modules


def test_reload_reads_the_file_again_and_cleans_up(host, write_module):
    file = write_module()
    host.load_module(file)
    old = host.enter("Example")
    file.write_text(file.read_text(encoding="utf-8").replace('"setup")', '"set up anew")'), encoding="utf-8")
    new = host.reload("Example")
    assert old.calls[-1] == "cleanup"
    assert (new is old, new.calls, type(new) is type(old)) == (False, ["set up anew"], False)
    assert new.parent is old.parent


def test_set_edited_node_must_return_a_bool(host, write_module):
    representation = host.load_module(write_module()).widgetRepresentation()
    with pytest.raises(TypeError, match="bool"):
        representation.setEditedNode(None)
    assert representation.nodeEditable(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")) == 0.0


def test_the_self_test_runs(host, write_module):
    host.load_module(write_module())
    slicer.selfTests["Example"]()
    assert sys.modules["Example"].ExampleTest.ran == ["setUp", "first"]


def test_the_parameter_node_is_one_and_survives_closing(host, write_module):
    host.load_module(write_module())
    logic = slicer.util.getModuleLogic("Example")
    node = logic.getParameterNode()
    node.SetParameter("name", "text")
    assert logic.getParameterNode() is node
    assert (node.GetAttribute("ModuleName"), node.GetSingletonTag()) == ("Example", "Example")
    host.close_scene()
    assert logic.getParameterNode().GetParameter("name") == ""  # reset, not removed


def test_developer_mode_adds_a_section(host, write_module):
    slicer.app.settings().setValue("Developer/DeveloperMode", True)
    host.load_module(write_module())
    widget = host.enter("Example")
    widget.reloadButton.click()
    assert slicer.modules.ExampleWidget is not widget


def test_settings_do_not_pass_from_test_to_test(host):
    assert not slicer.app.settings().contains("Developer/DeveloperMode")


def test_message_boxes_do_not_wait_unless_the_test_answers_them(host, monkeypatch):
    shown = []
    monkeypatch.setattr(ctk.ctkMessageBox, "exec_", lambda box: shown.append(box.text) or box.Yes)
    slicer.util.confirmYesNoDisplay("not shown")
    host.testing = False
    assert slicer.util.confirmYesNoDisplay("really?")
    assert shown == ["really?"]


def test_restart_and_exit_cannot_go_unseen(host):
    for call in (slicer.util.restart, slicer.util.quit):
        with pytest.raises(RuntimeError, match="application would end"):
            call()
