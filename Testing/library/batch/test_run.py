import csv
import json
import os
import shutil
from dataclasses import replace

import pytest

from MambaSegmentLib.batch.cases import Case
from MambaSegmentLib.batch.journal import FILE_NAME, Journal
from MambaSegmentLib.batch.outcome import common_exit_code
from MambaSegmentLib.batch.run import BatchRun, Plan, run_batch
from MambaSegmentLib.errors import Cancelled, ConfigError, ImageError
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.worker.protocol import Failed, Result

MODEL = {"name": "tiny", "version": "1", "sha256": "abc"}
SEGMENTS = ({"value": 1, "name": "Löwe", "voxels": 8, "volume_ml": 0.008, "color": [1, 0, 0]},)


class Segmenter:
    """Writes an output for each case, unless told to fail."""

    def __init__(self, failures=None):
        self.failures = failures or {}
        self.did = []

    def __call__(self, case, output):
        self.did.append(case.name)
        if case.name in self.failures:
            return Failed("1", self.failures[case.name], f"{case.name} is bad", "do better")
        output.write_text("labels")
        return Result("1", (str(output),), SEGMENTS)


@pytest.fixture
def cases(tmp_path):
    paths = [tmp_path / f"{name}.nii" for name in "abc"]
    for path in paths:
        path.write_text("image")
    return [Case(path.stem, (path,)) for path in paths]


@pytest.fixture
def plan(tmp_path):
    return Plan(tmp_path / "out" / "deep", MODEL)


def statuses(plan):
    report = json.loads((plan.folder / "report.json").read_text(encoding="utf-8"))
    return {entry["case"]: entry["status"] for entry in report["cases"]}


