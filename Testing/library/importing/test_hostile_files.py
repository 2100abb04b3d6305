"""Files that would harm, lie or are something else: each is refused before anything of it is run or allocated."""

import io
import os
import pickle
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import BundleError, Cancelled, ResourceError
from MambaSegmentLib.importing import reading
from MambaSegmentLib.importing.archive import unpacked
from MambaSegmentLib.importing.pickle_scan import scan_pickle
from MambaSegmentLib.importing.reading import read_checkpoint
from MambaSegmentLib.importing.torch_file import check_torch_file
from MambaSegmentLib.importing.torch_version import require_safe_torch
from MambaSegmentLib.progress import CancelToken

OLD = {"_use_new_zipfile_serialization": False}


class Runs:
    """Unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Storage:
    """A tensor's data, as the pickle of torch.save refers to it."""

    def __init__(self, count: int) -> None:
        self.count = count


class FakeTensor:
    """A tensor that claims a shape."""

    def __init__(self, count, shape, strides, offset=0) -> None:
        self.parts = (Storage(count), offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.parts


class TorchPickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", value.count) if isinstance(value, Storage) else None


def a_torch_zip(path, content, data: bytes = b"\0" * 16, method=zipfile.ZIP_STORED, extra=()):
    """What torch.save would make of `content`, with anything else one likes in it."""
    stream = io.BytesIO()
    TorchPickler(stream, 2).dump(content)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/data/0", data)
        archive.writestr("archive/version", "3\n")
        for entry, text in extra:
            archive.writestr(entry, text)
    return path


def refusal(path) -> str:
    with pytest.raises(BundleError) as problem:
        check_torch_file(path)
    return str(problem.value)


@pytest.fixture
def weights():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.arange(3)}


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle", "protocol 5", "hidden in a list"])
def test_a_file_that_would_run_a_command_says_which(tmp_path, weights, how):
    victim = tmp_path / "victim"
    runs = Runs(f"touch {victim}")
    path = tmp_path / "evil.pth"
    if how == "zip":
        torch.save({**weights, "z": runs}, path)
    elif how == "legacy":
        torch.save({**weights, "z": runs}, path, **OLD)
    elif how == "hidden in a list":
        torch.save({"network_weights": weights, "logging": [[1, [2, (3, runs)]]]}, path)
    else:
        path.write_bytes(pickle.dumps(runs, protocol=5 if how == "protocol 5" else 2))
    message = refusal(path)
    assert f"opening it would run {os.system.__module__}.system('touch {victim}')" in message
    with pytest.raises(BundleError, match="would run"):
        read_checkpoint(path)
    assert not victim.exists()


