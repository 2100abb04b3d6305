"""A real process is killed or interrupted in the middle of a run; going on gives the very same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mambasegment_training.checkpoint import load_weights
from mambasegment_training.config import config_from_json
from mambasegment_training.journal import read_records
from mambasegment_training.loop import fit, resume
from mambasegment_training.run_folder import BEST, LAST, PREVIOUS

from MambaSegmentLib.errors import ConfigError

from .conftest import TINY

# long enough for another process to step in between the first epoch and the last
SETTINGS = TINY | {"epochs": 8, "steps_per_epoch": 4}
LAST_STEP = 32


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    fit(prepared.folder, run, config_from_json(SETTINGS), device="cpu")
    return run


@pytest.fixture
def a_process(prepared, tmp_path):
    """`mambatrain fit` in a process of its own, and its run folder."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        """
        epochs = 8
        steps_per_epoch = 4
        ema_decay = 0.9
        cpu_threads = 1
        network.options = { spatial_dims = 3, init_filters = 8, blocks_down = [1, 1], blocks_up = [1] }
        data.batch_size = 1
        augment.mirror_axes = [2]
        optimizer.learning_rate = 5e-3
        validation.every_epochs = 2
        """,
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mambasegment_training", "fit", str(prepared.folder), "-o", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, "--config", str(recipe), "--device", "cpu"], stderr=subprocess.PIPE, encoding="utf-8"
    )
    yield process, tmp_path / "run"
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_for_first_epoch(process: subprocess.Popen, run: Path) -> None:
    deadline = time.monotonic() + 120
    while not (run / LAST).exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the first epoch takes over two minutes"
        time.sleep(0.002)


def assert_same_weights(run: Path, expected: Path) -> None:
    for name in (LAST, BEST):
        (weights, _), (expected_weights, _) = load_weights(run / name), load_weights(expected / name)
        assert weights.keys() == expected_weights.keys()
        for key, tensor in weights.items():
            assert torch.equal(tensor, expected_weights[key]), key


def no_leftovers(run: Path) -> bool:
    told = {"config.json", "run.json", "run.lock", "metrics.jsonl", "tensorboard", "curve.png", "status.txt"}
    return {path.name for path in run.iterdir()} == {LAST, PREVIOUS, BEST, *told}


@pytest.mark.slow
def test_killed_without_warning(a_process, undisturbed):
    process, run = a_process
    wait_for_first_epoch(process, run)
    process.kill()
    process.wait()
    step = load_weights(run / LAST)[1]["step"]  # whole, whenever the process died
    assert 0 < step < LAST_STEP
    resume(run, device="cpu")
    assert_same_weights(run, undisturbed)
    assert [record["epoch"] for record in read_records(run / "metrics.jsonl")] == list(range(1, 9))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to all processes of a console alike")
def test_asked_to_stop(a_process, undisturbed):
    process, run = a_process
    wait_for_first_epoch(process, run)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopping after this step" in errors
    assert "--resume goes on from there" in errors
    assert load_weights(run / LAST)[1]["step"] < LAST_STEP
    resume(run, device="cpu")
    assert_same_weights(run, undisturbed)
    assert no_leftovers(run)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking; its twin is Ctrl-Break")
def test_a_cluster_wants_its_machine_back(a_process, undisturbed):
    """SIGTERM, even twice: the state is saved and the exit code is 0. Until then nobody else trains in the folder."""
    process, run = a_process
    wait_for_first_epoch(process, run)
    with pytest.raises(ConfigError, match=f"process {process.pid} on .* is training in"):
        resume(run, device="cpu")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "--resume goes on from there" in errors
    assert "stopped" in (run / "status.txt").read_text(encoding="utf-8")
    assert load_weights(run / LAST)[1]["step"] < LAST_STEP
    resume(run, device="cpu")
    assert_same_weights(run, undisturbed)
