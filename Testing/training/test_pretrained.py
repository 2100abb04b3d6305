"""ImageNet weights as a start: what is recorded, what is held still, and that a resumed run is the same to the bit."""

import json
import subprocess
import sys
import time

import pytest
import torch
from mambasegment_training.checkpoint import load_weights
from mambasegment_training.cli import main
from mambasegment_training.config import config_from_json
from mambasegment_training.export import export
from mambasegment_training.loop import fit, resume
from mambasegment_training.run_folder import BEST, LAST, PREVIOUS, read_run
from safetensors import safe_open

from MambaSegmentLib.bundle import verify_bundle
from MambaSegmentLib.errors import Cancelled, ConfigError
from MambaSegmentLib.models import build_model, encoder_to_freeze
from Testing.library.models.vmamba_file import NETWORKS, an_imagenet_file

from .test_loop import CancelAfter, same_runs

SETTINGS = {
    "epochs": 3,
    "steps_per_epoch": 2,
    "ema_decay": 0.9,
    "cpu_threads": 1,
    "network": {"name": "swin_umamba_d", "options": NETWORKS["swin_umamba_d"]},
    "data": {"batch_size": 1, "patch_size": [32, 32]},
    "optimizer": {"learning_rate": 5e-3, "weight_decay": 0.5},
    "validation": {"every_epochs": 2},
}
HELD_STEPS = 4  # two epochs


@pytest.fixture(scope="module")
def a_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("a folder with a 'quote'") / "vmamba.pth"
    torch.save({"model": an_imagenet_file(), "epoch": 292}, path)
    return path


def settings(file, **changes):
    return config_from_json(SETTINGS | {"pretrained": {"file": str(file), "freeze_epochs": 2}} | changes)


@pytest.fixture(scope="module")
def whole_run(prepared, a_file, tmp_path_factory):
    run = tmp_path_factory.mktemp("pretrained") / "run"
    fit(prepared.folder, run, settings(a_file), device="cpu")
    return run


def moments(run):
    """Names of the parameters that the optimiser of a checkpoint knows, and its steps of each."""
    config = read_run(run).config
    net = build_model(config.network.name, {"in_channels": 1, "num_classes": 3, **config.network.options})
    named = dict(net.named_parameters())  # the optimiser counts decayed ones first
    order = [n for n, p in named.items() if p.ndim > 1] + [n for n, p in named.items() if p.ndim <= 1]
    with safe_open(run / LAST, framework="pt") as file:
        entries = [key.split("/") for key in file.keys() if key.startswith("optimizer/")]  # noqa: SIM118
        steps = {
            order[int(i)]: file.get_tensor(f"optimizer/{i}/step").item() for _, i, what in entries if what == "step"
        }
    return steps, net


def unused_heads(net):
    """Those of the coarser levels, without deep supervision."""
    return {name for name, _ in net.named_parameters() if name.startswith("heads.") and not name.startswith("heads.3")}


def test_the_encoder_is_held_still_and_then_trains(prepared, a_file, tmp_path):
    """With a decay of a half: what is held must not decay either, and its moments begin when it does."""
    with pytest.raises(Cancelled):
        fit(prepared.folder, tmp_path / "run", settings(a_file), device="cpu", cancel=CancelAfter(HELD_STEPS - 1))
    weights, facts = load_weights(tmp_path / "run" / LAST)
    assert facts["step"] == HELD_STEPS
    record = json.loads((tmp_path / "run" / "pretrained.json").read_text(encoding="utf-8"))
    source = an_imagenet_file()
    steps, net = moments(tmp_path / "run")
    held = set(encoder_to_freeze(net))
    assert held == set(record["frozen"]) and len(held) > 50
    averaged, _ = load_weights(tmp_path / "run" / BEST)
    for name in held:
        assert torch.equal(weights[name], source[record["loaded"][name]])
        assert torch.equal(averaged[name], source[record["loaded"][name]])
    assert set(steps) == set(dict(net.named_parameters())) - held - unused_heads(net)
    assert set(steps.values()) == {HELD_STEPS}
    resume(tmp_path / "run", device="cpu")
    steps, _ = moments(tmp_path / "run")
    assert {steps[name] for name in held} == {2}  # the last epoch
    weights, _ = load_weights(tmp_path / "run" / LAST)
    assert not any(torch.equal(weights[name], source[record["loaded"][name]]) for name in held)


