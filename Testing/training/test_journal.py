"""Records of a run, whole lines only, and what a person sees."""

import io
import json
from contextlib import suppress

import pytest
from mambasegment_training.checkpoint import TrainingState
from mambasegment_training.journal import Journal, read_records
from torch import nn, optim

from MambaSegmentLib.errors import Cancelled, ResourceError

LAYER = nn.Linear(1, 1)


def entry(epoch: int, **more) -> dict:
    return {"epoch": epoch, "step": epoch * 10, "loss": 0.5, "learning_rate": 1e-3, "elapsed_s": 12.3} | more


def state(step: int, **numbers) -> TrainingState:
    return TrainingState(LAYER, optim.SGD(LAYER.parameters()), step=step, **numbers)


@pytest.fixture
def a_journal(tmp_path, tiny_config):
    def make(finished: int = 0, stream: io.StringIO | None = None) -> tuple[Journal, io.StringIO]:
        stream = stream or io.StringIO()
        return Journal(tmp_path, finished, 5, tiny_config(steps_per_epoch=10), stream), stream

    return make


def test_records_and_plain_lines(a_journal, tmp_path):
    with (made := a_journal())[0] as journal:
        journal.record(entry(1), state(10), 3700.0)
        journal.record(entry(2, dice={"liver": 0.75, "cyst": None, "mean": 0.75}), state(20, best_dice=0.75), 90.0)
        journal.record(entry(3, loss=None), state(30), 5.0)
    assert [record["epoch"] for record in read_records(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert made[1].getvalue().splitlines() == [
        "epoch 1: loss 0.5000, rate 1.00e-03, 12 s, 1 h 1 min left",
        "epoch 2: loss 0.5000, rate 1.00e-03, 12 s, Dice liver 0.7500, cyst -, mean 0.7500, 2 min left",
        "epoch 3: loss none, every step was left out, rate 1.00e-03, 12 s, 5 s left",
    ]
    assert (tmp_path / "curve.png").is_file()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "finished, epoch 2/5 loss 0.5000, Dice 0.7500, best 0.7500 in epoch 2"),
        (Cancelled("stopped after step 20"), "stopped, epoch 2/5"),
        (ResourceError("no\nmemory"), "failed: no memory, epoch 2/5"),
    ],
)
def test_one_line_says_how_it_stands(a_journal, tmp_path, error, words):
    status = tmp_path / "status.txt"
    with suppress(Cancelled, ResourceError), a_journal()[0] as journal:
        best = state(20, best_dice=0.75, best_epoch=2)
        journal.record(entry(2, dice={"liver": 0.75, "mean": 0.75}), best, 90.0)
        running = status.read_text(encoding="utf-8")
        if error is not None:
            raise error
    assert running.endswith("Z running, epoch 2/5 loss 0.5000, Dice 0.7500, best 0.7500 in epoch 2, 2 min left\n")
    text = status.read_text(encoding="utf-8")
    assert words in text and text.count("\n") == 1


def test_work_that_a_crash_undid_is_dropped(a_journal, tmp_path):
    lines = [json.dumps(entry(epoch)) for epoch in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 4, "lo', encoding="utf-8")
    with a_journal(finished=2)[0] as journal:
        journal.record(entry(3, loss=0.25), state(30), 1.0)
    assert [(r["epoch"], r["loss"]) for r in read_records(tmp_path / "metrics.jsonl")] == [
        (1, 0.5),
        (2, 0.5),
        (3, 0.25),
    ]


def test_a_terminal_gets_a_bar(a_journal):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with a_journal(stream=stream)[0] as journal:
        journal.step(state(5, loss_sum=2.0, loss_steps=4), 30.0)
        journal.record(entry(1, dice={"liver": 0.75, "mean": 0.75}), state(10), 90.0)
        journal.step(state(11, loss_sum=0.5, loss_steps=1), 120.0)
    text = stream.getvalue()
    assert "epoch 1/5" in text and "5/50, loss 0.5000, 30 s left" in text
    assert "11/50, loss 0.5000, Dice 0.7500, 2 min left" in text
    assert "Dice liver 0.7500" in text


def test_a_full_disk_is_named(a_journal, tmp_path, monkeypatch):
    """The system's error is made up; what it leads to is not."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    with a_journal()[0] as journal:
        monkeypatch.setattr(journal._board, "flush", fail)
        with pytest.raises(ResourceError, match="the disk is full; free some space and resume"):
            journal.record(entry(1), state(10), 1.0)


def test_no_file_has_no_records(tmp_path):
    assert read_records(tmp_path / "metrics.jsonl") == []
