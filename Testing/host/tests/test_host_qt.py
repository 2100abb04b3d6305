"""Qt behaves as PythonQt shows it: what the dialect's fact sheet says of attributes, signals, arguments and results."""

import functools
import os
import shutil
import signal
import sys

import pytest
import qt


@pytest.fixture
def a_button(host):
    return qt.QPushButton("first")


def test_properties_are_attributes(a_button):
    a_button.text, a_button.enabled, a_button.toolTip = "second", False, "tip"
    assert (a_button.text, a_button.enabled, a_button.toolTip) == ("second", False, "tip")
    assert not a_button.isEnabled()
    with pytest.raises(TypeError):
        a_button.text()  # the property wins over the method
    a_button.setText("third")  # setters stay
    assert a_button.text == "third"


def test_name_is_the_object_name(a_button):
    a_button.name = "apply"
    assert a_button.objectName == "apply"
    parent = qt.QWidget()
    a_button.setParent(parent)
    assert parent.apply is a_button


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: qt.QPushButton(), "mambaModel"),
        (lambda: qt.QTimer(), "owner"),
        (lambda: qt.QVBoxLayout(), "rows"),
        (lambda: qt.QTableWidgetItem(), "key"),
        (lambda: qt.QColor(), "label"),
    ],
)
def test_cpp_objects_take_no_new_names(host, make, name):
    with pytest.raises(AttributeError):
        setattr(make(), name, 1)


def test_python_subclasses_take_new_names(host):
    class Filter(qt.QObject):
        pass

    each = Filter()
    each.seen = 1
    assert (each.seen, each.className()) == (1, "QObject")


def test_a_read_only_property_and_a_wrong_type_are_refused(a_button):
    with pytest.raises(AttributeError):
        a_button.width = 5
    with pytest.raises((AttributeError, ValueError)):
        a_button.text = object()


def test_dynamic_properties_are_attributes_once_they_exist(a_button):
    assert a_button.property("role") is None
    a_button.setProperty("role", "main")
    assert a_button.role == "main"
    a_button.role = "other"
    assert a_button.property("role") == "other"


def test_enums_are_reached_through_objects_and_combine(host):
    box = qt.QMessageBox()
    box.standardButtons = box.Ok | box.Cancel
    assert box.standardButtons == qt.QMessageBox.Ok | qt.QMessageBox.Cancel == 0x400400


def test_values_that_are_no_qobject_have_methods_only(host):
    item = qt.QTableWidgetItem("text")
    assert item.text() == "text"
    assert qt.QColor(255, 0, 0).name() == "#ff0000"
    item.setCheckState(qt.Qt.Checked)
    assert item.checkState() == qt.Qt.Checked == 2


@pytest.mark.parametrize(
    "name", ["Signal", "Slot", "Property", "QtCore", "QtWidgets", "QRegExp", "QTextCodec", "QThread"]
)
def test_what_slicer_lacks_is_refused(host, name):
    with pytest.raises(AttributeError, match=f"qt.{name} cannot be used"):
        getattr(qt, name)


class Handlers:
    def __init__(self):
        self.got = []

    def none(self):
        self.got.append(())

    def one(self, x=5):
        self.got.append((x,))

    def all(self, *args):
        self.got.append(args)


@pytest.mark.parametrize(
    ("handler", "by_name", "by_signature"),
    [("none", [()], [()]), ("one", [(False,)], [(5,)]), ("all", [(False,)], [()])],
)
def test_a_handler_gets_as_many_arguments_as_it_has_parameters(a_button, handler, by_name, by_signature):
    handlers = Handlers()
    a_button.clicked.connect(getattr(handlers, handler))
    a_button.click()
    assert handlers.got == by_name
    a_button.clicked.disconnect(getattr(handlers, handler))
    handlers.got.clear()
    a_button.connect("clicked()", getattr(handlers, handler))
    a_button.click()
    assert handlers.got == by_signature


def test_partials_get_all_arguments(a_button):
    got = []
    a_button.clicked.connect(functools.partial(lambda *args: got.append(args), "bound"))
    a_button.click()
    assert got == [("bound", False)]


def test_the_lambda_trap_is_there(a_button):
    got = []
    a_button.clicked.connect(lambda name="kept": got.append(name))
    a_button.click()
    assert got == [False]


def test_signatures_are_normalised_and_unknown_ones_raise(host):
    process, got = qt.QProcess(), []
    assert process.connect("finished( int , QProcess::ExitStatus )", lambda code: got.append(code))
    for signature in ("finish(int)", "finished(QString)", "started"):
        with pytest.raises(ValueError, match="has no signal"):
            process.connect(signature, got.append)
    process.start(sys.executable, ["-c", "raise SystemExit(3)"])
    host.wait_until(lambda: got)
    assert got == [3]


def test_the_overload_that_qt_6_lacks_is_refused(host):
    with pytest.raises(ValueError, match="currentIndexChanged"):
        qt.QComboBox().connect("currentIndexChanged(QString)", print)


def test_disconnect_takes_the_same_callable_and_says_whether_it_was_there(a_button):
    handlers = Handlers()
    a_button.connect("clicked()", handlers.none)
    assert a_button.disconnect("clicked()", handlers.none)
    assert not a_button.disconnect("clicked()", handlers.none)
    a_button.click()
    assert handlers.got == []


def test_signals_reach_slots_of_cpp_objects(host):
    box, label = qt.QLineEdit(), qt.QLabel()
    box.connect("textChanged(QString)", label, "setText(QString)")
    box.text = "shown"
    assert label.text == "shown"
    with pytest.raises(ValueError, match="has no slot"):
        box.connect("textChanged(QString)", label, "noSuchSlot(QString)")


