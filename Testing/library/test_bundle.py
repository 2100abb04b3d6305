import hashlib
import json
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from MambaSegmentLib.bundle import METADATA_KEY, read_bundle, read_manifest, verify_bundle, write_bundle
from MambaSegmentLib.errors import BundleError, ConfigError


@pytest.fixture
def a_file(tmp_path, a_tiny_bundle):
    """A written model with two folds."""
    bundle = a_tiny_bundle(weights=(1.0, 2.0))
    path = tmp_path / "tiny.safetensors"
    write_bundle(path, bundle.manifest, bundle.folds)
    return path


def metadata_of(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY])


def rewritten(path, change):
    """The same tensors under a description that `change` was let loose on, checksum not renewed."""
    document = metadata_of(path)
    change(document)
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(document)})


def test_written_and_read_back(a_file, a_manifest):
    bundle = read_bundle(a_file)
    assert [fold["same_weight"].item() for fold in bundle.folds] == [1.0, 2.0]
    assert bundle.folds[0]["steps"].dtype == torch.int64
    assert read_manifest(a_file) == bundle.manifest == verify_bundle(a_file)
    assert bundle.manifest.to_json() == a_manifest().to_json()


def test_parameters_with_two_names_are_stored_once_and_shared_again(tmp_path, a_file):
    names = sorted(load_file(a_file))
    assert names == ["fold_0/same_weight", "fold_0/steps", "fold_1/same_weight", "fold_1/steps"]
    networks = read_bundle(a_file).build_networks()
    assert [network.weight.item() for network in networks] == [1.0, 2.0]
    assert networks[0].weight is networks[0].same_weight
    assert not networks[0].training


def test_the_checksum_is_what_the_docstring_says(tmp_path, a_manifest):
    path = tmp_path / "tiny.safetensors"
    weights = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[3]], dtype=torch.uint8)}
    write_bundle(path, a_manifest(description="ü"), [weights])
    document = metadata_of(path)
    stored = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    tensors = b'["fold_0/a","U8",[1,1]]\x03["fold_0/b","F32",[2]]' + struct.pack("<2f", 1, 2)
    assert stored == hashlib.sha256(text + tensors).hexdigest()


def test_writing_twice_gives_the_same_bytes(tmp_path, a_file, a_tiny_bundle):
    bundle = a_tiny_bundle(weights=(1.0, 2.0))
    write_bundle(tmp_path / "again.safetensors", bundle.manifest, bundle.folds)
    assert (tmp_path / "again.safetensors").read_bytes() == a_file.read_bytes()


def test_half_storage_comes_back_as_float32_and_keeps_what_does_not_fit(tmp_path, a_manifest):
    path = tmp_path / "half.safetensors"
    weights = {"small": torch.tensor([0.5, 1 / 3]), "large": torch.tensor([1e6]), "count": torch.tensor(3)}
    write_bundle(path, a_manifest(), [weights], half=True)
    assert load_file(path)["fold_0/small"].dtype == torch.float16
    fold = read_bundle(path).folds[0]
    assert fold["small"].dtype == torch.float32
    torch.testing.assert_close(fold["small"], weights["small"], rtol=1e-3, atol=0)
    assert fold["large"].item() == 1e6
    assert fold["count"].item() == 3


def test_views_of_one_storage_are_stored_as_what_they_show(tmp_path, a_manifest):
    both = torch.arange(6.0).reshape(2, 3)
    weights = {"row": both[1], "column": both[:, 1], "all": both}
    write_bundle(tmp_path / "m.safetensors", a_manifest(), [weights])
    fold = read_bundle(tmp_path / "m.safetensors").folds[0]
    assert {name: tensor.tolist() for name, tensor in fold.items()} == {
        name: tensor.tolist() for name, tensor in weights.items()
    }


def test_unknown_keys_survive_reading_and_writing(tmp_path, a_file):
    rewritten(a_file, lambda document: document["preprocessing"].update(denoise="a lot"))
    manifest = read_manifest(a_file)
    write_bundle(tmp_path / "copy.safetensors", manifest, [load_file(a_file)])
    assert metadata_of(tmp_path / "copy.safetensors")["preprocessing"]["denoise"] == "a lot"


