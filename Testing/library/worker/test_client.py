"""The client against real workers that die, hang and come back."""

import queue
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from MambaSegmentLib.errors import BundleError, Cancelled, ConfigError, ImageError, ResourceError
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.worker.blocking import BlockingWorker, InternalError
from MambaSegmentLib.worker.client import Ended, Timeouts, WorkerClient, worker_environment
from MambaSegmentLib.worker.protocol import Failed, Hello, Load, Options, Ready, Result, Segment, Unload
from MambaSegmentLib.worker.subprocess_transport import SubprocessTransport
from Testing.library.worker.conftest import TINY_WORKER, is_gone, partial_files, wait_until

CPU = Options("cpu")


class Watched(WorkerClient):
    """A client with a worker of the tests, whose callbacks can be waited for."""

    def __init__(self, command=None, timeouts=None):
        self.statuses, self.events = queue.SimpleQueue(), queue.SimpleQueue()
        self.transport = SubprocessTransport()
        super().__init__(self.transport, command=command or TINY_WORKER, timeouts=timeouts, on_status=self.statuses.put)

    def segment(self, image, model, output):
        job = self.new_job()
        self.send(Segment(job, (image,), model, str(output), CPU), self.events.put)
        return job

    def status(self, kind, timeout_s=120):
        while not isinstance(status := self.statuses.get(timeout=timeout_s), kind):
            pass
        return status

    def answer(self, timeout_s=120):
        """The next end of a job."""
        while not isinstance(event := self.events.get(timeout=timeout_s), Result | Failed):
            pass
        return event

    def wait_for_stage(self, stage, timeout_s=120):
        while getattr(self.events.get(timeout=timeout_s), "stage", None) != stage:
            pass

    def close_and_wait(self):
        self.close()
        ended = self.status(Ended)
        self.transport.stop()
        return ended


@pytest.fixture(scope="module")
def a_client():
    """Shared; each test leaves it without jobs, though perhaps with another worker than before."""
    client = Watched()
    client.start()
    client.pid = client.status(Hello).pid
    client.status(Ready)
    yield client
    folder = client.folder
    assert client.close_and_wait() == Ended(0)
    assert not folder.exists()


def test_paths_may_be_relative_and_a_failed_job_is_followed_by_a_good_one(
    a_client, a_model_file, an_image, tmp_path, monkeypatch
):
    model = a_model_file()
    monkeypatch.chdir(tmp_path)  # the worker runs elsewhere
    a_client.segment("none.nii", model, "o.nrrd")
    failed = a_client.answer()
    assert failed.kind == "ImageError"
    assert str(tmp_path / "none.nii") in failed.message
    job = a_client.segment("t1.nii.gz", Path(model).name, "o.nrrd")
    answer = a_client.answer()
    assert (answer.job, answer.files) == (job, (str(tmp_path / "o.nrrd"),))
    assert (tmp_path / "o.nrrd").is_file()


def test_cancel_within_a_layer_is_enforced_and_jobs_behind_are_done_by_a_new_worker(
    a_client, a_model_file, an_image, tmp_path
):
    """A layer of a minute notices nothing: the process must go, but not the job that waits."""
    hangs, output = a_model_file("hangs", sleep_s=60), tmp_path / "o.nrrd"
    leftover = tmp_path / ".o.nrrd.partial-abc"  # as of a process that is killed while it writes
    leftover.mkdir()
    cancelled = a_client.segment(an_image, hangs, output)
    waits = a_client.segment(an_image, a_model_file(), tmp_path / "second.nrrd")
    a_client.wait_for_stage("network")
    time.sleep(1.0)  # the stage begins a moment before the layer, and between them a cancel is noticed
    old = a_client.pid
    started = time.monotonic()
    a_client.cancel(cancelled)
    answer = a_client.answer()
    assert time.monotonic() - started < 20  # 0.5 s, and what a busy system takes to end a process
    assert (answer.job, answer.kind) == (cancelled, "Cancelled")
    assert a_client.status(Ended).reason == ""
    assert wait_until(lambda: is_gone(old))
    assert not partial_files(tmp_path)
    a_client.pid = a_client.status(Hello).pid
    assert a_client.answer().job == waits
    assert (tmp_path / "second.nrrd").is_file()
    assert not output.exists()


def test_a_killed_worker_fails_its_job_and_a_new_one_does_the_rest(a_client, a_model_file, an_image, tmp_path):
    slow = a_model_file("slow", sleep_s=0.1, layers=100)
    first = a_client.segment(an_image, slow, tmp_path / "o.nrrd")
    second = a_client.segment(an_image, a_model_file(), tmp_path / "second.nrrd")
    a_client.wait_for_stage("network")
    psutil.Process(a_client.pid).kill()
    answer = a_client.answer()
    assert (answer.job, answer.kind) == (first, "ResourceError")
    assert "ended unexpectedly (exit code" in answer.message
    assert "memory" in answer.advice
    assert "ended unexpectedly" in a_client.status(Ended).reason
    a_client.pid = a_client.status(Hello).pid
    assert a_client.answer().job == second
    assert not (tmp_path / "o.nrrd").exists()


def test_cancelled_while_waiting_while_running_and_when_over(a_client, a_model_file, an_image, tmp_path):
    slow = a_model_file("slow", sleep_s=0.05, layers=40)
    running = a_client.segment(an_image, slow, tmp_path / "o.nrrd")
    waiting = a_client.segment(an_image, slow, tmp_path / "o.nrrd")
    a_client.wait_for_stage("network")
    a_client.cancel(waiting)
    assert (answer := a_client.answer()).job == waiting
    assert answer.kind == "Cancelled"
    a_client.cancel(running)
    assert a_client.answer().kind == "Cancelled"
    a_client.cancel(running)
    a_client.cancel("never sent")
    a_client.segment(an_image, a_model_file(), tmp_path / "o.nrrd")
    assert isinstance(a_client.answer(), Result)


