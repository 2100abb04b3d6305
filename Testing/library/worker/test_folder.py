"""The private folders of workers: gone when nobody is left, and never one that is in use."""

import os
import sys
import tempfile

import psutil
import pytest

from MambaSegmentLib.errors import ConfigError, ResourceError
from MambaSegmentLib.worker import folder as folders
from MambaSegmentLib.worker.folder import make_private_folder, remove_private_folder, use_private_folder
from Testing.library.worker.conftest import RawWorker, is_gone, wait_until


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files of this process, and of those it starts, lie."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path.resolve()
    for folder in list(folders._held):
        if folder.parent == tmp_path.resolve():
            remove_private_folder(folder)


def let_time_pass(folder):
    """A minute for the locks in it."""
    for path in folder.glob("*.lock"):
        os.utime(path, (path.stat().st_atime - 60, path.stat().st_mtime - 60))


def test_a_client_and_a_worker_that_are_both_killed_leave_a_folder_that_the_next_one_deletes(temporary):
    worker = RawWorker()
    pid = worker.next("hello", timeout_s=20)["pid"]
    assert wait_until(lambda: (worker.folder / f"{pid}.lock").exists())
    (worker.folder / "volume.nrrd").write_bytes(b"of a patient")
    other = make_private_folder()  # a second client starts meanwhile
    assert worker.folder.exists()

    psutil.Process(pid).kill()
    worker.process.wait()
    assert wait_until(lambda: is_gone(pid))
    let_time_pass(worker.folder)
    third = make_private_folder()
    assert worker.folder.exists()  # this process, its client, lives
    folders._held.pop(worker.folder).close()  # what the system does when a process is killed
    fourth = make_private_folder()
    assert set(temporary.iterdir()) == {other, third, fourth}


def test_a_lock_that_was_only_just_made_is_respected(temporary):
    folder = make_private_folder()
    folders._held.pop(folder).close()  # as if between the making of the file and its lock
    make_private_folder()
    assert folder.exists()
    let_time_pass(folder)
    make_private_folder()
    assert not folder.exists()


def test_a_live_worker_keeps_the_folder_of_its_dead_client(temporary):
    worker = RawWorker()
    try:
        pid = worker.next("hello", timeout_s=20)["pid"]
        assert wait_until(lambda: (worker.folder / f"{pid}.lock").exists())
        folders._held.pop(worker.folder).close()
        let_time_pass(worker.folder)
        make_private_folder()
        assert worker.folder.exists()
    finally:
        worker.end()
    assert not worker.folder.exists()


def test_folders_without_a_lock_are_given_a_day(temporary):
    new, old = temporary / "mambasegment-worker-new", temporary / "mambasegment-worker-old"
    for path in (new, old):
        path.mkdir()
    os.utime(old, (1, 1))
    other = temporary / "another program's"
    other.mkdir()
    os.utime(other, (1, 1))
    made = make_private_folder()
    assert set(temporary.iterdir()) == {new, other, made}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_not_followed(temporary, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "1.lock").touch()
    (temporary / "mambasegment-worker-link").symlink_to(elsewhere)
    make_private_folder()
    assert (elsewhere / "1.lock").exists()


def test_a_folder_that_cannot_be_made_or_used_is_named(temporary, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))
    with pytest.raises(ResourceError, match="no temporary folder can be made"):
        make_private_folder()
    with pytest.raises(ConfigError, match="it is deleted at the end"):
        use_private_folder(temporary / "mambasegment-worker-none")
