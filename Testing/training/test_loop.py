"""The loop: what a run leaves behind, and that an interrupted one ends with the very same weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mambasegment_training.checkpoint import load_weights
from mambasegment_training.config import OptimizerConfig, config_from_json
from mambasegment_training.journal import read_records
from mambasegment_training.loop import FitResult, fit, resume
from mambasegment_training.network import build_network
from mambasegment_training.optimizer import build_optimizer
from mambasegment_training.run_folder import BEST, DAMAGED, LAST, PREVIOUS, read_run
from mambasegment_training.run_parts import split_of
from torch import nn

from MambaSegmentLib.errors import Cancelled, ConfigError, MambaSegmentError, ResourceError
from MambaSegmentLib.progress import CancelToken

from .conftest import TINY


class CancelAfter(CancelToken):
    """Set after the loop has looked at it `looks` times, that is, after as many steps."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def cancelled(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def same_files(one: Path, other: Path) -> bool:
    """Tensors equal to the bit; the numbers too, but for the time."""
    (weights, facts), (other_weights, other_facts) = load_weights(one), load_weights(other)
    facts.pop("elapsed_s", None), other_facts.pop("elapsed_s", None)
    return facts == other_facts and all(torch.equal(weights[name], other_weights[name]) for name in weights)


def same_runs(one: Path, other: Path) -> bool:
    return same_files(one / LAST, other / LAST) and same_files(one / BEST, other / BEST)


@pytest.fixture(scope="module")
def whole_run(prepared, tmp_path_factory) -> Path:
    """A run of 3 epochs of 3 steps that nothing disturbed; read-only for tests."""
    run = tmp_path_factory.mktemp("whole") / "run"
    fit(prepared.folder, run, config_from_json(TINY), device="cpu")
    return run


def test_what_a_run_leaves_behind(whole_run, prepared, tiny_config):
    record = read_run(whole_run)
    assert (record.work, record.config) == (prepared.folder.resolve(), tiny_config())
    assert len(record.date) == 10
    assert record.software["torch"] == torch.__version__
    records = read_records(whole_run / "metrics.jsonl")
    assert [(entry["epoch"], entry["step"], "dice" in entry) for entry in records] == [
        (1, 3, False),
        (2, 6, True),  # every second epoch
        (3, 9, True),  # and the last one
    ]
    assert set(records[1]["dice"]) == {"label 1", "label 2", "mean"}
    assert list((whole_run / "tensorboard").glob("events*"))
    _, facts = load_weights(whole_run / BEST)
    assert facts["epoch"] in (2, 3)
    assert facts["mean_dice"] == max(entry["dice"]["mean"] for entry in records[1:])
    assert set(facts["scores"]) == set(prepared.split.validation)


@pytest.mark.parametrize("looks", [0, 1, 2, 4])  # within an epoch and at its end
def test_cancelled_and_resumed_gives_the_same_weights(whole_run, prepared, tiny_config, tmp_path, looks):
    with pytest.raises(Cancelled, match="--resume goes on from there"):
        fit(prepared.folder, tmp_path / "run", tiny_config(), device="cpu", cancel=CancelAfter(looks))
    assert load_weights(tmp_path / "run" / LAST)[1]["step"] < 9
    result = resume(tmp_path / "run", device="cpu")
    assert (result.epochs, result.best_dice) == (3, load_weights(whole_run / BEST)[1]["mean_dice"])
    assert same_runs(tmp_path / "run", whole_run)
    losses = [[entry["loss"] for entry in read_records(run / "metrics.jsonl")] for run in (tmp_path / "run", whole_run)]
    assert losses[0] == losses[1]


def test_recomputed_activations_change_nothing(whole_run, prepared, tiny_config, tmp_path):
    fit(prepared.folder, tmp_path / "run", tiny_config(activation_checkpointing=True), device="cpu")
    assert same_runs(tmp_path / "run", whole_run)