def test_one_changed_bit_is_noticed(a_file):
    data = bytearray(a_file.read_bytes())
    data[-1] ^= 1
    a_file.write_bytes(data)
    with pytest.raises(BundleError, match="checksum"):
        read_bundle(a_file)


def test_a_changed_description_is_noticed(a_file):
    rewritten(a_file, lambda document: document.update(intended_use="everything"))
    with pytest.raises(BundleError, match="checksum"):
        verify_bundle(a_file)


@pytest.mark.parametrize("change", [lambda d: d.pop("sha256"), lambda d: d.update(measured=float("nan"))])
def test_a_description_without_a_checksum_or_with_no_numbers_is_refused(a_file, change):
    rewritten(a_file, change)
    with pytest.raises(BundleError):
        read_bundle(a_file)


def test_every_truncation_is_refused(a_file):
    whole = a_file.read_bytes()
    for length in [*range(0, 20), *range(20, len(whole), 97), len(whole) - 1]:
        a_file.write_bytes(whole[:length])
        with pytest.raises(BundleError):
            read_manifest(a_file)


def test_rubbish_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    for data in (
        b"hello, I am text",
        b"\xff" * 100,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 19) + b'{"__metadata__": 3 }',
    ):
        path.write_bytes(data)
        with pytest.raises(BundleError):
            read_manifest(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        7,
    ],
)
def test_impossible_tensor_entries_are_refused(tmp_path, entry):
    header = json.dumps({"fold_0/a": entry}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(BundleError, match="damaged"):
        read_manifest(path)


def test_foreign_files_are_told_where_to_go(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.ones(1)}, foreign)
    pickle = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {}}, pickle)
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(pickle.read_bytes())
    for path in (foreign, pickle, renamed, tmp_path):
        with pytest.raises(BundleError, match="models import"):
            read_bundle(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(BundleError, match="there is no model file"):
        read_bundle(tmp_path / "none.safetensors")


def test_folds_without_a_gap(tmp_path, a_file):
    tensors = {name.replace("fold_1", "fold_2"): tensor for name, tensor in load_file(a_file).items()}
    save_file(tensors, a_file, metadata={METADATA_KEY: json.dumps(metadata_of(a_file))})
    with pytest.raises(BundleError, match="without a gap"):
        read_bundle(a_file)


def test_an_unknown_architecture_and_weights_that_do_not_fit(tmp_path, tiny_architecture, a_manifest):
    path = tmp_path / "m.safetensors"
    write_bundle(path, a_manifest(architecture_name="huge"), [{"weight": torch.ones(1)}])
    with pytest.raises(BundleError, match="unknown architecture 'huge'"):
        read_bundle(path).build_networks()
    write_bundle(path, a_manifest(), [{"weight": torch.ones(7)}])
    with pytest.raises(BundleError, match="does not fit"):
        read_bundle(path).build_networks()


def test_what_cannot_be_written_leaves_nothing(tmp_path, a_manifest):
    weights = {"a": torch.tensor([float("nan")])}
    with pytest.raises(ConfigError, match="NaN"):
        write_bundle(tmp_path / "m.safetensors", a_manifest(), [weights])
    with pytest.raises(ConfigError, match="JSON"):
        write_bundle(tmp_path / "m.safetensors", a_manifest(training={"x": {1, 2}}), [{"a": torch.ones(1)}])
    with pytest.raises(BundleError, match="must end in"):
        write_bundle(tmp_path / "m.pth", a_manifest(), [{"a": torch.ones(1)}])
    with pytest.raises(BundleError, match="does not exist"):
        write_bundle(tmp_path / "none" / "m.safetensors", a_manifest(), [{"a": torch.ones(1)}])
    assert list(tmp_path.iterdir()) == []


def test_reading_the_description_needs_no_torch(a_file, repository):
    script = (
        "import sys; from pathlib import Path; from MambaSegmentLib.bundle import verify_bundle; "
        "verify_bundle(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(a_file)], cwd=repository, check=True)
