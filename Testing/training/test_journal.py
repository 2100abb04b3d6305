"""Records of a run, whole lines only, and what a person sees."""

import io
import json

import pytest
from mambasegment_training.journal import Journal, read_records


def entry(epoch: int, **more) -> dict:
    return {"epoch": epoch, "step": epoch * 10, "loss": 0.5, "learning_rate": 1e-3, "elapsed_s": 12.3} | more


@pytest.fixture
def a_journal(tmp_path):
    journals = []

    def make(finished: int = 0) -> tuple[Journal, io.StringIO]:
        stream = io.StringIO()
        journals.append(Journal(tmp_path, finished, 5, stream))
        return journals[-1], stream

    yield make
    for journal in journals:
        journal.close()


def test_records_and_plain_lines(a_journal, tmp_path):
    journal, stream = a_journal()
    journal.record(entry(1))
    journal.record(entry(2, dice={"liver": 0.75, "cyst": None, "mean": 0.75}))
    assert [record["epoch"] for record in read_records(tmp_path / "metrics.jsonl")] == [1, 2]
    assert stream.getvalue().splitlines() == [
        "epoch 1: loss 0.5000, rate 1.00e-03, 12 s",
        "epoch 2: loss 0.5000, rate 1.00e-03, 12 s, Dice liver 0.7500, cyst -, mean 0.7500",
    ]


def test_work_that_a_crash_undid_is_dropped(a_journal, tmp_path):
    lines = [json.dumps(entry(epoch)) for epoch in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 4, "lo', encoding="utf-8")
    journal, _ = a_journal(finished=2)
    journal.record(entry(3, loss=0.25))
    assert [(r["epoch"], r["loss"]) for r in read_records(tmp_path / "metrics.jsonl")] == [
        (1, 0.5),
        (2, 0.5),
        (3, 0.25),
    ]


def test_a_terminal_gets_a_bar(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    journal = Journal(tmp_path, 0, 2, stream)
    journal.record(entry(1))
    journal.close()
    assert "1/2" in stream.getvalue()


def test_no_file_has_no_records(tmp_path):
    assert read_records(tmp_path / "metrics.jsonl") == []
