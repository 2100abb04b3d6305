"""The command shown in the panel must be one that a shell reads as it was meant."""

import shlex
from pathlib import PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import pytest


class StoredVolume:
    """A volume node as far as its file is concerned."""

    def __init__(self, path, changed=False, files=1):
        self.GetModifiedSinceRead = lambda: changed
        storage = SimpleNamespace(
            GetFileName=lambda: str(path), GetFullNameFromFileName=lambda: str(path), GetNumberOfFileNames=lambda: files
        )
        self.GetStorageNode = lambda: storage


def model(*channels):
    manifest = SimpleNamespace(channels=[SimpleNamespace(name=name) for name in channels])
    return SimpleNamespace(name="hippocampus-t1", manifest=manifest)


@pytest.mark.parametrize(
    ("image", "result"),
    [
        ("/data/case 1/t1.nii.gz", "/data/case 1/t1.seg.nrrd"),
        ("/data/T1.NRRD", "/data/T1.seg.nrrd"),
        ("/data/it's.mha", "/data/it's.seg.nrrd"),
        ("/data/$HOME/scan.v2.nii", "/data/$HOME/scan.v2.seg.nrrd"),
    ],
)
def test_posix_shell_reads_back_the_arguments(panel_module, image, result):
    line = panel_module("shell_line").shellLine([PurePosixPath(image)], "hippocampus-t1", windows=False)
    assert shlex.split(line) == ["mambasegment", "segment", image, "-m", "hippocampus-t1", "-o", result]


def test_windows_quotes_only_where_needed(panel_module):
    images = [PureWindowsPath(r"C:\data\t1.nrrd"), PureWindowsPath(r"C:\my data\a&b.nrrd")]
    line = panel_module("shell_line").shellLine(images, "m", windows=True)
    assert line == r'mambasegment segment C:\data\t1.nrrd "C:\my data\a&b.nrrd" -m m -o C:\data\t1.seg.nrrd'


def test_further_channels_are_named_for_the_user_to_replace(panel_module, tmp_path):
    image = tmp_path / "t1.nrrd"
    image.touch()
    example = panel_module("shell_line").shellExample(model("T1", "FLAIR 3D"), StoredVolume(image))
    assert "FLAIR_3D.nii.gz" in example.line
    assert str(image.name) in example.line
    assert "Put your own file names in" in example.hint


def test_a_single_stored_volume_needs_no_further_word(panel_module, tmp_path):
    image = tmp_path / "t1.nrrd"
    image.touch()
    example = panel_module("shell_line").shellExample(model("T1"), StoredVolume(image))
    assert "t1.seg.nrrd" in example.line
    assert "save it" not in example.hint
    assert "Put your own" not in example.hint


@pytest.mark.parametrize("state", [{"changed": True}, {"files": 93}])
def test_a_volume_that_is_not_one_unchanged_file_must_be_saved_first(panel_module, tmp_path, state):
    image = tmp_path / "t1.nrrd"
    image.touch()
    example = panel_module("shell_line").shellExample(model("T1"), StoredVolume(image, **state))
    assert str(tmp_path) not in example.line
    assert "save it" in example.hint


def test_a_file_that_is_gone_counts_as_none(panel_module, tmp_path):
    assert panel_module("scene_io").storedFile(StoredVolume(tmp_path / "gone.nrrd")) is None


def test_no_model_no_command(panel_module):
    shellExample = panel_module("shell_line").shellExample
    assert shellExample(None).line == ""
    assert shellExample(SimpleNamespace(name="broken", manifest=None)).line == ""
