"""Parameter nodes keep typed values in a real node, refuse wrong ones, and are bound to widgets both ways."""

import enum
from pathlib import Path
from typing import Annotated, Optional

import ctk
import pytest
import qt
import slicer
from slicer.parameterNodeWrapper import (
    Choice,
    Decimals,
    Default,
    FloatRange,
    RangeBounds,
    WithinRange,
    parameterNodeWrapper,
    parameterPack,
)


class Mode(enum.Enum):
    FAST = 1
    GOOD = 2

    @staticmethod
    def label(member):
        return {Mode.FAST: "quick", Mode.GOOD: "thorough"}[member]


@parameterPack
class Box:
    low: int = 1
    high: Annotated[int, WithinRange(0, 9)] = 2


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    either: slicer.vtkMRMLScalarVolumeNode | slicer.vtkMRMLSegmentationNode | None
    device: Annotated[str, Choice(["auto", "cpu"])] = "auto"
    overlap: Annotated[float, WithinRange(0.0, 0.9), Decimals(2)] = 0.5
    count: int
    on: bool
    path: Path
    mode: Mode
    names: list[str]
    pair: tuple[int, str]
    table: dict[str, int]
    maybe: Optional[int]  # noqa: UP045  (both spellings must work)
    box: Box
    levels: Annotated[FloatRange, RangeBounds(-5, 5), Default(FloatRange(1, 2))]


@pytest.fixture
def a_node(host):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def parameters(a_node):
    return Parameters(a_node)


def test_defaults_are_written_into_the_node(a_node, parameters):
    assert (parameters.device, parameters.overlap, parameters.count, parameters.on) == ("auto", 0.5, 0, False)
    assert (parameters.path, parameters.mode, parameters.maybe) == (Path(), Mode.FAST, None)
    assert (list(parameters.names), parameters.pair) == ([], (0, ""))
    assert (parameters.volume, parameters.either) == (None, None)
    assert (parameters.levels.minimum, parameters.levels.maximum) == (1, 2)
    texts = {
        name: a_node.GetParameter(name) for name in ("device", "overlap", "on", "path", "mode", "names.len", "box.low")
    }
    assert texts == {
        "device": "auto",
        "overlap": "0.5",
        "on": "False",
        "path": ".",
        "mode": "FAST",
        "names.len": "0",
        "box.low": "1",
    }


