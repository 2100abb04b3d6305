"""Weights of a foreign file, opened in a process of its own with bounds on its time and memory."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import BundleError, ResourceError
from ..progress import CancelToken
from ..safetensors_file import read_header
from ..worker.process_tree import end_process_tree
from .child import FACTS, PROBLEM, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_S = 600.0
_MEMORY_BYTES = 2 << 30  # what Python and torch need anyway, generously
_MEMORY_PER_FILE_BYTE = 3  # the file as it is mapped, the weights, and their copy
_EVERY_S = 0.05
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of one file.

    Attributes:
        weights: tensors by the authors' names, on the CPU.
        facts: what lay beside them, as plain JSON: trainer_name, init_args and so on for nnU-Net's; `entry` is where
            the weights were.
        sha256: of the file.
    """

    path: Path
    weights: "dict[str, Tensor]"
    facts: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""


def read_checkpoint(
    path: Path, *, longest_s: float = _LONGEST_S, memory_bytes: int | None = None, cancel: CancelToken | None = None
) -> Checkpoint:
    """Read a `.pth`, `.pt` or `.safetensors` file.

    Args:
        longest_s, memory_bytes: bounds of the process that reads it; None allows what the file's size explains.
    Raises:
        BundleError: no such file, another kind, damaged, or one that would run code. ResourceError: the bounds were
        not enough. Cancelled: on request.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError as problem:
        raise BundleError(f"there is no file {path}; check the path") from problem
    if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device could wait for ever
        raise BundleError(f"{path} is no ordinary file; expected weights")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    memory_bytes = memory_bytes or _MEMORY_BYTES + _MEMORY_PER_FILE_BYTE * status.st_size
    with tempfile.TemporaryDirectory(prefix="mambasegment-import-", ignore_cleanup_errors=True) as folder:
        last_line = _open_apart(path.resolve(), Path(folder), longest_s, memory_bytes, cancel or CancelToken())
        _raise_problem(path, Path(folder), last_line)
        weights = _tensors(Path(folder) / WEIGHTS)
        facts = json.loads((Path(folder) / FACTS).read_text(encoding="utf-8"))
    for name, original in facts.pop("aliases").items():
        weights[name] = weights[original]
    return Checkpoint(path, weights, facts, sha256_of(path))


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> Checkpoint:
    header = read_header(path)  # checks every size against the file's
    return Checkpoint(path, _tensors(path), {"entry": "", "metadata": header.metadata}, sha256_of(path))


def _tensors(path: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())  # not mapped: the file goes away
    except (SafetensorError, OSError) as problem:
        raise BundleError(f"the weights in {path} cannot be read: {problem}") from problem


def _open_apart(source: Path, folder: Path, longest_s: float, memory_bytes: int, cancel: CancelToken) -> str:
    """Let a process of its own open the file and write into the folder; returns the last line it complained with."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log, _child(source, folder, log) as process:  # a pipe could fill and stop it
        while process.poll() is None:
            cancel.raise_if_cancelled()
            if _resident_bytes(process.pid) > memory_bytes:
                raise ResourceError(
                    f"reading {source} takes more than {memory_bytes / 1e9:.1f} GB of memory, which its size does not "
                    "explain; it is not read"
                )
            if time.monotonic() - started > longest_s:
                raise ResourceError(f"reading {source} takes longer than {longest_s:.0f} s; it is not read")
            time.sleep(_EVERY_S)
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


def _raise_problem(source: Path, folder: Path, last_line: str) -> None:
    if (folder / PROBLEM).is_file():
        raise BundleError(json.loads((folder / PROBLEM).read_text(encoding="utf-8")))
    if not (folder / FACTS).is_file():  # it is written last
        raise BundleError(f"{source} could not be read; the process that opened it ended with: {last_line}")


@contextmanager
def _child(source: Path, folder: Path, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The reading process; ended at the latest when the block is left."""
    library = str(Path(__file__).resolve().parents[2])
    paths = [library, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.child", str(source), str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as problem:
        raise ResourceError(f"no process can be started to read {source}: {problem.strerror or problem}") from problem
    try:
        yield process
    finally:
        if process.poll() is None:
            end_process_tree(process.pid)  # what was started may be a launcher, whose death would not be enough
        process.wait()


def _resident_bytes(pid: int) -> int:
    """Of the process and, where it is a launcher, of the interpreter that it started."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += int(one.memory_info().rss)
    return total
