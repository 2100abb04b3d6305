"""Queues: what they say, what is refused before the first training, and that one goes on where it was ended."""

from pathlib import Path

import pytest
from mambasegment_training.cli import main
from mambasegment_training.config import load_config
from mambasegment_training.network import network_options
from mambasegment_training.rivals import build
from mambasegment_training.run_folder import read_run
from mambasegment_training.study import queue_run
from mambasegment_training.study.queue_file import read_queue
from mambasegment_training.study.queue_run import is_finished, run_queue

from MambaSegmentLib.errors import ConfigError

TINY_QUEUE = """
description = "two tiny networks"
set = [
  "epochs=1", "steps_per_epoch=1", "cpu_threads=1", "data.batch_size=1",
  "network.options={spatial_dims=3, features_per_stage=[4, 8], kernel_sizes=3, strides=[1, 2]}",
]
[[runs]]
name = "plain"
set = ["network.name=resenc_unet"]
[[runs]]
name = "mamba"
set = ["network.name=umamba_bot"]
"""


@pytest.fixture
def a_queue(tmp_path):
    def make(text: str = TINY_QUEUE) -> Path:
        path = tmp_path / "queue.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="module")
def queues(repository) -> list[Path]:
    return sorted((repository / "training" / "queues").glob("*.toml"))


def test_every_committed_queue_names_settings_and_networks_that_exist(queues):
    assert {path.stem for path in queues} >= {"hippocampus", "cardiac", "losses", "lightm", "mambaclinix", "pretrained"}
    for path in queues:
        queue = read_queue(path)
        plain = [
            run for run in queue.runs if run.load().network.name == "resenc_unet" and run.load().loss.name == "dice_ce"
        ]
        assert plain, f"{path.name} has no plain control"


def test_networks_of_a_queue_can_be_built(queues, prepared):
    """Those with options of their own, on the stages that the queue itself gives or needs none."""
    import torch

    built = 0
    for path in queues:
        if path.stem not in ("lightm", "mambaclinix"):
            continue
        for run in read_queue(path).runs:
            config = run.load()
            if config.network.name != "resenc_unet":
                with torch.device("meta"):
                    build(config.network.name, network_options(prepared, config))
                built += 1
    assert built == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \[\[runs\]\]"),
        ("[[runs]]\nname = 'a'\n[[runs]]\nname = 'a'", "two runs are named 'a'"),
        ("[[runs]]\nname = '../a'", "names a folder"),
        ("[[runs]]\nname = 'a'\nepochs = 3", "unknown entry 'epochs'"),
        ("[[runs]]\nname = 'a'\nset = ['epoch=3']", "run 'a'.*epoch"),
        ("folds = 'some'\n[[runs]]\nname = 'a'", "folds"),
        ("set = [3]\n[[runs]]\nname = 'a'", "texts"),
        ("runs = 3", "wrong kind"),
    ],
)
def test_queues_that_make_no_sense_are_refused(a_queue, text, message):
    with pytest.raises(ConfigError, match=message):
        read_queue(a_queue(text))


def test_recipes_and_settings_count_in_order(a_queue, tmp_path):
    (tmp_path / "recipe.toml").write_text("epochs = 5\nseed = 1\n", encoding="utf-8")
    path = a_queue('config = "recipe.toml"\nset = ["epochs=6"]\n[[runs]]\nname = "a"\nset = ["epochs=7"]')
    (run,) = read_queue(path).runs
    assert run.load().epochs == 7
    assert run.load().seed == 1
    assert run.load(["epochs=8"]).epochs == 8
    assert load_config(tmp_path / "recipe.toml").epochs == 5


def test_what_cannot_be_trained_is_refused_before_the_first_training(a_queue, prepared, tmp_path):
    path = a_queue("folds = [0, 99]\n" + TINY_QUEUE)
    with pytest.raises(ConfigError, match="fold 99"):
        run_queue(read_queue(path), prepared.folder, tmp_path / "out")
    path = a_queue(TINY_QUEUE + "pretrained = 'gone.pth'\n")
    with pytest.raises(ConfigError, match=r"gone\.pth.*--pretrained"):
        run_queue(read_queue(path), prepared.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_queue_is_trained_compared_and_gone_on_with(a_queue, prepared, tmp_path, capsys, monkeypatch):
    bad = '[[runs]]\nname = "bad"\nset = ["network.name=resenc_unet", "data.patch_size=[7, 7, 7]"]\n'
    path, out = a_queue(TINY_QUEUE + bad), tmp_path / "out"
    command = ["queue", str(path), str(prepared.folder), "-o", str(out), "--device", "cpu", "--no-cost", "--quiet"]
    assert main(command) == 2  # one of them failed, which stopped neither the others nor the comparison
    assert is_finished(out / "runs" / "plain" / "fold_0")
    assert read_run(out / "runs" / "mamba" / "fold_0").config.network.name == "umamba_bot"
    assert "| mamba | umamba_bot |" in (out / "comparison" / "results.md").read_text(encoding="utf-8")
    said = capsys.readouterr().err
    assert "plain, fold 0 (1 of 3): trained" in said
    assert "first bad/fold_0" in said
    assert "multiple" in said

    monkeypatch.setattr(queue_run, "_train", lambda *_: pytest.fail("what is finished is not trained again"))
    again = run_queue(read_queue(a_queue()), prepared.folder, out)
    assert [run.name for run in again.runs] == ["plain", "mamba"]
    with pytest.raises(ConfigError, match="other settings"):
        run_queue(read_queue(a_queue()), prepared.folder, out, further=["seed=3"])
