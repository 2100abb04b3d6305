import json
import subprocess
import sys

import pytest

from MambaSegmentLib.bundle import Channel, write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.model_info import as_text, info_of_architecture, info_of_model, options_of
from MambaSegmentLib.models import ARCHITECTURES, build_model
from MambaSegmentLib.models.canonical import CANONICAL, canonical
from MambaSegmentLib.models.counts import count
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo

OPTIONS = {"spatial_dims": 2, "in_channels": 2, "num_classes": 3, "init_filters": 8}
METRICS = {
    "dice": {"mean": 0.81234567, "labels": [{"name": "Anterior", "mean": 0.7}, {"name": "Posterior", "mean": 0.9}]},
    "runs": 3,
}


@pytest.fixture
def a_model(tmp_path, a_manifest):
    """A small LightM-UNet with two folds and something to say under every heading."""
    manifest = a_manifest(
        name="small",
        architecture_name="lightm_unet",
        architecture_options=OPTIONS,
        channels=(Channel("T1", "MR"), Channel("T2")),
        segments=(SegmentInfo(1, "Anterior", (1.0, 0.0, 0.0)), SegmentInfo(5, "Posterior", (0.0, 1.0, 0.0))),
        preprocessing=PreprocessingSpec(
            (Normalization("ct", -100.0, 300.0, 50.0, 80.0), Normalization("zscore")),
            spacing_mm=(None, 0.5, 0.5),
            size=(None, 32, 48),
        ),
        patch_size=(16, 24),
        mirror_axes=(1,),
        measured={
            "cpu": [{"size": [1, 16, 24], "seconds": 0.25, "memory_bytes": 3_000_000, "hardware": "x86_64, 2 threads"}],
            "by somebody else": "slow",
        },
        training={"dataset": "Two phantoms", "metrics": METRICS, "recipe": {"seed": 7}},
        limitations="For research only.\nSeen on \x1b[2Jphantoms alone, " + "many words, " * 20,
    )
    folds = [build_model("lightm_unet", OPTIONS).state_dict() for _ in range(2)]
    write_bundle(tmp_path / "small.safetensors", manifest, folds)
    return tmp_path / "small.safetensors"


def test_json_has_the_description_and_the_counts_of_one_patch(a_model):
    info = info_of_model(a_model)
    counts = count(build_model("lightm_unet", OPTIONS), (1, 2, 16, 24))
    assert info["counts"] == counts.to_json()
    assert info["counts"]["input_shape"] == [1, 2, 16, 24]
    assert (info["folds"], info["file_bytes"], info["path"]) == (2, a_model.stat().st_size, str(a_model))
    assert info["training"]["recipe"] == {"seed": 7}
    assert json.loads(json.dumps(info)) == info


def test_text_is_for_a_person(a_model):
    text = as_text(info_of_model(a_model))
    parameters = sum(weight.numel() for weight in build_model("lightm_unet", OPTIONS).parameters())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "channels T1 (MR), T2" in lines
    assert "patch 16 x 24 voxels, every 0.5 of it" in lines
    assert "voxels as it is x 0.5 x 0.5 mm" in lines
    assert "size images are made as many x 32 x 48 voxels" in lines
    assert "license CC0-1.0" in lines
    assert "dice mean 0.8123" in lines
    assert "Anterior: mean 0.7" in lines
    assert "runs 3" in lines
    assert "5 Posterior" in lines
    assert any(line.startswith("weights 2 networks, averaged") for line in lines)
    assert f"({parameters})" in text
    assert "lower -100" in text
    assert any(line.startswith("cpu 1 x 16 x 24 voxels in 0.25 s with 3.00 MB") for line in lines)
    assert "by somebody else slow" in lines
    assert "seed" not in text  # the whole recipe is for programs


def test_text_fits_a_terminal_and_cannot_steer_it(a_model):
    text = as_text(info_of_model(a_model))
    longest = max((line for line in text.splitlines() if str(a_model) not in line), key=len)
    assert len(longest) <= 80, longest
    assert "\x1b" not in text