VALUES = {
    "device": "cpu",
    "overlap": 0.25,
    "count": 7,
    "on": True,
    "path": Path("models") / "a.safetensors",
    "mode": Mode.GOOD,
    "names": ["a", "b"],
    "pair": (3, "c"),
    "table": {"x": 1, "y": 2},
    "maybe": 5,
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_read_back_by_another_wrapper(a_node, parameters, name):
    setattr(parameters, name, VALUES[name])
    assert getattr(parameters, name) == VALUES[name]
    assert getattr(Parameters(a_node), name) == VALUES[name]


def test_nodes_are_references(a_node, parameters):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume = parameters.either = volume
    assert a_node.GetNodeReference("volume") is volume
    assert Parameters(a_node).either is volume
    slicer.mrmlScene.RemoveNode(volume)
    assert parameters.volume is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("device", "tpu", ValueError),
        ("overlap", 0.95, ValueError),
        ("overlap", None, ValueError),
        ("count", 1.5, TypeError),
        ("path", "text", TypeError),
        ("mode", "FAST", TypeError),
        ("pair", (1,), ValueError),
        ("names", ["a", 1], TypeError),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(parameters, name, value, error):
    before = getattr(parameters, name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_a_node_of_another_class_is_refused(parameters):
    with pytest.raises(TypeError):
        parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")


def test_one_event_an_assignment_and_none_for_the_same_text(a_node, parameters):
    seen = []
    tag = a_node.AddObserver("ModifiedEvent", lambda *_: seen.append(parameters.count))
    parameters.count = 3
    parameters.count = 3
    a_node.RemoveObserver(tag)
    assert seen == [3]  # and observers see the new value


def test_several_writes_can_be_one_event(a_node, parameters):
    seen = []
    tag = a_node.AddObserver("ModifiedEvent", lambda *_: seen.append(1))
    with slicer.util.NodeModify(parameters):
        parameters.count, parameters.on = 4, True
    a_node.RemoveObserver(tag)
    assert len(seen) == 1


def test_containers_and_packs_save_each_change(a_node, parameters):
    parameters.names.append("first")
    parameters.names[0] = "changed"
    parameters.box.high = 9
    again = Parameters(a_node)
    assert (list(again.names), again.box.high) == (["changed"], 9)
    with pytest.raises(ValueError, match="10"):
        parameters.box.high = 10
    with pytest.raises(AttributeError):
        parameters.box.width = 1
    with pytest.raises(NotImplementedError):
        parameters.names + ["x"]  # noqa: RUF005


def test_a_node_emptied_by_closing_the_scene_gets_the_defaults_again(a_node, parameters):
    parameters.count = 9
    a_node.UnsetAllParameters()
    assert parameters.count == 0
    assert a_node.GetParameter("count") == "0"


def test_dotted_names(parameters):
    parameters.setValue("box.low", 8)
    assert (parameters.getValue("box.low"), parameters.dataType("count")) == (8, int)
    with pytest.raises(ValueError, match="nothing"):
        parameters.getValue("nothing")


def test_reserved_names_and_wrong_defaults(a_node):
    with pytest.raises(ValueError, match="Modified"):
        parameterNodeWrapper(type("Bad", (), {"__annotations__": {"Modified": int}}))
    wrong = parameterNodeWrapper(type("Wrong", (), {"__annotations__": {"count": int}, "count": "text"}))
    with pytest.raises((ValueError, TypeError)):
        wrong(a_node)


@pytest.fixture
def a_form(host):
    """A widget for each kind of parameter, bound by name."""
    form = qt.QWidget()
    layout = qt.QFormLayout(form)
    kinds = {
        "device": qt.QComboBox,
        "overlap": ctk.ctkSliderWidget,
        "count": qt.QSpinBox,
        "on": qt.QCheckBox,
        "path": ctk.ctkPathLineEdit,
        "mode": ctk.ctkComboBox,
        "volume": slicer.qMRMLNodeComboBox,
        "levels": ctk.ctkRangeWidget,
        "box.low": qt.QSpinBox,
    }
    for name, kind in kinds.items():
        widget = kind()
        widget.setProperty("SlicerParameterName", name)
        widget.objectName = name.replace(".", "_")
        layout.addRow(name, widget)
    form.show()
    form.volume.noneEnabled = True
    form.volume.setMRMLScene(slicer.mrmlScene)
    return form


def test_parameters_are_shown_first(parameters, a_form):
    parameters.count, parameters.mode, parameters.path = 6, Mode.GOOD, Path("there")
    tag = parameters.connectGui(a_form)
    assert (a_form.count.value, a_form.mode.currentText, a_form.path.currentPath) == (6, "thorough", "there")
    assert (a_form.overlap.value, a_form.overlap.maximum, a_form.overlap.decimals) == (0.5, 0.9, 2)
    assert a_form.volume.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    parameters.disconnectGui(tag)


def test_what_the_user_does_is_stored_until_disconnected(parameters, a_form):
    tag = parameters.connectGui(slicer.util.childWidgetVariables(a_form))
    qt.QTest.keyClick(a_form.device, qt.Qt.Key_Down)
    qt.QTest.mouseClick(a_form.on, qt.Qt.LeftButton, qt.Qt.NoModifier, qt.QPoint(8, a_form.on.height // 2))
    qt.QTest.keyClick(a_form.box_low, qt.Qt.Key_Up)
    a_form.overlap.value = 0.25
    a_form.levels.setValues(-1, 3)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    a_form.volume.setCurrentNode(volume)
    assert (parameters.device, parameters.on, parameters.box.low, parameters.overlap) == ("cpu", True, 2, 0.25)
    assert (parameters.volume, parameters.levels.minimum) == (volume, -1)
    parameters.count = 5  # the other way
    assert a_form.count.value == 5
    parameters.disconnectGui(tag)
    parameters.disconnectGui(None)
    a_form.count.value = 1
    assert parameters.count == 5


def test_pairs_that_do_not_fit_are_refused(parameters, a_form):
    a_form.on.setProperty("SlicerParameterName", "count")
    with pytest.raises(RuntimeError):
        parameters.connectGui(a_form)
    a_form.on.setProperty("SlicerParameterName", "nothing")
    with pytest.raises(ValueError, match="nothing"):
        parameters.connectGui(a_form)


def test_subclasses_of_widgets_are_refused(parameters):
    class Special(qt.QSpinBox):
        pass

    with pytest.raises(RuntimeError):
        parameters.connectParametersToGui({"count": Special()})


def test_a_text_of_an_older_scene_is_found_when_the_box_is_bound(a_node, parameters, a_form):
    a_node.SetParameter("device", "removed choice")
    assert parameters.device == "removed choice"
    with pytest.raises(ValueError, match="removed choice"):
        parameters.connectGui(a_form)
