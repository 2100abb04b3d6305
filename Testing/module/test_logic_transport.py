"""The transport over QProcess, with small programs in the place of a worker."""

import shutil
import sys
import threading
import time

import pytest

from MambaSegmentLib.errors import ResourceError
from MambaSegmentLib.worker.process_tree import end_process_tree


class Ears:
    """A Listener that remembers."""

    def __init__(self):
        self.data, self.lines, self.codes, self.threads = b"", [], [], set()

    def received(self, data):
        self.data += data
        self.threads.add(threading.get_ident())

    def logged(self, text):
        self.lines.append(text)

    def ended(self, code):
        self.codes.append(code)


@pytest.fixture
def a_transport(panel_module):
    transport = panel_module("qprocess_transport").QProcessTransport()
    yield transport
    transport.stop()


def start(transport, script, environment=None):
    ears = Ears()
    return transport.start([sys.executable, "-c", script], environment or {"PYTHONUTF8": "1"}, ears), ears


def test_input_output_and_log_arrive_whole_and_in_the_applications_thread(host, a_transport):
    script = "import sys\nfor line in sys.stdin: print(line.strip()[::-1]); print('log', line.strip(), file=sys.stderr)"
    process, ears = start(a_transport, script)
    process.write(b"abc\n" * 20000)  # more than a pipe holds
    process.write("äöü\n".encode())
    process.close_input()
    host.wait_until(lambda: ears.codes)
    assert ears.data.split() == [b"cba"] * 20000 + ["üöä".encode()]
    assert len(ears.lines) == 20001
    assert ears.lines[-1] == "log äöü"
    assert ears.codes == [0]
    assert ears.threads == {threading.get_ident()}
    process.write(b"too late\n")  # is no mistake
    process.close_input()


def test_exit_codes_and_signals_are_told_once(host, a_transport):
    _, ears = start(a_transport, "import sys; sys.stderr.write('no end of line'); sys.exit(3)")
    process, killed = start(a_transport, "import time; time.sleep(60)")
    end_process_tree(process.pid)
    host.wait_until(lambda: ears.codes and killed.codes)
    host.process_events(0.1)
    assert ears.codes == [3]
    assert ears.lines == ["no end of line"]
    assert len(killed.codes) == 1
    assert killed.codes[0] < 0 or sys.platform == "win32"


def test_the_environment_is_the_one_given(host, a_transport):
    _, ears = start(a_transport, "import os; print(os.environ.get('A_WORD'), 'HOME' in os.environ)", {"A_WORD": "here"})
    host.wait_until(lambda: ears.codes)
    assert ears.data.split() == [b"here", b"False"]


def test_a_program_that_is_not_there_is_named(a_transport, tmp_path):
    with pytest.raises(ResourceError, match="nowhere"):
        a_transport.start([str(tmp_path / "nowhere")], {}, Ears())


def test_calls_come_in_order_at_their_time_and_from_any_thread(host, a_transport):
    order, began = [], time.monotonic()
    threads = set()

    def call(what):
        order.append(what)
        threads.add(threading.get_ident())

    a_transport.call_later(0.15, lambda: call("late"))
    forget = a_transport.call_later(0.05, lambda: call("never"))
    a_transport.post(lambda: call("soon"))
    other = threading.Thread(target=lambda: a_transport.post(lambda: call("from a thread")))
    other.start()
    other.join()
    a_transport.post(lambda: call("sooner than late"))
    forget()
    forget()
    assert order == []
    host.wait_until(lambda: "late" in order)
    assert order == ["soon", "from a thread", "sooner than late", "late"]
    assert time.monotonic() - began >= 0.15
    assert threads == {threading.get_ident()}


def test_a_call_from_a_thread_is_heard_while_nothing_else_happens(host, a_transport):
    heard = []
    host.process_events(0.1)
    other = threading.Thread(target=lambda: a_transport.post(lambda: heard.append(1)))
    other.start()
    other.join()
    host.wait_until(lambda: heard, timeout_s=2)


def test_a_callback_that_fails_is_logged_and_the_next_one_comes(host, a_transport, caplog):
    done = []
    a_transport.post(lambda: 1 / 0)
    a_transport.post(lambda: done.append(1))
    host.wait_until(lambda: done)
    assert "ZeroDivisionError" in caplog.text


def test_a_call_may_wait_in_an_event_loop_of_its_own(host, a_transport):
    order = []

    def waits():
        host.wait_until(lambda: "inner" in order)
        order.append("outer")

    a_transport.post(waits)
    a_transport.post(lambda: order.append("inner"))
    host.wait_until(lambda: "outer" in order)
    assert order == ["inner", "outer"]


def test_after_stop_nothing_is_called(host, panel_module):
    transport = panel_module("qprocess_transport").QProcessTransport()
    called = []
    transport.post(lambda: called.append(1))
    transport.stop()
    transport_calls = len(called)
    host.process_events(0.1)
    assert len(called) == transport_calls == 0


def test_slicers_launcher_is_taken_else_this_python_else_nothing(panel_module, monkeypatch, tmp_path):
    find = panel_module("python_slicer").pythonExecutable
    assert find() == shutil.which("PythonSlicer")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() == sys.executable
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    with pytest.raises(ResourceError, match="PythonSlicer is not in the PATH of /opt/Slicer/bin/SlicerApp-real"):
        find()
