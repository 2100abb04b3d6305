"""A run folder imported by the library alone, against what `mambatrain export` makes of it."""

import json
import shutil

import pytest
import torch
from mambasegment_training.config import config_from_json
from mambasegment_training.export import export
from mambasegment_training.loop import fit

from MambaSegmentLib.bundle import read_bundle
from MambaSegmentLib.cli import main

from .conftest import TINY
from .test_export import CARD

SAME = (
    *("name", "description", "license", "architecture_name", "architecture_options", "channels", "segments"),
    *("preprocessing", "patch_size", "mirror_axes", "step", "ignore_label"),
)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("import") / "run"
    fit(prepared.folder, folder, config_from_json(TINY | {"card": CARD}), device="cpu")
    return folder


def test_a_run_becomes_the_model_that_export_makes(run, tmp_path, capsys):
    export(run, tmp_path / "exported.safetensors", device="cpu")
    output = tmp_path / "imported.safetensors"
    assert main(["models", "import", str(run), "-o", str(output), "--name", "boxes-t1", "--quiet"]) == 0
    assert "Dice was not measured" in capsys.readouterr().err
    imported, exported = read_bundle(output), read_bundle(tmp_path / "exported.safetensors")
    for name in SAME:
        assert getattr(imported.manifest, name) == getattr(exported.manifest, name), name
    (ours,), (theirs,) = imported.folds, exported.folds
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


ENC = {"features_per_stage": [4, 4], "kernel_sizes": 3, "strides": [1, 2], "spatial_dims": 2}
DAGGER = {"dims": [4, 8, 16, 32], "encoder_depths": [1, 1, 1, 1], "decoder_depths": [1, 1, 1], "d_state": 4}


PLANNED = {"spatial_dims": 2}  # stages of the plan


@pytest.mark.parametrize(
    ("name", "options", "patch"),
    [
        ("umamba_enc", ENC, (14, 10)),
        ("umamba_enc", PLANNED, (14, 10)),
        ("resenc_unet", {}, (12, 14, 10)),
        ("swin_umamba_d", DAGGER, (32, 32)),
    ],
)
def test_a_run_whose_patch_nobody_chose(name, options, patch, prepared, tmp_path):
    """It is the planned one of the network's dimensions, enlarged to its multiples."""
    short = {"epochs": 1, "steps_per_epoch": 1, "augment": {"mirror_axes": []}, "data": {"batch_size": 1}}
    config = config_from_json(TINY | short | {"network": {"name": name, "options": options}})
    fit(prepared.folder, tmp_path / "run", config, device="cpu")
    export(tmp_path / "run", tmp_path / "exported.safetensors", device="cpu")
    output = tmp_path / "imported.safetensors"
    assert main(["models", "import", str(tmp_path / "run"), "-o", str(output), "--quiet"]) == 0
    imported, exported = read_bundle(output).manifest, read_bundle(tmp_path / "exported.safetensors").manifest
    assert imported.patch_size == exported.patch_size == patch
    assert imported.architecture_options == exported.architecture_options


def test_a_run_whose_work_folder_is_elsewhere(run, prepared, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    record = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(record | {"work": str(tmp_path / "gone")}))
    output = tmp_path / "m.safetensors"
    assert main(["models", "import", str(moved), "-o", str(output), "--quiet"]) == 3
    assert "name it with --plans" in capsys.readouterr().err
    described = prepared.folder / "dataset.json"
    assert main(["models", "import", str(moved), "-o", str(output), "--quiet", "--plans", str(described)]) == 0
    (moved / "best.safetensors").unlink()
    assert main(["models", "import", str(moved), "-o", str(output), "--quiet"]) == 3
    assert "until its first validation" in capsys.readouterr().err