def test_a_bad_case_stops_nothing_and_is_tried_again(cases, plan):
    told, seen = [], []
    first = Segmenter({"a": "ImageError"})
    report = run_batch(cases, plan, first, on_failure=told.append, progress=seen.append)
    assert first.did == ["a", "b", "c"]
    assert [outcome.case for outcome in told] == ["a"]
    assert [(p.done, p.total) for p in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert seen[0].seconds_left is None
    assert seen[2].seconds_left >= 0
    assert statuses(plan) == {"a": "failed", "b": "done", "c": "done"}
    assert common_exit_code(list(report.outcomes)) == 2

    second = Segmenter()
    report = run_batch(cases, plan, second)
    assert second.did == ["a"]
    assert (report.resumed, common_exit_code(list(report.outcomes))) == (2, 0)


def test_the_report_as_json_and_as_a_table(cases, plan):
    run_batch([*cases, Case("d", (), "row 5 lacks an image")], plan, Segmenter({"b": "ResourceError"}))
    report = json.loads((plan.folder / "report.json").read_text(encoding="utf-8"))
    assert [report[key] for key in ("total", "done", "resumed", "failed", "open")] == [4, 2, 0, 2, 0]
    assert report["model"] == MODEL
    assert report["cases"][0]["segments"] == [{"value": 1, "name": "Löwe", "voxels": 8, "volume_ml": 0.008}]
    with (plan.folder / "report.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["Löwe mL"] for row in rows] == ["0.008", "", "0.008", ""]
    assert [row["kind"] for row in rows] == ["", "ResourceError", "", "ConfigError"]
    assert rows[3]["message"] == "row 5 lacks an image"
    with (plan.folder / "segments.csv").open(encoding="utf-8-sig", newline="") as stream:
        figures = list(csv.DictReader(stream))
    assert figures == [{"case": c, "value": "1", "name": "Löwe", "voxels": "8", "volume_ml": "0.008"} for c in "ac"]


@pytest.mark.parametrize("what", ["input", "output", "model", "option"])
def test_what_was_changed_is_done_again(cases, plan, what):
    run_batch(cases, plan, Segmenter())
    again = Segmenter()
    expected = ["b"]
    if what == "input":
        os.utime(cases[1].inputs[0], (1, 1))
    elif what == "output":
        plan.output(cases[1]).unlink()
    else:
        changes = {"model": {**MODEL, "sha256": "def"}} if what == "model" else {"model": MODEL, "options": {"x": 1}}
        plan, expected = Plan(plan.folder, **changes), ["a", "b", "c"]
    run_batch(cases, plan, again)
    assert again.did == expected


def test_a_journal_that_was_cut_off_costs_one_case(cases, plan):
    run_batch(cases, plan, Segmenter())
    journal = plan.folder / FILE_NAME
    journal.write_bytes(b"no journal\n" + journal.read_bytes()[:-20])
    again = Segmenter()
    run_batch(cases, plan, again)
    assert again.did == ["c"]
    assert len(journal.read_bytes().splitlines()) == 5  # what is damaged stays, and nothing is glued to it
    fingerprint = run_batch(cases, plan, Segmenter()).outcomes[2].fingerprint
    assert Journal(plan.folder).finished("c", fingerprint, journal)


@pytest.mark.parametrize("how", ["token", "worker", "interrupt"])
def test_stopping_leaves_a_report_and_the_next_run_goes_on(cases, plan, how):
    token = CancelToken()

    class Stopping(Segmenter):
        def __call__(self, case, output):
            if case.name == "b":
                token.cancel()
                if how == "interrupt":
                    raise KeyboardInterrupt
                if how == "worker":
                    return Failed("1", "Cancelled", "cancelled on request")
            return super().__call__(case, output)

    with pytest.raises(KeyboardInterrupt if how == "interrupt" else Cancelled):
        run_batch(cases, plan, Stopping(), cancel=token)
    done = ["a", "b"] if how == "token" else ["a"]
    assert list(statuses(plan)) == done
    again = Segmenter()
    run_batch(cases, plan, again)
    assert again.did == [name for name in "abc" if name not in done]


def test_two_batches_into_one_folder_are_one_too_many(cases, plan):
    """The second one touches nothing; a lock that is left by a crash is none, since the system holds it."""

    class Nosy(Segmenter):
        def __call__(self, case, output):
            with pytest.raises(ConfigError, match="another batch is writing into"):
                run_batch(cases, plan, Segmenter())
            assert not (plan.folder / "report.json").exists()
            return super().__call__(case, output)

    first = Nosy()
    run_batch(cases, plan, first)
    assert first.did == ["a", "b", "c"]
    run_batch(cases, plan, Segmenter())


def test_a_folder_that_goes_meanwhile_ends_the_batch_and_the_next_one_does_all(cases, plan):
    class Removing(Segmenter):
        def __call__(self, case, output):
            answer = super().__call__(case, output)
            if case.name == "b":
                shutil.rmtree(plan.folder)
            return answer

    first = Removing()
    with pytest.raises(ImageError, match=r"batch\.jsonl was removed while the batch ran"):
        run_batch(cases, plan, first)
    assert first.did == ["a", "b"]  # the rest is not computed for nothing
    again = Segmenter()
    run_batch(cases, plan, again)
    assert again.did == ["a", "b", "c"]


def test_a_batch_that_is_driven_case_by_case_is_the_same(cases, plan, tmp_path):
    """As where an event loop must go on meanwhile."""
    cases.append(Case("d", (), "row 5 lacks an image"))
    cases[1].inputs[0].write_text("image of b")
    segment = Segmenter({"b": "ImageError"})
    driven = BatchRun(cases, plan)
    for case in cases:
        if driven.known(case) is None:
            driven.end(case, segment(case, driven.begin(case)))
    driven.close()
    other = Plan(tmp_path / "other", MODEL)
    looped = run_batch(cases, other, Segmenter({"b": "ImageError"}))
    assert [o.status for o in driven.report().outcomes] == ["done", "failed", "done", "failed"]
    assert [(o.case, o.status, o.message) for o in driven.report().outcomes] == [
        (o.case, o.status, o.message) for o in looped.outcomes
    ]
    assert statuses(plan) == statuses(other)
    again = BatchRun(cases, plan)
    assert [again.known(case) is not None for case in cases] == [True, False, True, True]
    again.close()
    assert again.report().to_json()["resumed"] == 2


def test_warnings_are_kept_through_journal_and_report(cases, plan):
    class Warned(Segmenter):
        def __call__(self, case, output):
            return replace(super().__call__(case, output), warnings=("b lies elsewhere", "1 mm is assumed"))

    run_batch(cases, plan, Warned())
    again = Segmenter()
    report = run_batch(cases, plan, again)
    assert again.did == []
    assert report.outcomes[1].warnings == ("b lies elsewhere", "1 mm is assumed")
    with (plan.folder / "report.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert next(csv.DictReader(stream))["warnings"] == "b lies elsewhere; 1 mm is assumed"


def test_a_journal_of_an_older_version_counts(cases, plan):
    run_batch(cases, plan, Segmenter())
    journal = plan.folder / FILE_NAME
    entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
    journal.write_text("".join(json.dumps({k: v for k, v in e.items() if k != "warnings"}) + "\n" for e in entries))
    again = Segmenter()
    run_batch(cases, plan, again)
    assert again.did == []


@pytest.mark.parametrize("name", ["a.seg.nrrd", "report.csv", "report.json"])
def test_leftovers_of_a_run_that_was_killed_while_it_wrote_go(cases, plan, name):
    (plan.folder / f".{name}.partial-x").mkdir(parents=True)
    run_batch(cases, plan, Segmenter())
    assert not (plan.folder / f".{name}.partial-x").exists()


def test_outputs_never_replace_inputs_and_the_folder_must_be_one(cases, plan, tmp_path):
    with pytest.raises(ConfigError, match="is an input image"):
        run_batch(cases, Plan(tmp_path, MODEL, ".nii"), Segmenter())
    with pytest.raises(ImageError, match="cannot make the folder"):
        run_batch(cases, Plan(tmp_path / "a.nii" / "out", MODEL), Segmenter())


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        (["ImageError", "GeometryError"], 2),
        (["ResourceError"], 4),
        (["ResourceError", "ImageError"], 2),
        (["ResourceError", "ZeroDivisionError"], 1),
    ],
)
def test_exit_codes(cases, plan, kinds, code):
    report = run_batch(cases, plan, Segmenter(dict(zip("abc", kinds, strict=False))))
    assert common_exit_code(list(report.outcomes)) == code
