"""Models come into the user's folder only whole, checked and under the name that they give themselves."""

import json
import subprocess
import sys
import threading

import pytest

from MambaSegmentLib import cli, folders
from MambaSegmentLib.bundle import read_manifest, write_bundle
from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.fetching.download import sha256_of
from MambaSegmentLib.fetching.models import add_model, remove_model
from MambaSegmentLib.store import find_model, is_users_own
from Testing.library.fetching.file_server import serving


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    folder = tmp_path / "user" / "models"
    monkeypatch.setenv(folders.USER_MODELS_VARIABLE, str(folder))
    return folder


@pytest.fixture
def a_file(tmp_path, a_tiny_bundle):
    """`a_file(name="x")` writes a tiny model of that name to a file of another."""

    def make(file="given.safetensors", **changes):
        bundle = a_tiny_bundle(**changes)
        write_bundle(tmp_path / file, bundle.manifest, bundle.folds)
        return tmp_path / file

    return make


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_copied_under_its_own_name(user_folder, a_file):
    seen = []
    model = add_model(str(a_file(name="liver")), progress=seen.append)
    assert model.path == user_folder / "liver.safetensors"
    assert names_in(user_folder) == ["liver.safetensors"]
    assert find_model("liver") == model.path
    assert seen[-1].done == seen[-1].total == model.path.stat().st_size


def test_a_download_leaves_nothing_but_the_model(user_folder, a_file):
    file = a_file(name="liver")
    with serving(file.read_bytes()) as server:
        model = add_model(f"{server.url}#sha256={sha256_of(file)}")
    assert model.path.read_bytes() == file.read_bytes()
    assert names_in(user_folder) == ["liver.safetensors"]


@pytest.mark.parametrize("where", ["file", "web"])
def test_a_wrong_checksum_adds_nothing(user_folder, a_file, where):
    file = a_file()
    with serving(file.read_bytes()) as server:
        source = str(file) if where == "file" else server.url
        with pytest.raises(BundleError, match=f"SHA-256 {sha256_of(file)}, but {'0' * 64} was expected"):
            add_model(source, sha256="0" * 64)
    assert names_in(user_folder) == []


def test_what_is_no_model_adds_nothing(user_folder, tmp_path):
    with serving(b"<html>not found</html>") as server, pytest.raises(BundleError) as caught:
        add_model(server.url)
    assert "file.safetensors" in str(caught.value)  # its name, and not that of a temporary file
    assert ".download" not in str(caught.value)
    assert names_in(user_folder) == []
    with pytest.raises(BundleError, match="there is no file"):
        add_model(str(tmp_path / "missing.safetensors"))
    with pytest.raises(ConfigError, match="no SHA-256"):
        add_model(str(tmp_path / "missing.safetensors"), sha256="abc")


def test_a_model_is_not_replaced_without_being_told(user_folder, a_file):
    old = add_model(str(a_file(version="1")))
    assert add_model(str(a_file(version="1"))).path == old.path  # the same again
    newer = a_file("newer.safetensors", version="2", weights=(2.0,))
    with pytest.raises(BundleError, match=r"\(version 1\) is there already, and this one \(version 2\)"):
        add_model(str(newer))
    assert read_manifest(old.path).version == "1"
    add_model(str(newer), replace=True)
    assert read_manifest(old.path).version == "2"


def test_only_ones_own_models_can_be_removed(user_folder, a_file, tmp_path, monkeypatch):
    model = add_model(str(a_file(name="mine")))
    site = tmp_path / "site"
    site.mkdir()
    a_file(name="sites").rename(site / "sites.safetensors")
    monkeypatch.setenv("MAMBASEGMENT_MODELS", str(site))
    assert is_users_own(model.path)
    with pytest.raises(BundleError, match="none of your own models"):
        remove_model("sites")
    assert (site / "sites.safetensors").is_file()
    assert remove_model("mine") == model.path
    assert not model.path.exists()


def test_the_shell_adds_and_removes(user_folder, a_file, capsys):
    assert cli.main(["models", "add", str(a_file(name="liver")), "--json"]) == 0
    *progress, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert progress[-1]["stage"] == "copy"
    assert last == {"name": "liver", "path": str(user_folder / "liver.safetensors")}
    assert cli.main(["models", "remove", "liver"]) == 0
    assert names_in(user_folder) == []
    assert cli.main(["models", "remove", "liver"]) == 3


def test_a_program_that_goes_away_takes_the_download_along(user_folder, a_file):
    """The process ends though the server says nothing more; the next attempt goes on."""
    content = a_file(name="liver", license="x" * 300_000).read_bytes()
    with serving(content) as server:
        server.hold = threading.Event()
        command = [sys.executable, "-m", "MambaSegmentLib", "models", "add", server.url, "--json", "--end-with-input"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdin is not None
        assert json.loads(process.stdout.readline())["done"] > 0
        process.stdin.close()
        assert process.wait(30) == 130
        process.stdout.close()
        server.hold.set()
        server.hold = None
        assert add_model(server.url).name == "liver"
        assert server.requests[1].startswith("bytes=")
