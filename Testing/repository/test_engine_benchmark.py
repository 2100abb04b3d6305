"""The engine's benchmark does what its table says, on volumes small enough for a test."""

from Testing.benchmarks import engine


def test_the_synthetic_ct_has_air_that_small_tiles_find_where_it_is_not_resampled(monkeypatch):
    monkeypatch.setattr(engine, "CT_SHAPE", (16, 48, 48))
    monkeypatch.setattr(engine, "CT_WANTED_MM", engine.CT_MM)  # resampled, air would differ in its last bits
    monkeypatch.setattr(engine, "PATCH", (16, 8, 8))
    report = engine.TASKS["ct_512x512x300"]["ours"]()()
    assert 0 < report["reused_tiles"] < report["tiles"]
    assert {"preprocess", "network", "restore"} < set(report)


def test_the_table_has_a_line_for_each_task():
    stages = {"preprocess_s": 1.0, "network_s": 7.0, "restore_s": 0.5}
    alone = {"ours": {"wall_s": 9.0, "extra_memory_bytes": 2.5e8, **stages}}
    beside = {"ours": {"wall_s": 3.0, "extra_memory_bytes": 1e8}, "time_ratio": 0.125, "memory_ratio": 0.5}
    lines = engine.table({"ct_512x512x300": alone, "export_512x512x300": beside})
    assert lines[-2].endswith("| 9.0 s |  | 0.25 GB |  | 1.5 s |")
    assert lines[-1].endswith("| 3.0 s | 0.12 | 0.10 GB | 0.50 |  |")
    assert len({line.count("|") for line in lines if line}) == 1
    assert set(engine.TITLES) == set(engine.TASKS)
