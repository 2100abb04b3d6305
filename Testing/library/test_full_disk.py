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
import contextlib, io, json, os, sys
from MambaSegmentLib.cli import main
folder, fill, commands = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
if fill:
    with open(os.path.join(folder, "another file"), "wb") as stream:
        stream.write(bytes(fill))
for command in commands:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(command)
    print(json.dumps([code, sorted(set(os.listdir(folder)) - {"another file"}), said.getvalue()]))
"""


def run(options: str, folder: Path, repository: Path, *commands: list[str], fill: int = 0) -> list[tuple]:
    """For each command its exit code, the names in the folder, and what it said."""
    script = [sys.executable, "-c", RUN_AND_LIST, str(folder), str(fill), json.dumps(commands)]
    done = mounted(options, folder, *script, cwd=repository)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # of C libraries
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def test_labels_on_a_full_disk(case, tmp_path, repository):
    outputs = [str(tmp_path / f"labels{ending}") for ending in SUPPORTED_ENDINGS]
    answers = run("size=4k", tmp_path, repository, *(["segment", *case, "-o", path] for path in outputs), fill=4096)
    assert len(answers) == len(outputs)
    for output, (code, left, said) in zip(outputs, answers, strict=True):
        assert code == 4, said
        assert said == f"mambasegment: cannot write {output}: the disk is full; free some space and try again\n"
        assert left == []


def test_a_disk_that_runs_full_in_the_middle(case, tmp_path, repository):
    """32 kB of labels, of which 4 kB find room."""
    ((code, left, said),) = run("size=4k", tmp_path, repository, ["segment", *case, "-o", str(tmp_path / "labels.nii")])
    assert code == 4, said
    assert "the disk is full" in said
    assert left == []


def test_probabilities_for_which_there_is_no_room(case, tmp_path, repository):
    command = ["segment", *case, "-o", str(tmp_path / "l.nii"), "--probabilities", str(tmp_path / "p.nrrd")]
    ((code, left, said),) = run("size=60k", tmp_path, repository, command)
    assert code == 4, said
    assert "free some space, choose another disk, or leave out --probabilities" in said
    assert left == []


def test_a_disk_that_another_program_fills_meanwhile(tmp_path, repository):
    """The space of a file is taken before its first voxel: a mapping of a file with holes would end the process."""
    script = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from MambaSegmentLib.errors import ResourceError\nfrom MambaSegmentLib.raw_nrrd import writable_nrrd\n"
        "from MambaSegmentLib.volume import Volume\n"
        "try:\n    with writable_nrrd(Path(sys.argv[1]), Volume(np.zeros((64, 64, 64)))):\n        print('opened')\n"
        "except ResourceError as problem:\n    print(problem)\n"
    )
    done = mounted("size=60k", tmp_path, sys.executable, "-c", script, str(tmp_path / "p.nrrd"), cwd=repository)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"cannot write {tmp_path / 'p.nrrd'}: the disk is full; free some space and try again\n"


def test_a_batch_on_a_full_disk(case, tmp_path, repository):
    command = ["batch", *case[:5], "--quiet", "-o", str(tmp_path)]
    ((code, left, said),) = run("size=4k", tmp_path, repository, command, fill=4096)
    assert code == 4, said
    assert "the disk is full" in said
    assert said.count("\n") == 1
    assert set(left) <= {"batch.jsonl", "report.csv", "report.json", "segments.csv"}


def test_a_folder_that_may_only_be_read(case, tmp_path, repository):
    """The administrator, who may do anything else, cannot write here either."""
    commands = [
        ["segment", *case, "-o", str(tmp_path / "labels.nrrd")],
        ["batch", *case[:5], "--quiet", "-o", str(tmp_path)],
    ]
    for code, left, said in run("ro", tmp_path, repository, *commands):
        assert code == 2, said
        assert "no right to write in" in said
        assert said.count("\n") == 1
        assert left == []