def test_a_run_killed_before_its_first_checkpoint_starts_over(whole_run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((whole_run / "config.json").read_bytes())
    resume(tmp_path / "run", device="cpu")
    assert same_runs(tmp_path / "run", whole_run)


def test_a_finished_run_has_nothing_left_to_do(whole_run):
    before = (whole_run / LAST).read_bytes()
    result = resume(whole_run, device="cpu")
    assert isinstance(result, FitResult)
    assert result.epochs == 3
    assert (whole_run / LAST).read_bytes() == before


def test_a_new_end(prepared, tiny_config, tmp_path):
    fit(prepared.folder, tmp_path / "run", tiny_config(epochs=1), device="cpu")
    assert resume(tmp_path / "run", epochs=2, device="cpu").epochs == 2
    record = read_run(tmp_path / "run")
    assert record.config.epochs == 2
    assert record.date is not None  # kept when the file was written anew


def test_a_time_budget_ends_with_a_validation(prepared, tiny_config, tmp_path):
    config = tiny_config(steps_per_epoch=2, validation={"every_epochs": 1000})
    result = fit(prepared.folder, tmp_path / "run", config, device="cpu", time_budget_s=1.0)
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    assert "dice" in records[-1]
    assert result.best_dice == records[-1]["dice"]["mean"]


def test_an_old_run_without_a_date_is_read(whole_run, tmp_path):
    content = json.loads((whole_run / "config.json").read_text(encoding="utf-8"))
    del content["date"], content["software"]
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    assert (read_run(tmp_path).date, dict(read_run(tmp_path).software)) == (None, {})


def test_a_damaged_state_falls_back_to_the_one_before(whole_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    content = bytearray((run / LAST).read_bytes())
    content[-100] ^= 1  # one bit of one weight: the file opens, only the checksum tells
    (run / LAST).write_bytes(bytes(content))
    resume(run, device="cpu")
    assert "its checksum is not that of its content; going on from the state before it" in capsys.readouterr().err
    assert same_runs(run, whole_run)
    assert (run / DAMAGED).read_bytes() == bytes(content)
    (run / LAST).unlink()  # killed between two renames
    resume(run, device="cpu")
    assert same_runs(run, whole_run)
    for path in (run / LAST, run / PREVIOUS):
        path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="both states of the run are lost"):
        resume(run, device="cpu")


def test_lost_best_weights_are_written_anew(prepared, tiny_config, tmp_path, capsys):
    run = tmp_path / "run"
    fit(prepared.folder, run, tiny_config(epochs=1), device="cpu")
    (run / BEST).write_bytes(b"nothing")
    resume(run, epochs=2, device="cpu")
    assert "the next validation writes the best weights anew" in capsys.readouterr().err
    assert load_weights(run / BEST)[1]["epoch"] == 2


def test_stopped_within_a_validation_and_resumed(whole_run, prepared, tiny_config, tmp_path, monkeypatch):
    """The epoch stays open: resuming validates, and then goes on, to the very same files."""
    cancel = CancelToken()

    def stop(*_, **__):
        cancel.cancel()
        cancel.raise_if_cancelled()

    with monkeypatch.context() as patch:
        patch.setattr("mambasegment_training.run_parts.validate", stop)
        with pytest.raises(Cancelled, match="stopped after step 6"):
            fit(prepared.folder, tmp_path / "run", tiny_config(), device="cpu", cancel=cancel)
    assert [entry["epoch"] for entry in read_records(tmp_path / "run" / "metrics.jsonl")] == [1]
    resume(tmp_path / "run", device="cpu")
    assert same_runs(tmp_path / "run", whole_run)
    records = [read_records(run / "metrics.jsonl") for run in (tmp_path / "run", whole_run)]
    for entry in records[0] + records[1]:
        del entry["elapsed_s"]
    assert records[0] == records[1]


def test_early_stop(prepared, tiny_config, tmp_path, capsys):
    """With a learning rate that changes nothing the first validation stays the best, and two more end the run."""
    config = tiny_config(
        epochs=9, optimizer={"learning_rate": 1e-30}, validation={"every_epochs": 1, "patience": 2}, ema_decay=None
    )
    result = fit(prepared.folder, tmp_path / "run", config, device="cpu")
    assert (result.epochs, result.best_epoch) == (3, 1)
    assert "no better validation in 2: the training ends here" in capsys.readouterr().err
    assert resume(tmp_path / "run", device="cpu").epochs == 3


def test_steps_that_are_no_number_are_left_out_and_float32_follows(
    prepared, tiny_config, tmp_path, capsys, monkeypatch
):
    """A loss that is NaN in bfloat16 alone, as the field reports of half precision with Mamba layers."""
    from mambasegment_training.losses import CompoundLoss

    evaluate = CompoundLoss.forward

    def breaks(self, logits, labels):
        return evaluate(self, logits, labels) * (torch.nan if logits.dtype == torch.bfloat16 else 1.0)

    monkeypatch.setattr(CompoundLoss, "forward", breaks)
    config = tiny_config(precision="bfloat16", optimizer={"bad_steps": 2}, epochs=2)
    fit(prepared.folder, tmp_path / "run", config, device="cpu")
    said = capsys.readouterr().err
    assert "step 1: the loss became nan; the step is left out (1 in a row)" in said
    assert "2 steps in a row were left out; going on in float32 instead of bfloat16" in said
    facts = load_weights(tmp_path / "run" / LAST)[1]
    assert (facts["step"], facts["left_out"], facts["float32_from"]) == (6, 2, 2)
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    assert (records[0]["steps_left_out"], records[0]["loss"] > 0) == (2, True)


def test_folds(prepared, tiny_config, tmp_path):
    every = {*prepared.split.train, *prepared.split.validation}
    assert set(split_of(prepared, "all").train) == every
    assert split_of(prepared, 1) == prepared.folds[1]
    assert prepared.folds[1].validation != prepared.split.validation
    with pytest.raises(ConfigError, match=f"fold 9 does not exist: .* has the folds 0 to {len(prepared.folds) - 1}"):
        fit(prepared.folder, tmp_path / "run", tiny_config(fold=9), device="cpu")
    fit(prepared.folder, tmp_path / "run", tiny_config(fold=1, epochs=1), device="cpu")
    assert set(load_weights(tmp_path / "run" / BEST)[1]["scores"]) == set(prepared.folds[1].validation)


def test_what_is_told_of_a_run(whole_run):
    told = json.loads((whole_run / "run.json").read_text(encoding="utf-8"))
    assert told["config"]["seed"] == told["seeds"]["training"] == config_from_json(TINY).seed
    assert told["hardware"]["device"] == "cpu"
    assert told["hardware"]["cores"] >= 1
    assert len(told["git"]["commit"]) == 40
    status = (whole_run / "status.txt").read_text(encoding="utf-8")
    assert status.count("\n") == 1
    assert " finished, epoch 3/3 loss " in status
    assert (whole_run / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_with_a_run_is_not_overwritten(whole_run, prepared, tiny_config):
    with pytest.raises(ConfigError, match="already holds a run; go on with --resume"):
        fit(prepared.folder, whole_run, tiny_config(), device="cpu")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"network": {"name": "unknown_net"}}, ConfigError, "unknown architecture"),
        ({"network": {"name": "lightm_unet", "options": {"width": 3}}}, ConfigError, "width"),
        ({"network": {"options": {"num_classes": 7}}}, ConfigError, "num_classes is 7, but the data has 3"),
        ({"network": {"options": {"activation_checkpointing": True}}}, ConfigError, "is of the training, not of the"),
        ({"loss": {"name": "mse"}}, ConfigError, "mse"),
        ({"card": {"nmae": "x"}}, ConfigError, "unknown setting card.nmae"),
        ({"card": {"labels": [{"value": 3}]}}, ConfigError, "names the value 3; the data has 1, 2"),
    ],
)
def test_settings_that_do_not_fit_leave_no_folder(prepared, tiny_config, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        fit(prepared.folder, tmp_path / "run", tiny_config(**changes), device="cpu")
    assert not (tmp_path / "run").exists()


def test_devices(prepared, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="'tpu' is not known"):
        fit(prepared.folder, tmp_path / "run", tiny_config(), device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="'cuda' is not there"):
            fit(prepared.folder, tmp_path / "run", tiny_config(), device="cuda")


def test_a_loss_that_is_no_number_ends_the_run(prepared, tiny_config, tmp_path):
    config = tiny_config(optimizer={"learning_rate": 1e30, "gradient_clip": None}, epochs=9)
    with pytest.raises(
        MambaSegmentError, match=r"the loss became nan at step 6, the 5th in a row; lower optimizer\.learning_rate"
    ):
        fit(prepared.folder, tmp_path / "run", config, device="cpu")


def test_the_same_seed_builds_the_same_network(prepared, tiny_config):
    def weights(**changes):
        return build_network(prepared, tiny_config(**changes)).state_dict()

    torch.manual_seed(1)
    first = weights()
    torch.manual_seed(2)
    assert all(torch.equal(first[name], tensor) for name, tensor in weights().items())
    assert not all(torch.equal(first[name], tensor) for name, tensor in weights(seed=1).items())


def test_only_matrices_and_kernels_decay():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.A_log = nn.Parameter(torch.zeros(4, 2))

    network = Net()
    decayed, kept = build_optimizer(OptimizerConfig(weight_decay=0.3), network).param_groups
    assert decayed["weight_decay"] == 0.3
    assert [id(p) for p in decayed["params"]] == [id(network.layer.weight)]
    assert kept["weight_decay"] == 0.0
    assert {id(p) for p in kept["params"]} == {id(network.layer.bias), id(network.A_log)}


def test_sgd_has_nesterov_momentum():
    group = build_optimizer(OptimizerConfig(name="sgd", momentum=0.8), nn.Linear(2, 2)).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.8, True)


