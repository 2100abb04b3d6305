"""The engine's benchmark does what its table says, on volumes small enough for a test."""

import sys

import pytest

from Testing.benchmarks import engine
from Testing.benchmarks.timing import peak_memory_bytes


def test_the_ct_with_air_has_tiles_that_are_uniform_though_it_is_resampled(monkeypatch):
    monkeypatch.setattr(engine, "CASE_SHAPE", (16, 128, 128))
    monkeypatch.setattr(engine, "AIR_WANTED_MM", (5.0, 2.2, 2.2))
    monkeypatch.setattr(engine, "AIR_PATCH", (8, 16, 16))
    report = engine.TASKS["ct_256x256x128_air"][1]["ours"]()()
    assert 0 < report["reused_tiles"] < report["tiles"]
    assert 0 < report["forward_s"] <= report["network_s"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a high-water mark that can be set back")
def test_memory_does_not_grow_with_the_number_of_slices(monkeypatch):
    """Beyond the labels, on volumes of which the longer one would need 25 MB more as float32 alone."""
    monkeypatch.setattr(engine, "LONG_PLANE", (160, 160))
    monkeypatch.setattr(engine, "LONG_PATCH", (32, 64, 64))
    extra = []
    for slices in (80, 320):
        job = engine._long(slices)
        peak_memory_bytes(reset=True)
        before = peak_memory_bytes()
        report = job()
        extra.append(peak_memory_bytes() - before - report["labels_bytes"])
    assert extra[1] < extra[0] + 12e6
    assert max(extra) < 200e6


def test_sides_are_compared_within_their_rounds():
    ours, theirs = [(4.0, 3.0), (8.0, 6.0), (5.0, 4.0)], [(8.0, 3.0), (16.0, 6.0), (5.0, 1.0)]
    rows = {
        side: [{"wall_s": wall_s, "forward_s": forward_s} for wall_s, forward_s in of_side]
        for side, of_side in (("ours", ours), ("nnunet", theirs))
    }
    medians = {"ours": {"extra_memory_bytes": 1e8, "forward_s": 4.0}, "nnunet": {"extra_memory_bytes": 4e8}}
    found = engine.ratios(medians, rows)
    assert found == {"time_ratio": 0.5, "memory_ratio": 0.25, "rest_ratio": 0.2}
    assert engine.ratios({}, {"ours": []}) == {}


def test_the_table_has_a_line_for_each_task():
    alone = {"ours": {"wall_s": 9.0, "extra_memory_bytes": 2.5e8, "forward_s": 7.5, "tiles": 12.0, "reused_tiles": 3.0}}
    beside = {"ours": {"wall_s": 3.0, "extra_memory_bytes": 1e8}, "time_ratio": 0.125, "memory_ratio": 0.5}
    batch = {"ours": {"wall_s": 3.0}, "nnunet": {"wall_s": 12.0}, "time_ratio": 0.25}
    lines = engine.table({"ct_512x512x300": alone, "export_512x512x300": beside, "batch_20": batch})
    assert lines[-3].endswith("3 of 12 tiles uniform | 9.0 s |  | 0.25 GB |  | 1.5 s |  | 40 s, 3 GB |")
    assert lines[-2].endswith("| 3.0 s | 0.12 | 0.10 GB | 0.50 |  |  | 0.12, memory 0.1 |")
    assert lines[-1].endswith("| 3.0 s | 0.25 |  |  |  |  | 0.25 |")
    assert len({line.count("|") for line in lines if line}) == 1
    assert set(engine.TITLES) == {*engine.TASKS, "batch_20"}
