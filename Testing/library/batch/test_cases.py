from pathlib import Path

import pytest

from MambaSegmentLib.batch.cases import Case, find_cases
from MambaSegmentLib.errors import ConfigError

ONE, TWO = ["T1"], ["T1", "FLAIR"]


@pytest.fixture
def files(tmp_path):
    """Makes empty files below the folder, or a DICOM file where the name ends in .dcm."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" if name.endswith(".dcm") else b"")
        return tmp_path

    return make


def names(cases):
    return [case.name for case in cases]


def test_a_folder_gives_its_images_and_its_dicom_folders(files):
    root = files(
        "b.nii.gz", "a.NRRD", "c.mha", "old.seg.nrrd", "notes.txt", ".hidden.nii", "series/1.dcm", "empty/x.txt"
    )
    cases = find_cases(str(root), ONE)
    assert sorted(cases, key=lambda case: case.name) == [
        Case("a", (root / "a.NRRD",)),
        Case("b", (root / "b.nii.gz",)),
        Case("c", (root / "c.mha",)),
        Case("series", (root / "series",)),
    ]
    assert find_cases(str(root / "series"), ONE) == [Case("series", (root / "series",))]
    assert find_cases(str(root / "b.nii.gz"), ONE) == [Case("b", (root / "b.nii.gz",))]


def test_channels_are_told_by_their_numbers(files):
    root = files("p_0001.nii", "p_0000.nii", "q_0000.nii", "r_0000.nii", "r_0001.nii", "r_0002.nii", "loose.nii")
    loose, p, q, r = find_cases(str(root), TWO)
    assert p == Case("p", (root / "p_0000.nii", root / "p_0001.nii"))
    assert "the images _0000 of q are there; the model takes _0000 to _0001" in q.problem
    assert "_0000, _0001, _0002 of r" in r.problem
    assert "expected names ending in _0000" in loose.problem


def test_one_channel_with_numbers_loses_them_only_where_all_have_them(files):
    root = files("a_0000.nii", "b_0000.nii")
    assert names(find_cases(str(root), ONE)) == ["a", "b"]
    files("c.nii")
    assert names(find_cases(str(root), ONE)) == ["a_0000", "b_0000", "c"]


def test_names_that_clash_take_their_folders_along(files):
    root = files("one/t1.nii", "two/t1.nii", "two/T1.nrrd", "two/deep/u.nii")
    assert names(find_cases(str(root / "**" / "*.n*"), ONE)) == ["one_t1.nii", "two_T1.nrrd", "u", "two_t1.nii"]
    problems = [case.problem for case in find_cases(str(root / "*" / "T*.nrrd"), ONE)]
    assert problems == [""]


def test_a_table_names_cases_and_channels(files):
    root = files("images/a.nii")
    table = root / "cases.csv"
    table.write_text(
        "case;flair;t1;age\nana;b.nii;images/a.nii;50\n;;\nben;;c.nii;\n;x.nii;y.nii\n", encoding="utf-8-sig"
    )
    ana, ben, third = find_cases(str(table), TWO)
    assert ana == Case("ana", (root / "images/a.nii", root / "b.nii"))  # in the order of the model
    assert ben.problem == "row 4 of the table lacks an image"
    assert third == Case("y", (root / "y.nii", root / "x.nii"))
    table.write_text("image\na.nii\n")
    assert find_cases(str(table), ONE) == [Case("a", (root / "a.nii",))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"case,T1\na,b\n", "missing: FLAIR"),
        (b"", "has the columns \\(none\\)"),
        (b"T1,FLAIR\n", "there is no case in"),
        ("T1,FLAIR\nä,ö\n".encode("latin-1"), "in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(tmp_path, content, expected):
    (tmp_path / "cases.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        find_cases(str(tmp_path / "cases.csv"), TWO)


@pytest.mark.parametrize("name", ["a/b", "..", "con", "COM1.x", "a ", "what?", "x" * 201])
def test_a_name_that_is_no_file_name_on_every_system_fails_its_case_only(tmp_path, name):
    (tmp_path / "cases.csv").write_text(f'case,image\n"{name}",a.nii\ngood,b.nii\n')
    bad, good = find_cases(str(tmp_path / "cases.csv"), ONE)
    assert ("cannot be the name of a file" in bad.problem) == (name != "a ")  # blanks around a cell do not count
    assert good.problem == ""


def test_doubled_names_of_a_table_are_told_apart_or_refused(tmp_path):
    (tmp_path / "cases.csv").write_text("case,image\na,1/x.nii\nA,2/x.nii\nb,3/x.nii\nb,3/x.nii\n")
    cases = find_cases(str(tmp_path / "cases.csv"), ONE)
    assert names(cases) == ["1_x.nii", "2_x.nii", "3_x.nii", "3_x.nii"]
    assert [bool(case.problem) for case in cases] == [False, False, True, True]


@pytest.mark.parametrize("source", ["none", "none/*.nii", "."])
def test_nothing_there_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"does not exist|there is no case"):
        find_cases(source, ONE)
