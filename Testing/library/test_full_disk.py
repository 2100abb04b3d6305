"""A disk that is really full, or really read-only: a file system of 4 kB in memory, mounted for one process alone.

Where mounting is not permitted, `test_image_io.py` still limits the size of files (RLIMIT_FSIZE).
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from MambaSegmentLib.segmentation_io import SUPPORTED_ENDINGS
from Testing.bad_files import write
from Testing.bad_inputs import write_models

# $1 the options of the mount, $2 the folder, then the command.
MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'


def mounted(options: str, folder: Path, *command: str, **how) -> "subprocess.CompletedProcess[str]":
    """Run a command that finds a file system of its own in `folder`; nobody else sees it, and it goes with it."""
    namespace = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", options, str(folder)]
    return subprocess.run([*namespace, *command], capture_output=True, encoding="utf-8", **how)


@pytest.fixture(scope="module", autouse=True)
def _may_mount(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mount")
    try:
        tried = mounted("size=4k", folder, "true")
    except FileNotFoundError:
        pytest.skip("a folder of limited size is made with Linux' unshare and mount")
    if tried.returncode != 0:
        pytest.skip(f"mounting a folder of limited size is not permitted here: {tried.stderr.strip()}")


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> list[str]:
    """32 kB of labels, before they are packed."""
    folder = tmp_path_factory.mktemp("case")
    noise = np.random.default_rng(0).standard_normal((32, 32, 32)).astype(np.float32)
    image = write(folder / "noise.nrrd", noise, spacing=(1.0, 1.0, 1.0))
    return [str(image), "-m", str(write_models(folder)["volume"]), "--device", "cpu", "--overlap", "0", "--quiet"]


# What the folder holds afterwards is only to be seen in the namespace.
RUN_AND_LIST = """
import json, os, sys
from MambaSegmentLib.cli import main
folder, fill, *arguments = sys.argv[1:]
if int(fill):
    with open(os.path.join(folder, "another file"), "wb") as stream:
        stream.write(bytes(int(fill)))
code = main(arguments)
print(json.dumps([code, sorted(set(os.listdir(folder)) - {"another file"})]))
"""


def run(options: str, folder: Path, repository: Path, *arguments: str, fill: int = 0) -> tuple[int, list[str], str]:
    command = [sys.executable, "-c", RUN_AND_LIST, str(folder), str(fill), *arguments]
    done = mounted(options, folder, *command, cwd=repository)
    assert done.returncode == 0, done.stderr
    return *json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("ending", SUPPORTED_ENDINGS)
def test_labels_on_a_full_disk(case, tmp_path, repository, ending):
    output = ["-o", str(tmp_path / f"labels{ending}")]
    # Room for a part of the file where it is larger than that, else none at all.
    code, left, said = run("size=4k", tmp_path, repository, "segment", *case, *output, fill=4096 * (ending != ".nii"))
    assert code == 4, said
    assert "the disk is full; free some space" in said
    assert said.count("\n") == 1
    assert left == []


def test_a_batch_on_a_full_disk(case, tmp_path, repository):
    code, left, said = run(
        "size=4k", tmp_path, repository, "batch", *case[:5], "--quiet", "-o", str(tmp_path), fill=4096
    )
    assert code == 4, said
    assert "the disk is full" in said
    assert said.count("\n") == 1
    assert set(left) <= {"batch.jsonl", "report.csv", "report.json"}


@pytest.mark.parametrize("command", ["segment", "batch"])
def test_a_folder_that_may_only_be_read(case, tmp_path, repository, command):
    """The administrator, who may do anything else, cannot write here either."""
    output = str(tmp_path / "labels.nrrd") if command == "segment" else str(tmp_path)
    code, left, said = run("ro", tmp_path, repository, command, *case[:5], "--quiet", "-o", output)
    assert code == 2, said
    assert "no right to write in" in said
    assert said.count("\n") == 1
    assert left == []