def test_the_command_refuses_with_one_line_and_its_code(tmp_path, weights):
    victim, path = tmp_path / "victim", tmp_path / "evil.pth"
    torch.save({**weights, "z": Runs(f"touch {victim}")}, path)
    done = subprocess.run(
        [sys.executable, "-m", "MambaSegmentLib", "models", "import", str(path), "-o", str(tmp_path / "m.safetensors")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(f"mambasegment: {path} is refused: opening it would run ")
    assert not victim.exists()
    assert sorted(tmp_path.iterdir()) == [path]


def test_what_is_harmless_but_unknown_is_named_with_a_way_out(tmp_path):
    torch.save({"history": np.zeros(3)}, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "_reconstruct" in message and "save only the weights" in message
    path = tmp_path / "b.pth"
    path.write_bytes(pickle.dumps(pickle.Pickler))
    assert "it asks for _pickle.Pickler" in refusal(path)


@pytest.mark.parametrize(
    "call",
    [
        b"cnumpy\ndtype\n(VO8\ntR.",
        b"cnumpy\ndtype\n(VV99999999\ntR.",
        b"c_codecs\nencode\n(Va\nVzip\ntR.",
        b"c_codecs\nencode\n(Va\ntR.",
    ],
)
def test_even_what_numbers_need_is_taken_for_numbers_alone(tmp_path, call):
    path = tmp_path / "a.pth"
    path.write_bytes(b"\x80\x02" + call)
    assert "would run" in refusal(path)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (FakeTensor(4, (10**12,), (1,)), "claims more than the 4 numbers"),
        (FakeTensor(4, (10**12,), (0,)), "claims more than the 4 numbers"),
        (FakeTensor(4, (2, 2), (3, 1)), "claims more than the 4 numbers"),
        (FakeTensor(4, (2, 2), (2, 1), offset=1), "claims more than the 4 numbers"),
        (FakeTensor(4, (2,), (-1,)), "claims more than the 4 numbers"),
        (FakeTensor(10**12, (10**12,), (1,)), "claims 4000000000000 bytes, but 16 are there"),
        (FakeTensor(4, 7, (1,)), "makes no sense"),
        ([FakeTensor(4, (4,), (1,))] * 1, None),
    ],
)
def test_tensors_of_absurd_size_are_refused_before_they_are_made(tmp_path, tensor, message):
    path = a_torch_zip(tmp_path / "a.pth", {"w": tensor})
    if message is None:
        assert check_torch_file(path)
    else:
        assert message in refusal(path)


def test_many_tensors_of_one_storage_cannot_add_up(tmp_path):
    """Each fits; written out one by one they would take thousands of times the file."""
    many = {str(index): FakeTensor(2**20, (2**20,), (1,)) for index in range(40)}
    path = a_torch_zip(tmp_path / "a.pth", many, data=b"\0" * 2**22)
    assert "claim 167772160 in all" in refusal(path)


def test_a_compressed_member_is_no_torch_file(tmp_path):
    path = a_torch_zip(tmp_path / "a.pth", {}, data=b"\0" * 10**7, method=zipfile.ZIP_DEFLATED)
    assert "decompression bomb" in refusal(path)


def test_overlapping_members_are_refused(tmp_path):
    """Two entries that point to the same bytes: the directory claims more than the file holds."""
    path = a_torch_zip(tmp_path / "a.pth", {}, data=b"\0" * 4000)
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("archive/data/0")
        second = zipfile.ZipInfo("archive/data/1")
        for name in ("header_offset", "file_size", "compress_size", "CRC", "create_version", "extract_version"):
            setattr(second, name, getattr(first, name))
        archive.filelist.append(second)
        archive.NameToInfo[second.filename] = second
        archive._didModify = True
    assert "overlap" in refusal(path)


def a_link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


STRANGE = [
    ("../../escape.txt", "outside of the folder"),
    ("/etc/escape.txt", "outside of the folder"),
    ("a/..\\..\\escape.txt", "outside of the folder"),
    ("C:/escape.txt", "outside of the folder"),
    (a_link("archive/link"), "is a link or a device"),
]


@pytest.mark.parametrize(("entry", "message"), STRANGE)
def test_strange_members_are_refused_in_a_checkpoint(tmp_path, entry, message):
    path = a_torch_zip(tmp_path / "a.pth", {}, extra=[(entry, "x")])
    assert message in refusal(path)


@pytest.mark.parametrize(("entry", "message"), STRANGE)
def test_strange_members_are_refused_in_a_results_archive(tmp_path, entry, message):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("D/T__P__2d/plans.json", "{}")
        archive.writestr(entry, "x")
    with pytest.raises(BundleError, match=message), unpacked(path):
        pytest.fail("unpacked")
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_bomb_in_a_results_archive_is_not_unpacked(tmp_path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("D/T__P__2d/plans.json", "{}")
        archive.writestr("D/T__P__2d/fold_0/checkpoint_final.pth", b"\0" * (1 << 25))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(BundleError, match="would grow from"), unpacked(path):
        pytest.fail("unpacked")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, I am no model", "is no PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"\x80\x02}q\0.", "is a pickle, but none of torch.save"),
        (b"\x80\x02}q\0", "damaged or cut off"),
        (b"\x80\x02t.", "damaged or cut off"),
        (b"\x80\x04\x82\x01.", "damaged or cut off"),
        (b"PK\x03\x04garbage", "cut off or damaged"),
    ],
)
def test_files_of_other_kinds_are_called_by_their_name(tmp_path, content, message):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_tar_of_old_pytorch_and_a_torchscript_program_are_refused(tmp_path):
    path = tmp_path / "old.pth"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    assert "before 2017" in refusal(path)
    path = a_torch_zip(tmp_path / "script.pt", {}, extra=[("archive/constants.pkl", b"\x80\x02).")])
    assert "TorchScript" in refusal(path)


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "legacy"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, weights, options):
    whole, path = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(weights, whole, **options)
    data = whole.read_bytes()
    for length in range(1, len(data) - 8, 97):
        path.write_bytes(data[:length])
        assert "fetch it again" in refusal(path) or "cut off" in refusal(path) or "no PyTorch file" in refusal(path)


