import os
import subprocess
import sys
from pathlib import Path

from MambaSegmentLib.files import atomic_path, remove_leftovers


def test_what_a_killed_writer_leaves_goes_and_nothing_else(tmp_path):
    target = tmp_path / "labels[1].nrrd"  # brackets are no pattern
    target.write_text("the old one")
    (tmp_path / "labels1.nrrd").write_text("another")
    with atomic_path(tmp_path / "labels1.nrrd") as other, atomic_path(target) as temporary:
        temporary.write_text("half")
        other.write_text("new")
        remove_leftovers(target)
        assert not temporary.parent.exists()
        assert other.exists()
        temporary.parent.mkdir()  # let the writer end in peace
        temporary.write_text("whole")
    remove_leftovers(tmp_path / "none" / "labels.nrrd")
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["labels1.nrrd", "labels[1].nrrd"]


def test_what_a_killed_writer_leaves_goes_when_the_target_is_written_again(tmp_path, repository):
    target = tmp_path / "labels.nrrd"
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom MambaSegmentLib.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    print('writing', flush=True)\n    time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(target)], cwd=repository, stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline().strip() == b"writing"
        (folder,) = tmp_path.iterdir()
        for path in folder.glob("*.lock"):
            os.utime(path, (1, 1))  # as if it had been at it for long
        with atomic_path(target) as temporary:
            temporary.write_text("of another one")
        assert folder.exists()
    finally:
        writer.kill()
        writer.communicate()
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_text() == "whole"


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path):
    for name in ("x" * 250 + ".nii", "海" * 80 + ".nii"):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("half")
            (tmp_path / f"{temporary.parent.name}-left").mkdir()
        remove_leftovers(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