def test_an_interpreter_that_is_missing_or_says_nothing_is_named():
    for command, complaint in (
        (["/no/such/python"], "cannot be started"),
        ([sys.executable, "-c", "raise SystemExit('no library here')"], "it wrote last: no library here"),
        ([sys.executable, "-c", "import time\nprint('hello?')\ntime.sleep(60)"], "has not said hello after 1 s"),
    ):
        client = Watched(command, Timeouts(hello_s=1.0))
        client.send(Unload("1"), client.events.put)
        answer = client.answer(30)
        assert answer.kind == "ResourceError"
        assert complaint in answer.message
        assert complaint in client.status(Ended).reason
        client.close_and_wait()


def test_another_protocol_and_a_torch_that_cannot_be_loaded_are_named():
    speak = "import os, sys\nprint(sys.argv[1].replace('PID', str(os.getpid())), flush=True)\nsys.stdin.read()"
    client = Watched([sys.executable, "-c", speak, '{"type": "hello", "protocol": 99, "version": "9", "pid": PID}'])
    client.send(Unload("1"), client.events.put)
    assert "speaks protocol 99" in client.answer(30).message
    assert "speaks protocol 99" in client.status(Ended).reason
    client.close_and_wait()

    script = (
        "import sys\nsys.modules['torch'] = None\nfrom MambaSegmentLib.cli import main\n"
        "sys.exit(main(['worker', *sys.argv[1:]]))"
    )
    client = Watched([sys.executable, "-c", script])
    client.send(Unload("1"), client.events.put)
    message = client.answer(30).message
    assert "networks cannot be used here: ModuleNotFoundError" in message
    assert "Install PyTorch" in message
    assert client.status(Ended).code == ResourceError.exit_code
    assert client.close_and_wait() == Ended(None)  # there is no process any more


def test_closing_fails_what_is_not_over_and_forgets_the_folder():
    client = Watched()
    folder = client.folder
    (folder / "volume.nrrd").write_bytes(b"x" * 1000)  # as the panel does before it sends a job
    client.send(Unload("1"), client.events.put)
    pid = client.status(Hello).pid
    client.close()
    assert client.answer(30).kind == "Cancelled"
    client.status(Ended)
    assert is_gone(pid)
    assert not folder.exists()
    client.send(Unload("2"), client.events.put)
    assert "closed" in client.answer(30).message
    client.transport.stop()


def test_when_the_client_is_killed_the_worker_goes_and_leaves_nothing(a_model_file, an_image, tmp_path):
    script = f"""
import sys, time
from MambaSegmentLib.worker.client import WorkerClient
from MambaSegmentLib.worker.protocol import Hello, JobProgress, Options, Segment
from MambaSegmentLib.worker.subprocess_transport import SubprocessTransport

def note(status):
    if isinstance(status, Hello):
        print(status.pid, client.folder, sep="\\n", flush=True)

def tell(event):
    if isinstance(event, JobProgress) and event.stage == "network":
        print("network", flush=True)

client = WorkerClient(SubprocessTransport(), command={TINY_WORKER!r}, on_status=note)
client.send(Segment("1", (sys.argv[1],), sys.argv[2], sys.argv[3], Options("cpu")), tell)
time.sleep(600)
"""
    model = a_model_file("slow", sleep_s=0.1, layers=100)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, an_image, model, str(tmp_path / "o.nrrd")],
        env=worker_environment(),
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        pid, folder = int(parent.stdout.readline()), Path(parent.stdout.readline().strip())
        assert parent.stdout.readline() == "network\n"
        assert folder.is_dir()
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: is_gone(pid), 10)
    assert not folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slow.safetensors", "t1.nii.gz"]


def test_the_blocking_worker_raises_what_the_job_raised(a_model_file, an_image, tmp_path):
    output, stages = str(tmp_path / "o.nrrd"), []
    with BlockingWorker(command=TINY_WORKER) as worker:

        def segment(image, model, cancel=None):
            command = Segment(worker.new_job(), (image,), model, output, CPU)
            return worker.run(command, progress=lambda p: stages.append(p.stage), cancel=cancel)

        with pytest.raises(ImageError, match="does not exist"):
            segment("none.nii", a_model_file())
        with pytest.raises(BundleError, match="no such model"):
            segment(an_image, "no such model")
        with pytest.raises(InternalError, match="ZeroDivisionError: a bug"):
            segment(an_image, a_model_file("buggy", raises=True))
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            segment(an_image, a_model_file(), token)
        assert worker.run(Load(worker.new_job(), a_model_file(), CPU)).segments[1]["name"] == "Posterior"
        stages.clear()
        assert segment(an_image, a_model_file()).files == (output,)
        assert stages[0] == "read"
        assert stages[-1] == "write"
        with pytest.raises(ConfigError, match="cannot be sent"):
            segment("x" * 2_000_000, a_model_file())
        folder = worker.client.folder
    assert not folder.exists()


def test_nothing_heavy_is_imported(fresh_python):
    script = (
        "import sys\nimport MambaSegmentLib.worker.client, MambaSegmentLib.worker.subprocess_transport\n"
        "heavy = {'torch', 'numpy', 'SimpleITK', 'psutil', 'platformdirs'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    fresh_python(script)