@given(st.binary(max_size=200))
def test_the_scan_of_a_pickle_ends_or_refuses(data):
    try:
        scan_pickle(io.BytesIO(b"\x80\x02" + data))
    except BundleError:
        return


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "legacy"])
def test_an_honest_file_comes_through_with_its_facts(tmp_path, weights, options):
    path = tmp_path / "a.pth"
    weights["same"] = weights["a.weight"]
    content = {
        "network_weights": weights,
        "_best_ema": np.float64(0.5),
        "logging": {"mean_fg_dice": [np.float32(0.25)]},
    }
    torch.save(content, path, **options)
    found = read_checkpoint(path)
    assert {name: tensor.tolist() for name, tensor in found.weights.items()} == {
        name: tensor.tolist() for name, tensor in weights.items()
    }
    assert found.facts == {"entry": "network_weights", "_best_ema": 0.5, "last_mean_fg_dice": 0.25}


def test_a_file_without_weights_says_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "a.pth")
    with pytest.raises(BundleError, match="holds 'epoch', 'lr', but no state dict"):
        read_checkpoint(tmp_path / "a.pth")


def test_the_reading_process_has_bounds(tmp_path, weights):
    path = tmp_path / "a.pth"
    torch.save(weights, path)
    with pytest.raises(ResourceError, match="longer than 0 s"):
        read_checkpoint(path, longest_s=0.0)
    with pytest.raises(ResourceError, match="of memory, which its size does not explain"):
        read_checkpoint(path, memory_bytes=1000)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        read_checkpoint(path, cancel=token)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(BundleError, match="no ordinary file"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("version", ["2.6.0", "2.9.1+cu126", "1.13", "nonsense"])
def test_an_old_torch_is_told_to_be_upgraded(version):
    with pytest.raises(BundleError, match=r"CVE-2026-24747.*pip install --upgrade 'torch>=2\.10'"):
        require_safe_torch(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0"])
def test_a_safe_torch_is_let_through(version):
    require_safe_torch(version)


def test_a_target_is_looked_at_before_the_file(tmp_path, capsys):
    path = tmp_path / "a.pth"
    path.write_text("x")
    for arguments, message in [
        ([], "-o NAME.safetensors, or --add"),
        (["-o", "m.pth"], "must end in .safetensors"),
        (["-o", str(tmp_path / "none" / "m.safetensors")], "create it first"),
    ]:
        assert main(["models", "import", str(path), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_reading_process_that_dies_is_reported(tmp_path, weights, monkeypatch):
    """Its death is faked: it leaves nothing behind but its last line."""
    torch.save(weights, tmp_path / "a.pth")
    monkeypatch.setattr(reading, "_open_apart", lambda *_: "Segmentation fault")
    with pytest.raises(BundleError, match="ended with: Segmentation fault"):
        read_checkpoint(tmp_path / "a.pth")
