"""The user's folders are the same with and without platformdirs, which a fresh 3D Slicer lacks."""

import sys
from pathlib import Path

import platformdirs
import pytest

from MambaSegmentLib import folders


def test_without_platformdirs_the_folders_are_the_same(monkeypatch):
    expected = folders.data_folder(), folders.log_folder()
    assert expected[0] == platformdirs.user_data_path("mambasegment", appauthor=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)  # `import platformdirs` fails from now on
    assert (folders.data_folder(), folders.log_folder()) == expected


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="only Linux has the XDG base directories")
def test_the_variables_of_the_desktop_are_followed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", " ")
    expected = folders.data_folder(), folders.log_folder()
    assert expected == (tmp_path / "data" / "mambasegment", Path.home() / ".local" / "state" / "mambasegment" / "log")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert (folders.data_folder(), folders.log_folder()) == expected


@pytest.mark.parametrize(
    ("platform", "data", "log"),
    [
        ("win32", "AppData/Local/mambasegment", "AppData/Local/mambasegment/Logs"),
        ("darwin", "Library/Application Support/mambasegment", "Library/Logs/mambasegment"),
    ],
)
def test_other_systems_have_places_of_their_own(monkeypatch, platform, data, log):
    """As the documentation of platformdirs gives them."""
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert folders._data_folder(platform) == Path.home() / data
    assert folders._log_folder(platform) == Path.home() / log


def test_the_store_lists_the_shipped_models_in_a_python_that_has_only_what_slicer_has(fresh_python):
    """No platformdirs, psutil or torch; the panel shows the models all the same, and says what to install."""
    script = (
        "import sys\nfor name in ('platformdirs', 'psutil', 'torch', 'safetensors', 'slicerio', 'nrrd', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "from MambaSegmentLib.store import find_model, list_models\n"
        "print([model.name for model in list_models()])\nprint(find_model('hippocampus-t1').name)"
    )
    said = fresh_python(script)
    assert "'hippocampus-t1'" in said
    assert said.splitlines()[1] == "hippocampus-t1.safetensors"


def test_a_site_names_the_folder_of_models_before_a_program_does(monkeypatch, tmp_path):
    monkeypatch.delenv(folders.USER_MODELS_VARIABLE, raising=False)
    usual = folders.data_folder() / "models"
    try:
        assert folders.user_models_folder() == usual
        folders.use_models_folder(tmp_path / "mine")
        assert folders.user_models_folder() == tmp_path / "mine"
        monkeypatch.setenv(folders.USER_MODELS_VARIABLE, str(tmp_path / "site"))
        assert folders.user_models_folder() == tmp_path / "site"
    finally:
        folders.use_models_folder(None)
    monkeypatch.delenv(folders.USER_MODELS_VARIABLE)
    assert folders.user_models_folder() == usual