def test_regions_are_trained_and_scored(prepared, tiny_config, tmp_path):
    """Of a data set whose outputs overlap; deep supervision and validation in one go."""
    work = tmp_path / "work"
    shutil.copytree(prepared.folder, work)
    content = json.loads((work / "dataset.json").read_text(encoding="utf-8"))
    regions = [{"name": "both", "labels": [1, 2], "value": 1}, {"name": "white box", "labels": [2], "value": 2}]
    (work / "dataset.json").write_text(json.dumps(content | {"regions": regions}), encoding="utf-8")
    unet = {"spatial_dims": 3, "features_per_stage": [8, 8, 8], "kernel_sizes": 3, "strides": [1, 2, 2]}
    config = tiny_config(
        network={"name": "resenc_unet", "options": unet},
        data={"batch_size": 1, "patch_size": [16, 16, 12]},
        loss={"deep_supervision": True},
        optimizer={"learning_rate": 1e-2},
        epochs=4,
        steps_per_epoch=8,
    )
    fit(work, tmp_path / "run", config, device="cpu")
    records = read_records(tmp_path / "run" / "metrics.jsonl")
    assert set(records[-1]["dice"]) == {"both", "white box", "mean"}
    assert records[-1]["dice"]["both"] > 0.5  # bright boxes on a dark ground are soon found
