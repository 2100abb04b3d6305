"""The stand-ins for CTK and qMRML widgets do what panels rely on, and lack what the real ones lack."""

import ctk
import numpy as np
import pytest
import qt
import slicer


def volumes(*names):
    return [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in names]


@pytest.fixture
def a_selector(host):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    selector.show()
    return selector


@pytest.fixture
def seen(a_selector):
    """What the selector's signals said."""
    got = []
    a_selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: got.append(node and node.GetName()))
    a_selector.connect("currentNodeIDChanged(QString)", got.append)
    return got


def test_a_selector_offers_nodes_of_its_type(a_selector):
    volumes("T1", "T2")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    hidden = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    hidden.UnRegister(None)
    hidden.SetHideFromEditors(True)
    slicer.mrmlScene.AddNode(hidden)
    assert [a_selector.nodeFromIndex(index).GetName() for index in range(a_selector.nodeCount())] == ["T1", "T2"]
    a_selector.showChildNodeTypes = True
    assert a_selector.nodeCount() == 3


def test_a_selector_tells_of_the_users_choice(a_selector, seen):
    volume = volumes("T1")[0]
    box = a_selector.findChild(qt.QComboBox)
    qt.QTest.keyClick(box, qt.Qt.Key_Down)
    assert a_selector.currentNode() is volume
    assert seen == ["T1", volume.GetID()]
    assert a_selector.currentNodeID == volume.GetID()


def test_a_selector_lets_go_of_removed_nodes_and_closed_scenes(host, a_selector, seen):
    first, second = volumes("T1", "T2")
    a_selector.setCurrentNode(first)
    slicer.mrmlScene.RemoveNode(first)
    assert a_selector.currentNode() is None
    a_selector.setCurrentNodeID(second.GetID())
    host.close_scene()
    assert (a_selector.currentNode(), a_selector.nodeCount()) == (None, 0)
    assert seen[::2] == ["T1", None, "T2", None]


def test_a_selector_without_none_takes_the_first_node(a_selector):
    a_selector.noneEnabled = False
    first, second = volumes("T1", "T2")
    assert a_selector.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert a_selector.currentNode() is second


def test_a_selector_follows_names_and_attributes(a_selector):
    first, second = volumes("T1", "T2")
    first.SetName("renamed")
    assert a_selector.findChild(qt.QComboBox).itemText(1) == "renamed"
    second.SetAttribute("kind", "mask")
    a_selector.addAttribute("vtkMRMLScalarVolumeNode", "kind", "mask")
    assert [a_selector.nodeFromIndex(0), a_selector.nodeCount()] == [second, 1]


def test_a_selector_creates_and_deletes_nodes(a_selector):
    added, removed = [], []
    a_selector.connect("nodeAddedByUser(vtkMRMLNode*)", added.append)
    a_selector.connect("nodeAboutToBeRemoved(vtkMRMLNode*)", lambda node: removed.append(node.GetName()))
    a_selector.baseName = "Mine"
    node = a_selector.addNode()
    assert (added, a_selector.currentNode(), node.GetName()) == ([node], node, "Mine")
    a_selector.removeCurrentNode()
    assert removed == ["Mine"]
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []


def test_the_overload_is_chosen_by_signature(a_selector):
    got = []
    a_selector.connect("currentNodeChanged(bool)", got.append)
    a_selector.setCurrentNode(volumes("T1")[0])
    a_selector.setCurrentNode(None)
    assert got == [True, False]
    with pytest.raises(ValueError, match="currentNodeChanged"):
        a_selector.connect("currentNodeChanged(PyObject)", got.append)


def test_setters_that_the_real_widget_lacks_are_absent(a_selector):
    assert not hasattr(a_selector, "setNoneEnabled")
    with pytest.raises(AttributeError):
        a_selector.noneEnable = True
    with pytest.raises(ValueError, match="bool"):
        a_selector.noneEnabled = "yes"
    with pytest.raises(AttributeError):
        a_selector.model = 1


def test_sliders_and_spin_boxes_share_one_value(host):
    slider, got = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.decimals = 0.0, 2.0, 3
    slider.connect("valueChanged(double)", got.append)
    slider.slider().value = 500
    slider.spinBox().value = 5.0  # beyond the bound
    slider.value = float("-inf")
    assert got == [1.0, 2.0, 0.0]
    unbounded = ctk.ctkDoubleSpinBox()
    unbounded.minimum, unbounded.maximum = float("-inf"), float("inf")
    unbounded.value = 1e6
    assert unbounded.value == 1e6