def test_handlers_live_as_long_as_the_sender(a_button):
    got = []

    class Owner:
        def on(self):
            got.append("called")

    a_button.connect("clicked()", Owner().on)  # nobody else holds the owner
    a_button.click()
    assert got == ["called"]


def test_an_exception_in_a_handler_is_swallowed_and_recorded(host, a_button):
    reached = []

    def fails():
        raise KeyError("the handler's own")

    a_button.connect("clicked()", fails)
    a_button.connect("clicked()", lambda: reached.append(True))
    with host.failures.expected() as seen:
        a_button.click()
    assert reached  # the emitter went on
    assert [type(each.error) for each in seen.swallowed] == [KeyError]
    assert "fails on QPushButton.clicked()" in str(seen)


@pytest.fixture
def a_failing_observer(host):
    """Of the scene's ModifiedEvent, and callable as a handler."""

    def fails(*_):
        raise LookupError("observer")

    tag = host.scene.AddObserver("ModifiedEvent", fails)
    yield fails
    host.scene.RemoveObserver(tag)


def test_exceptions_in_timers_and_observers_are_recorded(host, a_failing_observer):
    with host.failures.expected() as seen:
        qt.QTimer.singleShot(0, a_failing_observer)
        host.scene.Modified()
        host.process_events(0.05)
    assert [type(each.error) for each in seen.swallowed] == [LookupError, LookupError]


def test_an_exception_in_an_overridden_method_is_not_lost(host):
    class Filter(qt.QObject):
        def eventFilter(self, _watched, _event):
            raise OSError("filter")

    keep, widget = Filter(), qt.QWidget()
    widget.installEventFilter(keep)
    with pytest.raises(OSError, match="filter"):  # PySide hands it to the Python line that called C++
        widget.show()
    widget.removeEventFilter(keep)


def test_a_block_that_was_to_fail_and_did_not_is_an_error(host):
    with pytest.raises(AssertionError, match="expected to make something fail"), host.failures.expected():
        pass


def test_lists_arrive_as_tuples(host, tmp_path):
    (tmp_path / "a.txt").touch()
    widget = qt.QWidget()
    child = qt.QLabel(widget)
    assert widget.children() == (child,)
    assert widget.findChildren(qt.QLabel) == (child,)
    assert qt.QDir(str(tmp_path)).entryList(["*.txt"]) == ("a.txt",)
    settings = qt.QSettings()
    settings.setValue("MambaSegment/folders", ["x", "y"])
    assert settings.value("MambaSegment/folders") == ("x", "y")
    with pytest.raises(TypeError):
        settings.value("MambaSegment/folders", None, type=list)


def test_dialogs_answer_with_the_value_alone(host, monkeypatch):
    def press_ok():
        dialog = qt.QApplication.activeModalWidget()
        dialog.setTextValue("typed")
        dialog.accept()

    qt.QTimer.singleShot(50, press_ok)
    assert qt.QInputDialog.getText(None, "title", "label") == "typed"


def test_processes_take_text_and_answer_with_byte_arrays(host):
    process = qt.QProcess()
    process.start(sys.executable, ["-c", "print(input().upper())"])
    process.write("mamba\n")
    process.closeWriteChannel()
    assert process.waitForFinished(20000)
    raw = process.readAllStandardOutput()
    assert raw.data().decode("utf-8").strip() == "MAMBA"
    assert process.state() == qt.QProcess.NotRunning


@pytest.mark.skipif(os.name == "nt", reason="pids are looked at as on POSIX")
def test_killing_the_launcher_leaves_its_child_alive(host):
    """The trap of PythonSlicer: a worker must be stopped by its own pid."""
    process = qt.QProcess()
    process.start(shutil.which("PythonSlicer"), ["-c", "import os; print(os.getpid(), flush=True); input()"])
    line = host.wait_until(lambda: process.readAllStandardOutput().data())
    child = int(line)
    assert child != process.processId()
    process.kill()
    assert process.waitForFinished(20000)
    os.kill(child, 0)  # raises if it were gone
    os.kill(child, signal.SIGTERM)


def test_a_program_that_does_not_exist_emits_an_error_and_no_end(host):
    process, seen = qt.QProcess(), []
    process.connect("errorOccurred(QProcess::ProcessError)", lambda error: seen.append(error))
    process.connect("finished(int,QProcess::ExitStatus)", lambda *_: seen.append("finished"))
    process.start("no-such-program-anywhere", [])
    host.process_events(0.2)
    assert seen == [qt.QProcess.FailedToStart]


def test_layouts_paint_and_size_hints_work(host, tmp_path):
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    layout.setContentsMargins(1, 2, 3, 4)
    layout.spacing = 7
    bar = qt.QProgressBar()
    bar.value = 40
    layout.addWidget(bar)
    layout.addWidget(qt.QPushButton("press"))
    assert (layout.count(), layout.spacing) == (2, 7)
    assert host.screenshot(widget, tmp_path / "widget.png").stat().st_size > 500


def test_timers(host):
    timer, fired = qt.QTimer(), []
    timer.setSingleShot(True)
    timer.interval = 10
    timer.connect("timeout()", lambda: fired.append(True))
    timer.start()
    assert timer.active
    host.wait_until(lambda: fired)
    assert not timer.isActive()


def test_exec_has_its_python_2_name(host):
    dialog = qt.QDialog()
    qt.QTimer.singleShot(20, dialog.accept)
    assert dialog.exec_() == qt.QDialog.Accepted


def test_the_bug_of_python_3_11_with_this_qt_is_kept_away(host):
    before = sys.getrefcount(None)
    widget = qt.QWidget()
    for _ in range(2000):
        widget.parent()
    assert before - sys.getrefcount(None) < 3000
    assert sys.version_info >= (3, 12) or before > 1_000_000_000
