"""Files of other projects: what is read, and what is refused without running any of it."""

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from MambaSegmentLib.errors import BundleError
from MambaSegmentLib.models import read_weights_file, weights_file

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize("zipped", [True, False])  # the second is how PyTorch wrote before 1.6
def test_a_checkpoint_with_history_is_read(tmp_path, zipped):
    content = {"model": TENSORS, "epoch": 3, "best": np.float64(0.5), "loss": np.float32(2), "args": {"lr": 1e-3}}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    file = read_weights_file(tmp_path / "w.pth")
    assert file.sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert torch.equal(file.content["model"]["a.weight"], TENSORS["a.weight"])
    assert (file.content["best"], file.content["loss"], file.content["epoch"]) == (0.5, 2.0, 3)


def test_a_number_under_numpys_old_name_is_read(tmp_path):
    """NumPy before 2.0 wrote numpy.core; protocol 2 spells the name out, so that it can be put in its place."""
    torch.save({"best": np.float64(0.5)}, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "new.pth").read_bytes()
    assert content.count(b"numpy._core.multiarray\n") == 1
    (tmp_path / "old.pth").write_bytes(content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    assert read_weights_file(tmp_path / "old.pth").content == {"best": 0.5}


def test_safetensors_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert torch.equal(read_weights_file(tmp_path / "w.safetensors").content["a.weight"], TENSORS["a.weight"])


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_says_what(tmp_path, zipped):
    torch.save(
        {"model": TENSORS, "x": Harm(tmp_path / "harm")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(BundleError, match=r"w\.pth holds more than weights: it wants to run (posix|nt)\.mkdir"):
        read_weights_file(tmp_path / "w.pth")
    assert not (tmp_path / "harm").exists()
    torch.load(tmp_path / "w.pth", weights_only=False)  # it would have
    assert (tmp_path / "harm").exists()


def test_a_pickled_configuration_is_named(tmp_path):
    torch.save({"model": TENSORS, "config": argparse.Namespace(depth=2)}, tmp_path / "w.pth")
    with pytest.raises(BundleError, match=r"wants to run argparse\.Namespace, such as .* training configuration"):
        read_weights_file(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 cut short", bytes(range(256))])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_something_else_is_refused(tmp_path, content, ending):
    (tmp_path / f"w{ending}").write_bytes(content)
    with pytest.raises(BundleError, match=r"is damaged or no .*fetch it again"):
        read_weights_file(tmp_path / f"w{ending}")


def test_no_file_and_no_names(tmp_path):
    with pytest.raises(BundleError, match=r"absent\.pth cannot be read: No such file"):
        read_weights_file(tmp_path / "absent.pth")
    with pytest.raises(BundleError, match="cannot be read"):
        read_weights_file(tmp_path)
    torch.save(torch.zeros(2), tmp_path / "w.pth")
    with pytest.raises(BundleError, match="holds a Tensor; expected tensors by name"):
        read_weights_file(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("version", "safe"), [("2.9.1+cpu", False), ("2.6.0", False), ("2.10.0", True), ("3.0.1", True)]
)
def test_a_pytorch_that_cannot_read_safely_is_told_to_go(tmp_path, monkeypatch, version, safe):
    torch.save(TENSORS, tmp_path / "w.pth")
    save_file(TENSORS, tmp_path / "w.safetensors")
    monkeypatch.setattr(weights_file.torch, "__version__", version)
    assert read_weights_file(tmp_path / "w.safetensors").content.keys() == TENSORS.keys()
    if safe:
        assert read_weights_file(tmp_path / "w.pth").content.keys() == TENSORS.keys()
        return
    with pytest.raises(BundleError, match=rf"PyTorch {version[:3]}.*CVE-2026-24747.*pip install 'torch>=2\.10'"):
        read_weights_file(tmp_path / "w.pth")
