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