@pytest.mark.parametrize("looks", [0, 2, 3, 4])  # while held, before the boundary, at it, after it
def test_cancelled_and_resumed_gives_the_same_weights(whole_run, prepared, a_file, tmp_path, looks):
    with pytest.raises(Cancelled):
        fit(prepared.folder, tmp_path / "run", settings(a_file), device="cpu", cancel=CancelAfter(looks))
    resume(tmp_path / "run", device="cpu")
    assert same_runs(tmp_path / "run", whole_run)


def test_recomputed_activations_change_nothing(whole_run, prepared, a_file, tmp_path):
    """Where a block is held still, gradients pass through it to the embedding all the same."""
    fit(prepared.folder, tmp_path / "run", settings(a_file, activation_checkpointing=True), device="cpu")
    assert same_runs(tmp_path / "run", whole_run)


def test_sgd_has_no_momentum_of_what_is_held(prepared, a_file, tmp_path):
    optimizer = {"name": "sgd", "learning_rate": 1e-2, "momentum": 0.9}
    config = settings(a_file, epochs=1, optimizer=optimizer)
    fit(prepared.folder, tmp_path / "run", config, device="cpu")
    with safe_open(tmp_path / "run" / LAST, framework="pt") as file:
        buffers = [key for key in file.keys() if key.endswith("momentum_buffer")]  # noqa: SIM118
    net = build_model("swin_umamba_d", {"in_channels": 1, "num_classes": 3, **NETWORKS["swin_umamba_d"]})
    assert len(buffers) == len(list(net.parameters())) - len(encoder_to_freeze(net)) - len(unused_heads(net))


def test_what_a_run_records(whole_run, a_file, capsys):
    record = json.loads((whole_run / "pretrained.json").read_text(encoding="utf-8"))
    assert record["file"] == str(a_file.resolve())
    assert len(record["sha256"]) == 64
    assert record["freeze_epochs"] == 2
    assert record["loaded"]["encoder.stages.0.0.norm.bias"] == "layers.0.blocks.0.ln_1.bias"
    assert "heads.0.bias" in record["afresh"]
    assert {"head.weight", "patch_embed.proj.weight"} <= set(record["not_used"])  # one channel: its own embedding
    assert 0 < record["parameters_loaded"] < record["parameters_total"]


def test_a_run_under_way_needs_the_file_no_more_and_one_that_did_not_begin_needs_the_same(whole_run, a_file, tmp_path):
    begun, not_begun = tmp_path / "begun", tmp_path / "not begun"
    copy = tmp_path / "copy.pth"
    copy.write_bytes(a_file.read_bytes())
    for run in (begun, not_begun):
        run.mkdir()
        content = json.loads((whole_run / "config.json").read_text(encoding="utf-8"))
        content["config"]["pretrained"]["file"] = str(copy)
        (run / "config.json").write_text(json.dumps(content), encoding="utf-8")
        (run / "pretrained.json").write_bytes((whole_run / "pretrained.json").read_bytes())
    resume(not_begun, device="cpu")
    assert same_runs(not_begun, whole_run)
    for name in (LAST, PREVIOUS):
        (not_begun / name).unlink()
    other = an_imagenet_file()
    other["norm.bias"] += 1  # not even used
    torch.save(other, copy)
    with pytest.raises(ConfigError, match="is not the file that the run was started with"):
        resume(not_begun, device="cpu")
    copy.unlink()
    (begun / LAST).write_bytes((whole_run / LAST).read_bytes())
    resume(begun, epochs=4, device="cpu")


def test_the_authors_freeze_where_nothing_is_said(prepared, a_file, tmp_path):
    for name, epochs in (("swin_umamba", 10), ("mamba_unet", 0)):
        network = {"name": name, "options": NETWORKS[name]}
        config = settings(a_file, epochs=1, network=network, pretrained={"file": str(a_file), "encoder_only": True})
        fit(prepared.folder, tmp_path / name, config, device="cpu")
        record = json.loads((tmp_path / name / "pretrained.json").read_text(encoding="utf-8"))
        assert (record["freeze_epochs"], bool(record["frozen"])) == (epochs, epochs > 0)
        assert all(key.startswith("encoder.") for key in record["loaded"])


