import os

import pytest

from MambaSegmentLib import store
from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.errors import BundleError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three store folders in place of the real ones: environment, user, shipped."""
    environment, user, shipped = (tmp_path / name for name in ("environment", "user", "shipped"))
    for folder in (environment, user, shipped):
        folder.mkdir()
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, os.pathsep.join([str(environment), str(tmp_path / "missing")]))
    monkeypatch.setattr(store, "user_folder", lambda: user)
    monkeypatch.setattr(store, "_shipped_folders", lambda: [shipped])
    monkeypatch.chdir(tmp_path)
    return environment, user, shipped


def test_the_first_folder_wins(folders):
    for folder in reversed(folders):
        (folder / "m.safetensors").write_bytes(b"")
        assert store.find_model("m") == folder / "m.safetensors"
        assert store.find_model("m.safetensors") == folder / "m.safetensors"


def test_a_file_in_reach_comes_before_the_store_and_a_folder_after(folders, tmp_path):
    (folders[1] / "m.safetensors").write_bytes(b"")
    (tmp_path / "m").mkdir()
    assert store.find_model("m") == folders[1] / "m.safetensors"
    (tmp_path / "m.safetensors").write_bytes(b"")
    assert store.find_model("m.safetensors").resolve() == tmp_path / "m.safetensors"
    assert store.find_model(tmp_path / "m.safetensors") == tmp_path / "m.safetensors"


def test_a_name_with_dots(folders):
    (folders[0] / "lobes.v2.safetensors").write_bytes(b"")
    assert store.find_model("lobes.v2").parent == folders[0]


def test_unknown_names_list_the_known_ones(folders):
    (folders[0] / "liver.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"named 'lievr'; known: liver\."):
        store.find_model("lievr")


def test_a_missing_path(folders):
    with pytest.raises(BundleError, match="there is no model file"):
        store.find_model("nowhere/m.safetensors")


def test_the_list_shows_broken_files_with_their_problem(folders, a_tiny_bundle):
    bundle = a_tiny_bundle()
    write_bundle(folders[1] / "tiny.safetensors", bundle.manifest, bundle.folds)
    (folders[2] / "tiny.safetensors").write_bytes(b"hidden by the one before")
    (folders[2] / "broken.safetensors").write_bytes(b"")
    broken, tiny = store.list_models()
    assert (broken.name, broken.manifest) == ("broken", None)
    assert "empty" in broken.problem
    assert tiny.manifest.name == "tiny"
    assert tiny.path.parent == folders[1]


def test_the_shipped_folder_lies_in_the_repository(repository):
    assert repository / "MambaSegment" / "Resources" / "Models" in store._shipped_folders()