def test_without_counts_torch_is_not_imported(a_model, repository):
    script = (
        "import sys\nfrom MambaSegmentLib.cli import main\n"
        "assert main(sys.argv[1:]) == 0\nassert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", script, "models", "info", str(a_model), "--no-counts"]
    run = subprocess.run(command, cwd=repository, check=True, capture_output=True, encoding="utf-8")
    assert "none: not asked for" in run.stdout


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"architecture_name": "of-tomorrow"}, "unknown architecture"),
        ({"patch_size": (16, 20)}, "multiple of 8"),
        ({"channels": (Channel("T1"),), "preprocessing": PreprocessingSpec((Normalization("zscore"),))}, "(batch, 2)"),
    ],
)
def test_a_network_that_cannot_be_counted_is_told_about_all_the_same(changes, problem, tmp_path, a_manifest):
    facts = {
        "architecture_name": "lightm_unet",
        "architecture_options": OPTIONS,
        "channels": (Channel("T1"), Channel("T2")),
        "preprocessing": PreprocessingSpec((Normalization("zscore"),) * 2),
        "patch_size": (16, 24),
    }
    path = tmp_path / "odd.safetensors"
    write_bundle(path, a_manifest(**(facts | changes)), [build_model("lightm_unet", OPTIONS).state_dict()])
    info = info_of_model(path)
    assert info["counts"] is None
    assert problem in info["counts_problem"]
    assert "Posterior" in as_text(info)


def test_an_architecture_at_its_published_size_and_at_another():
    published = info_of_architecture("swin_umamba", {}, None)
    assert published["counts"]["parameters"] == 59_889_368
    assert published["architecture"]["options"]["encoder_depths"] == [2, 2, 9, 2]  # a default, told as well
    other = info_of_architecture("swin_umamba", {"in_channels": 3}, (64, 64))
    assert other["counts"]["input_shape"] == [1, 3, 64, 64]
    assert "swin_umamba (no weights)" in as_text(other)


def test_every_architecture_has_a_published_size():
    assert {network.architecture for network in CANONICAL} == set(ARCHITECTURES)
    assert canonical("lightm_unet").spatial == (128, 128, 128)
    with pytest.raises(ConfigError, match=r"unknown architecture 'unet'; known: .*swin_umamba_d"):
        canonical("unet")


def test_options_are_json_or_text():
    assert options_of(["in_channels=3", "mixer=spm", "blocks_down=[1, 2]", "a=b=c"]) == {
        "in_channels": 3,
        "mixer": "spm",
        "blocks_down": [1, 2],
        "a": "b=c",
    }
    for wrong in ("in_channels", "=3"):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            options_of([wrong])


def test_what_the_architecture_cannot_take_is_refused():
    with pytest.raises(ShapeError, match="multiple of 32"):
        info_of_architecture("mamba_unet", {}, (48, 64))
    with pytest.raises(ConfigError, match="in_channels is 'many'"):
        info_of_architecture("mamba_unet", {"in_channels": "many"}, None)
    with pytest.raises(ConfigError, match="mamba_unet"):
        info_of_architecture("mamba_unet", {"no_such_option": 1}, None)


def test_command_line(a_model, capsys):
    assert main(["models", "info", str(a_model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == info_of_model(a_model)
    arguments = ["models", "info", "--architecture", "lightm_unet", "--option", "init_filters=8"]
    assert main([*arguments, "--option", "spatial_dims=2", "--patch-size", "16", "16"]) == 0
    assert "16 x 16" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["hippocampus-t1", "--architecture", "mamba_unet"], ["hippocampus-t1", "--patch-size", "8", "8"]]
)
def test_command_line_refuses_what_does_not_go_together(arguments, capsys):
    assert main(["models", "info", *arguments]) == 2
    assert "--architecture" in capsys.readouterr().err
