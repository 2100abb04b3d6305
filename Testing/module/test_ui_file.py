"""The .ui files and the code that uses them must name the same things; Slicer would notice only at run time."""

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SCENE_SIGNAL = "mrmlSceneChanged(vtkMRMLScene*)"


UI_FILES = sorted((Path(__file__).resolve().parents[2] / "MambaSegment" / "Resources" / "UI").glob("*.ui"))


@pytest.fixture(params=UI_FILES, ids=lambda file: file.stem)
def a_ui_file(request: pytest.FixtureRequest) -> ET.Element:
    return ET.parse(request.param).getroot()


def widgets(ui: ET.Element) -> dict[str, str]:
    """Name → class of every widget; names must be unique for childWidgetVariables."""
    found = [(widget.attrib["name"], widget.attrib["class"]) for widget in ui.iter("widget")]
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def names_used_on_ui(source: Path) -> set[str]:
    """X for every `ui.X` and `self.ui.X` in a Python file."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "ui")
            or (isinstance(node.value, ast.Attribute) and node.value.attr == "ui")
        )
    }


def test_every_widget_that_the_code_names_exists_and_no_name_is_used_twice(repository):
    module = repository / "MambaSegment"
    used = set().union(*(names_used_on_ui(file) for file in module.rglob("*.py")))
    assert used, "the search found no widget at all"
    named = [name for file in UI_FILES for name in widgets(ET.parse(file).getroot())]
    assert used - set(named) == set()
    assert [name for name in named if named.count(name) > 1] == []


def test_bound_parameters_are_fields_of_the_parameter_node(a_ui_file, repository):
    bound = {
        prop.findtext("string") for prop in a_ui_file.iter("property") if prop.attrib["name"] == "SlicerParameterName"
    }
    source = repository / "MambaSegment" / "MambaSegmentPanel" / "parameter_node.py"
    fields = {
        node.target.id
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert bound
    assert bound <= fields


def test_custom_widgets_are_declared_and_used(a_ui_file):
    declared = {custom.findtext("class") for custom in a_ui_file.iter("customwidget")}
    used = {kind for kind in widgets(a_ui_file).values() if not kind.startswith("Q")}
    assert declared == used


def test_every_mrml_widget_gets_the_scene_from_the_root(a_ui_file):
    root = a_ui_file.find("widget")
    assert root is not None
    assert root.attrib["class"] == "qMRMLWidget"
    fed = {
        connection.findtext("receiver")
        for connection in a_ui_file.iter("connection")
        if connection.findtext("sender") == root.attrib["name"]
        and connection.findtext("signal") == SCENE_SIGNAL
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    need_it = {name for name, kind in widgets(a_ui_file).items() if kind.startswith("qMRML")} - {root.attrib["name"]}
    assert fed == need_it


def test_everything_the_user_can_press_or_choose_has_a_tool_tip(a_ui_file):
    for widget in a_ui_file.iter("widget"):
        if widget.attrib["class"] in {"QPushButton", "QComboBox", "qMRMLNodeComboBox"}:
            assert any(prop.attrib["name"] == "toolTip" for prop in widget.findall("property")), widget.attrib["name"]