def test_ranges_stay_in_order_and_in_bounds(host):
    widget, got = ctk.ctkRangeWidget(), []
    widget.setRange(-5, 5)
    widget.connect("valuesChanged(double,double)", lambda low, high: got.append((low, high)))
    widget.setValues(3, -9)
    assert (widget.minimumValue, widget.maximumValue) == (-5, 3)
    widget.maximumValue = -6
    assert got[-1] == (-5, -5)


def test_collapsible_buttons_hide_what_is_below_them(host):
    window = qt.QWidget()
    layout = qt.QVBoxLayout(window)
    section = ctk.ctkCollapsibleButton()
    section.text = "Section"
    layout.addWidget(section)
    label, hidden = qt.QLabel("inside"), qt.QLabel("hidden")
    inner = qt.QVBoxLayout(section)
    inner.addWidget(label)
    inner.addWidget(hidden)
    window.show()
    hidden.hide()
    seen = []
    section.connect("contentsCollapsed(bool)", seen.append)
    qt.QTest.mouseClick(section, qt.Qt.LeftButton, qt.Qt.NoModifier, qt.QPoint(5, 5))
    assert (section.collapsed, section.checked, label.visible) == (True, False, False)
    section.collapsed = False
    assert (label.visible, hidden.visible, seen) == (True, False, [True, False])


def test_paths_are_typed_or_browsed_for(host, monkeypatch, tmp_path):
    line, got = ctk.ctkPathLineEdit(), []
    line.connect("currentPathChanged(QString)", got.append)
    qt.QTest.keyClicks(line.lineEdit(), "ab")
    line.filters = ctk.ctkPathLineEdit.Dirs
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    line.browse()
    assert got == ["a", "ab", str(tmp_path)]


def test_checkable_boxes(host):
    box, got = ctk.ctkCheckableComboBox(), []
    box.addItems(["a", "b"])
    box.connect("checkedIndexesChanged()", lambda: got.append(True))
    index = box.checkableModel().index(1, 0)
    box.setCheckState(index, qt.Qt.Checked)
    assert [each.row() for each in box.checkedIndexes()] == [1]
    assert got
    assert not box.noneChecked()


@pytest.fixture
def a_segmentation(host):
    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="T1")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "parts")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in ("front", "back"):
        node.GetSegmentation().AddEmptySegment(name, name.title())
        mask = np.zeros((4, 5, 6), np.uint8)
        mask[1:3, 2:4, 2:4] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)
    return node


def test_the_segments_table_follows_the_segmentation(a_segmentation):
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(a_segmentation)
    table.show()
    assert [table.segmentIDForRow(row) for row in range(table.segmentCount)] == ["front", "back"]
    a_segmentation.GetSegmentation().GetSegment("front").SetName("Anterior")
    assert table.tableWidget().item(0, 3).text() == "Anterior"
    a_segmentation.GetSegmentation().RemoveSegment("front")
    assert (table.segmentCount, table.rowForSegmentID("front")) == (1, -1)
    table.setSelectedSegmentIDs(["back"])
    table.setSelectedSegmentsStatus(slicer.vtkSlicerSegmentationsModuleLogic.Completed)
    assert table.selectedSegmentIDs() == ("back",)
    assert table.tableWidget().item(0, 4).text() == "Completed"


def test_the_segments_table_is_edited_by_the_user(a_segmentation):
    table, got = slicer.qMRMLSegmentsTableView(), []
    table.setSegmentationNode(a_segmentation)
    table.connect("selectionChanged(QItemSelection,QItemSelection)", lambda *_: got.append(table.selectedSegmentIDs()))
    table.tableWidget().item(1, 0).setCheckState(qt.Qt.Unchecked)
    table.tableWidget().item(1, 3).setText("Posterior")
    assert not a_segmentation.GetDisplayNode().GetSegmentVisibility("back")
    assert a_segmentation.GetSegmentation().GetSegment("back").GetName() == "Posterior"
    table.tableWidget().selectRow(1)
    assert got[-1] == ("back",)
    table.textFilter = "post"
    assert table.segmentCount == 1