def test_the_model_file_tells_the_checksum_and_no_path(whole_run, tmp_path):
    export(whole_run, tmp_path / "boxes.safetensors", device="cpu")
    manifest = verify_bundle(tmp_path / "boxes.safetensors")
    recorded = json.loads((whole_run / "pretrained.json").read_text(encoding="utf-8"))
    told = manifest.training["recipe"]["pretrained"]
    assert told["sha256"] == recorded["sha256"]
    assert told["freeze_epochs"] == 2
    assert "vmamba.pth" not in json.dumps(manifest.to_json())
    assert manifest.patch_size == (32, 32)


COMMAND = [
    "--device=cpu",
    "--set=network.name=swin_umamba_d",
    f"--set=network.options={{ dims = {NETWORKS['swin_umamba_d']['dims']}, encoder_depths = [1, 1, 2, 1] }}",
    "--set=data.batch_size=1",
    "--set=data.patch_size=[32, 32]",
    "--set=cpu_threads=1",
    "--set=optimizer.learning_rate=5e-3",
    "--set=optimizer.weight_decay=0.5",
]


def test_from_the_shell(prepared, a_file, tmp_path, capsys):
    arguments = ["fit", str(prepared.folder), "-o", str(tmp_path / "run"), *COMMAND, "--set", "steps_per_epoch=1"]
    assert main([*arguments, "--epochs", "1", "--pretrained", str(a_file)]) == 0
    error = capsys.readouterr().err
    assert "vmamba.pth: " in error
    assert "pretrained; " in error
    assert "of them held still for 10 epochs" in error


@pytest.mark.parametrize(
    ("content", "settings", "code", "message"),
    [
        (
            {"model": dict.fromkeys(("patch_embed.0.weight", "layers.0.blocks.0.op.A_logs"), torch.zeros(1))},
            [],
            3,
            "of a newer VMamba release",
        ),
        ({"network_weights": {"vssm_encoder.x": torch.zeros(1)}}, [], 3, "weights of a segmentation network"),
        ({"conv1.weight": torch.zeros(1)}, [], 3, "not a VMamba-Tiny file"),
        (None, [], 3, "there is no file"),
        ("file", ["network.name=lightm_unet", "network.options={}", "data.patch_size=none"], 2, "no VMamba encoder"),
        ("file", ["network.options.dims=[8, 16, 32, 64]"], 3, "of another shape: layers.0.blocks.0.ln_1.weight (4,)"),
        ("file", ["pretrained.freeze_epochs=-2"], 2, "pretrained.freeze_epochs is -2"),
    ],
)
def test_a_wrong_file_gives_one_line_and_leaves_no_run(
    prepared, a_file, tmp_path, capsys, content, settings, code, message
):
    path = a_file if content == "file" else tmp_path / "w.pth"
    if isinstance(content, dict):
        torch.save(content, path)
    sets = [word for text in settings for word in ("--set", text)]
    arguments = ["fit", str(prepared.folder), "-o", str(tmp_path / "r"), *COMMAND, *sets, "--pretrained", str(path)]
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("mambatrain: ")
    assert message in error
    assert not (tmp_path / "r").exists()


def test_settings_without_a_file_are_refused(prepared, tmp_path):
    with pytest.raises(ConfigError, match=r"need pretrained\.file"):
        fit(prepared.folder, tmp_path / "r", settings("x", pretrained={"freeze_epochs": 3}), device="cpu")


@pytest.mark.slow
def test_killed_while_held_and_resumed_past_the_boundary(prepared, a_file, tmp_path):
    """A real process dies in one of the first epochs of the five that hold the encoder; seven are trained."""
    more = ["--set", "steps_per_epoch=3", "--set", "pretrained.freeze_epochs=5", "--epochs", "7"]
    command = [*COMMAND, *more, "--pretrained", str(a_file)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mambasegment_training",
            "fit",
            str(prepared.folder),
            "-o",
            str(tmp_path / "r"),
            *command,
        ],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / LAST).exists():
        assert process.poll() is None, "the process ended before it was killed"
        assert time.monotonic() < deadline, "the first epoch takes over two minutes"
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert 0 < load_weights(tmp_path / "r" / LAST)[1]["step"] < 15
    resume(tmp_path / "r", device="cpu")
    fit(prepared.folder, tmp_path / "undisturbed", read_run(tmp_path / "r").config, device="cpu")
    for name in (LAST, BEST):
        (weights, _), (expected, _) = (load_weights(tmp_path / run / name) for run in ("r", "undisturbed"))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in weights.items())
