"""Real processes under torchrun: two of them learn as one with the double batch does, and end together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from mambasegment_training.checkpoint import load_weights
from mambasegment_training.config import config_from_json
from mambasegment_training.journal import read_records
from mambasegment_training.loop import fit, resume
from mambasegment_training.prepare import open_work
from mambasegment_training.ranks import ALONE, Ranks, joined
from mambasegment_training.run_folder import BEST, LAST
from mambasegment_training.run_parts import build_parts
from mambasegment_training.tensor_file import read_tensors

from .conftest import TINY

# Adam divides by gradients, and so enlarges rounding
GENTLE = {"name": "sgd", "learning_rate": 1e-3, "momentum": 0.9}

SETTINGS = TINY | {"optimizer": GENTLE, "steps_per_epoch": 2, "epochs": 3}
RECIPE = """
epochs = 3
steps_per_epoch = 2
ema_decay = 0.9
cpu_threads = 1
network.options = { spatial_dims = 3, init_filters = 8, blocks_down = [1, 1], blocks_up = [1] }
data.batch_size = 1
augment.mirror_axes = [2]
optimizer = { name = "sgd", learning_rate = 1e-3, momentum = 0.9 }
validation.every_epochs = 2
"""


def start(prepared, folder, *more: str, name: str = "run") -> subprocess.Popen:
    """`mambatrain fit` in two processes; a run that is resumed has its recipe already."""
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "mambasegment_training", "fit", str(prepared.folder), "-o", str(folder / name), "--device", "cpu"]
    settings = [] if "--resume" in more else ["--config", str(recipe)]
    return subprocess.Popen([*torchrun, *command, *settings, *more], stderr=subprocess.PIPE, encoding="utf-8")


def losses(run) -> list[float]:
    return [entry["loss"] for entry in read_records(run / "metrics.jsonl")]


def steps_in_float64(prepared, ranks: Ranks, data: dict, **optimizer) -> list[float]:
    """Losses of the first steps, where rounding cannot be mistaken for another gradient."""
    config = config_from_json(SETTINGS | {"ema_decay": None, "data": data, "optimizer": GENTLE | optimizer})
    parts = build_parts(prepared, config, "cpu", ranks)
    parts.state.network.double()
    found = []
    for step in range(4):
        images, labels = parts.sampler.batch(step)
        before = parts.state.loss_sum
        parts.stepper.take((images.double(), labels), 1e-2, say=print)
        found.append(parts.state.loss_sum - before)
    return found


def main() -> None:
    """One of the processes of the test below."""
    torch.set_num_threads(1)
    threads = psutil.Process().num_threads()
    with joined() as ranks:
        for sharded in (False, True):
            found = steps_in_float64(open_work(Path(sys.argv[1])), ranks, {"batch_size": 1}, shard=sharded)
            if ranks.first:
                (Path(sys.argv[2]) / f"{sharded}.json").write_text(json.dumps(found), encoding="utf-8")
    left = psutil.Process().num_threads() - threads
    (Path(sys.argv[2]) / f"threads_left_{ranks.rank}.json").write_text(json.dumps(left), encoding="utf-8")


def test_two_processes_take_the_steps_of_one_with_the_double_batch(prepared, tmp_path):
    """Sharing the optimiser's moments among them or not, and in one process by halves as well: to 9 digits."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "Testing.training.test_ranks", str(prepared.folder), str(tmp_path)]
    repository = Path(__file__).parents[2]
    done = subprocess.run([*torchrun, *command], cwd=repository, stderr=subprocess.PIPE, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):  # one that is left when Python ends may abort the process
        assert json.loads((tmp_path / f"threads_left_{rank}.json").read_text(encoding="utf-8")) == 0
    expected = steps_in_float64(prepared, ALONE, {"batch_size": 2})
    assert max(expected) - min(expected) > 1e-2  # something was learnt
    halves = steps_in_float64(prepared, ALONE, {"batch_size": 1, "accumulate": 2})
    assert halves == pytest.approx(expected, rel=1e-9)
    for sharded in (False, True):
        found = json.loads((tmp_path / f"{sharded}.json").read_text(encoding="utf-8"))
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_a_run_of_two_processes_has_the_curve_of_one_with_the_double_batch(prepared, tmp_path):
    """Through the command, in single precision, whose rounding grows with every step of this unstable start."""
    one = tmp_path / "one"
    fit(prepared.folder, one, config_from_json(SETTINGS | {"data": {"batch_size": 2}}), device="cpu")
    process = start(prepared, tmp_path, "--set", "optimizer.shard=true")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    assert errors.count("epoch 3: loss") == 1  # one of them talks
    assert losses(tmp_path / "run") == pytest.approx(losses(one), rel=5e-3)
    (_, facts), (_, expected) = (load_weights(run / BEST) for run in (tmp_path / "run", one))
    assert facts["scores"].keys() == expected["scores"].keys()
    assert facts["mean_dice"] == pytest.approx(expected["mean_dice"], abs=0.01)
    assert resume(tmp_path / "run", epochs=4, device="cpu").epochs == 4  # one goes on from what two have written
    assert load_weights(tmp_path / "run" / LAST)[1]["step"] == 8


@pytest.mark.slow
def test_a_run_that_shares_its_moments_resumes_to_the_very_same_weights(prepared, tmp_path):
    """Adam's steps depend on both moments, so that one that was lost or given to another weight would be seen."""
    settings = ["--set", "optimizer.name=adam", "--set", "optimizer.shard=true", "--set", "schedule.name=constant"]
    for name, more in (
        ("whole", ["--epochs", "4", *settings]),
        ("parts", ["--epochs", "2", *settings]),
        ("parts", ["--epochs", "4", "--resume"]),
    ):
        process = start(prepared, tmp_path, *more, name=name)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    (whole, facts), (parts, resumed) = (read_tensors(tmp_path / name / LAST) for name in ("whole", "parts"))
    assert facts["step"] == resumed["step"] == 8
    assert whole.keys() == parts.keys()
    assert sum(name.endswith("exp_avg_sq") for name in whole) > 10  # of the other process as well
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking; its twin is Ctrl-Break")
def test_asking_one_of_them_ends_both_at_the_same_step(prepared, tmp_path):
    process = start(prepared, tmp_path, "--epochs", "200")
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "run" / LAST).exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the first epoch takes over four minutes"
            time.sleep(0.01)
        ranks = psutil.Process(process.pid).children()
        (second,) = [child for child in ranks if child.environ().get("RANK") == "1"]
        second.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=120)[1]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, errors
    assert "stopped after step" in errors
    assert 0 < load_weights(tmp_path / "run" / LAST)[1]["step"] < 400


if __name__ == "__main__":
    main()
