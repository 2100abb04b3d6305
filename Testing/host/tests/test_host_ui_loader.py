"""The .ui loader knows the stand-ins, connects Python slots and refuses what it does not know."""

import ctk
import pytest
import qt
import slicer

PANEL = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="rows">
 <item><widget class="{kind}" name="section"><property name="text"><string>Part</string></property>
  <layout class="QVBoxLayout" name="inner"><item><widget class="qMRMLNodeComboBox" name="selector">
   <property name="nodeTypes"><stringlist notr="true"><string>vtkMRMLModelNode</string></stringlist></property>
   <property name="noneEnabled"><bool>true</bool></property>
   <property name="SlicerParameterName" stdset="0"><string>model</string></property>
  </widget></item></layout></widget></item></layout></widget>
<customwidgets>
 <customwidget><class>{kind}</class><extends>QWidget</extends><header>x.h</header><container>1</container></customwidget>
 <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>x.h</header></customwidget>
 <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>x.h</header><container>1</container></customwidget>
</customwidgets>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>selector</receiver><slot>{slot}</slot></connection></connections></ui>
"""


@pytest.fixture
def load(host, tmp_path):
    def fromText(kind="ctkCollapsibleButton", slot="setMRMLScene(vtkMRMLScene*)"):
        file = tmp_path / "Panel.ui"
        file.write_text(PANEL.format(kind=kind, slot=slot), encoding="utf-8")
        return slicer.util.loadUI(str(file))

    return fromText


def test_stand_ins_properties_and_scene_connections(load):
    root = load()
    ui = slicer.util.childWidgetVariables(root)
    assert type(ui.section) is ctk.ctkCollapsibleButton
    assert ui.section.text == "Part"
    assert (ui.selector.nodeTypes, ui.selector.noneEnabled) == (("vtkMRMLModelNode",), True)
    assert ui.selector.property("SlicerParameterName") == "model"
    root.setMRMLScene(slicer.mrmlScene)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    assert ui.selector.nodeCount() == 1


def test_an_unknown_widget_is_refused_by_name(load):
    with pytest.raises(ValueError, match="ctkNoSuchWidget"):
        load(kind="ctkNoSuchWidget")


def test_an_unknown_slot_is_refused_by_name(load):
    with pytest.raises(ValueError, match="setMRMLScenes"):
        load(slot="setMRMLScenes(vtkMRMLScene*)")


def test_a_missing_file_is_an_error_as_in_slicer(host, tmp_path):
    with pytest.raises(RuntimeError, match="not found"):
        slicer.util.loadUI(str(tmp_path / "none.ui"))
    assert qt.QUiLoader is type(qt.QUiLoader())
