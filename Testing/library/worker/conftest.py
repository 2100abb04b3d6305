"""Real worker processes, and models and images for them."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume
from MambaSegmentLib.worker.client import worker_environment
from MambaSegmentLib.worker.folder import make_private_folder, remove_private_folder
from MambaSegmentLib.worker.process_tree import end_process_tree

TINY_WORKER = [sys.executable, str(Path(__file__).with_name("tiny_worker.py"))]


class RawWorker:
    """A worker process, spoken to line by line."""

    def __init__(self, command: list[str] | None = None) -> None:
        self.folder = make_private_folder()
        self.process = subprocess.Popen(
            [*(command or TINY_WORKER), "--folder", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=worker_environment(),
        )
        self.lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.heard_s: dict[str, float] = {}  # when each type of message came first, from the start of the process
        self._started_s = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            self.heard_s.setdefault(message["type"], time.monotonic() - self._started_s)
            self.lines.put(message)
        self.lines.put(None)

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, kind: str, **fields: Any) -> None:
        self.write(json.dumps({"type": kind, **fields}).encode() + b"\n")

    def next(self, *kinds: str, timeout_s: float = 60) -> dict[str, Any]:
        """The next message, of one of these types; others are passed over."""
        while True:
            message = self.lines.get(timeout=timeout_s)
            assert message is not None, f"the worker ended with {self.process.wait()}"
            if not kinds or message["type"] in kinds:
                return message

    def answer(self, job: str) -> dict[str, Any]:
        """How a job ends; the answers to others are passed over."""
        while (message := self.next("result", "failed"))["job"] != job:
            pass
        return message

    def end(self) -> None:
        """Kill it, and do what a client does then."""
        end_process_tree(self.process.pid)
        self.process.wait()
        remove_private_folder(self.folder)


@pytest.fixture(scope="module")
def a_worker() -> Iterator[RawWorker]:
    """Ready; shared by the tests of a file, so leave it alive and idle."""
    worker = RawWorker()
    worker.next("ready", timeout_s=120)
    yield worker
    worker.end()


@pytest.fixture
def a_model_file(tmp_path: Path, a_tiny_bundle: Any) -> Callable[..., str]:
    """Writes tiny models: `a_model_file(sleep_s=0.1, layers=3)` makes an acting one."""

    def write(file_name: str = "tiny", **acting: Any) -> str:
        changes = {"architecture_name": "acting", "architecture_options": acting} if acting else {}
        bundle = a_tiny_bundle(patch_size=(4, 4, 4), **changes)
        path = tmp_path / f"{file_name}.safetensors"
        write_bundle(path, bundle.manifest, bundle.folds)
        return str(path)

    return write


@pytest.fixture
def an_image(tmp_path: Path) -> str:
    """4 × 4 × 8 voxels of 1 cm, three tiles of the tiny model: of class 1 there are 2, of class 5 one."""
    array = np.zeros((4, 4, 8), np.float32)
    array[0, 0, :3] = 1, 1, 2
    write_volume(Volume(array, spacing_mm=(10.0, 10.0, 10.0)), tmp_path / "t1.nii.gz")
    return str(tmp_path / "t1.nii.gz")


def is_gone(pid: int) -> bool:
    """A zombie counts as gone: in a container nobody may collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


def partial_files(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if ".partial-" in name]  # noqa: PTH208  (hidden ones too)