@pytest.fixture
def an_editor(a_segmentation):
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
    node.UnRegister(None)
    node.SetSingletonTag("test")
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNode(node))
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setSegmentationNode(a_segmentation)
    editor.setSourceVolumeNode(slicer.util.getNode("T1"))
    editor.show()
    yield editor
    editor.setSegmentationNode(None)
    editor.setMRMLScene(None)


def test_the_editor_keeps_its_state_in_the_node(an_editor, a_segmentation):
    node = an_editor.mrmlSegmentEditorNode()
    assert node.GetSegmentationNode() is a_segmentation
    assert (an_editor.currentSegmentID(), node.GetSelectedSegmentID()) == ("front", "front")
    got = []
    an_editor.connect("currentSegmentIDChanged(QString)", got.append)
    an_editor.selectNextSegment()
    a_segmentation.GetSegmentation().RemoveSegment("back")
    assert got == ["back", "front"]


def test_the_editor_records_what_the_panel_asks_for(an_editor):
    an_editor.setEffectNameOrder(["Paint", "Erase"])
    an_editor.unorderedEffectsVisible = False
    assert list(an_editor.effectButtons()) == ["Paint", "Erase"]
    qt.QTest.mouseClick(an_editor.effectButtons()["Erase"], qt.Qt.LeftButton)
    an_editor.activeEffect().setParameter("BrushRelativeDiameter", 5)
    assert an_editor.activeEffect().parameter("BrushRelativeDiameter") == "5"
    an_editor.setActiveEffect(None)
    an_editor.setupViewObservations()
    record = an_editor.record()
    assert (record.activated_effects, record.view_observations) == (["Erase", ""], True)
    with pytest.raises(NotImplementedError):
        an_editor.effectByName("Paint").self()
    with pytest.raises(ValueError, match="Pain"):
        an_editor.setActiveEffectByName("Pain")


def test_the_editor_undoes_through_the_real_logic(an_editor, a_segmentation):
    volume = slicer.util.getNode("T1")

    def voxels():
        return int((slicer.util.arrayFromSegmentBinaryLabelmap(a_segmentation, "front", volume) > 0).sum())

    before = voxels()
    an_editor.saveStateForUndo()
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), a_segmentation, "front", volume)
    assert voxels() == 120 != before
    an_editor.undo()
    assert voxels() == before


def test_the_editors_keys_kill_a_panels_own_shortcut_of_the_same_key(host, an_editor):
    fired = []
    shortcut = qt.QShortcut(qt.QKeySequence("Z"), an_editor)
    shortcut.connect("activated()", lambda: fired.append("mine"))
    an_editor.activateWindow()
    host.wait_until(lambda: an_editor.isActiveWindow)
    qt.QTest.keyClick(an_editor, qt.Qt.Key_Z)
    an_editor.installKeyboardShortcuts(an_editor)
    qt.QTest.keyClick(an_editor, qt.Qt.Key_Z)
    an_editor.uninstallKeyboardShortcuts()
    assert fired == ["mine"]


def test_other_selectors(host, a_segmentation):
    several = slicer.qMRMLCheckableNodeComboBox()
    several.nodeTypes = ["vtkMRMLSegmentationNode"]
    several.setMRMLScene(slicer.mrmlScene)
    several.check(a_segmentation)
    assert several.checkedNodes() == (a_segmentation,)
    segments = slicer.qMRMLSegmentSelectorWidget()
    segments.setMRMLScene(slicer.mrmlScene)
    segments.setCurrentNode(a_segmentation)
    segments.setCurrentSegmentID("back")
    assert (segments.segmentIDs(), segments.currentSegmentID()) == (("front", "back"), "back")
    button = slicer.qMRMLSegmentationShow3DButton()
    button.setSegmentationNode(a_segmentation)
    button.click()
    assert a_segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    items = slicer.qMRMLSubjectHierarchyComboBox()
    items.setMRMLScene(slicer.mrmlScene)
    items.setMRMLScene(None)


def test_layout_faults_are_found(host):
    window = qt.QWidget()
    layout = qt.QVBoxLayout(window)
    label = qt.QLabel("a text that needs much more room than it gets here")
    label.objectName = "narrow"
    layout.addWidget(label)
    window.show()
    assert host.layout_faults(window) == []
    label.setMaximumWidth(40)
    other = qt.QPushButton("over", window)
    other.show()
    other.setGeometry(0, 0, 100, 100)
    assert len(host.layout_faults(window)) == 2
