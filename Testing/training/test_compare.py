"""Runs side by side: which may be compared, what is said loudly, and what is written."""

import json

import pytest
from mambasegment_training.cli import main
from mambasegment_training.evaluation.run import evaluate_cases
from mambasegment_training.evaluation.subject import read_subject
from mambasegment_training.export import export
from mambasegment_training.prepare import prepare
from mambasegment_training.study import compare as comparing
from mambasegment_training.study.compare import compare, study_document
from mambasegment_training.study.entry import make_entry
from mambasegment_training.study.report import write_study

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models.counts import count_parameters

from .evaluation_runs import train, two_runs  # noqa: F401  (two_runs is a fixture)


@pytest.fixture(scope="module")
def study(two_runs, tmp_path_factory):  # noqa: F811
    return compare(two_runs, tmp_path_factory.mktemp("study"), device="cpu", with_cost=False)


def test_entries_hold_what_the_runs_are(study, two_runs):  # noqa: F811
    light, plain = study.entries
    assert [light.name, plain.name] == ["light", "plain"]
    assert study.control is plain
    assert plain.is_control
    (network,) = read_subject(two_runs[0]).parts[0].bundle.build_networks()
    assert light.parameters == count_parameters(network)
    assert (light.epochs, light.loss) == (2, "dice_ce")
    assert light.multiply_adds > 0
    assert len(light.records) == 2
    direct = evaluate_cases(read_subject(two_runs[0]), study.folder / "evaluations" / "light", device="cpu")
    assert (direct.agreements, direct.resumed) == (light.evaluation.agreements, 2)


def test_pairs_are_tested_and_the_difference_is_that_of_the_means(study):
    test = study.test_against_control(study.entries[0], "mean_dice")
    means = [
        sum(a.mean_dice for a in entry.evaluation.agreements.values()) / len(entry.evaluation.agreements)
        for entry in study.entries
    ]
    assert test.mean_difference == pytest.approx(means[0] - means[1])
    assert study.test_against_control(study.control, "mean_dice") is None
    assert {t.structure for t in study.tests if t.metric == "nsd"} == {"label 1", "label 2"}


def test_without_the_plain_control_that_is_said_loudly(two_runs, prepared, tmp_path):  # noqa: F811
    other = train(prepared, tmp_path / "arsl", loss={"name": "arsl"})
    study = compare([two_runs[0], other], tmp_path / "study", device="cpu", with_cost=False)
    assert "NO PLAIN CONTROL" in study.warnings[0]
    assert study_document(study)["control"] is None


def test_few_patients_are_said_to_prove_nothing(study):
    assert any("no difference can reach p < 0.05" in text for text in study.warnings)


def test_what_is_written(study):
    document = write_study(study)
    assert document == json.loads((study.folder / "comparison.json").read_text(encoding="utf-8"))
    assert document["control"] == "plain"
    assert "network.name" in document["differing_settings"]
    text = (study.folder / "results.md").read_text(encoding="utf-8")
    assert "| plain (control) | resenc_unet |" in text
    for name in ("bubbles", "dice_histogram", "curves", "rendering", "cases"):
        assert (study.folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG", name
        assert f"({name}.png)" in text
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 5
    assert (study.folder / "evaluations" / "light" / "report.html").is_file()


def test_runs_on_other_splits_are_refused(two_runs, prepared, tmp_path):  # noqa: F811
    source = prepared.sources["case_000"][0].parent.parent
    other = prepare(source, tmp_path / "work", validation_cases=["case_000", "case_001"])
    assert other.split != prepared.split
    run = train(other, tmp_path / "run")
    with pytest.raises(ConfigError, match="same split"):
        compare([two_runs[0], run], tmp_path / "study", device="cpu")


def test_a_model_file_joins_runs_on_their_cases(two_runs, tmp_path):  # noqa: F811
    model = tmp_path / "model.safetensors"
    export(two_runs[0], model, device="cpu", with_cost=False)
    study = compare([two_runs[1], model], tmp_path / "study", device="cpu", with_cost=False)
    assert study.entries[1].evaluation.records.keys() == study.entries[0].evaluation.records.keys()
    assert study.entries[1].loss == "dice_ce"
    assert any("cannot be seen from a model file" in text for text in study.warnings)
    with pytest.raises(ConfigError, match="--data"):
        compare([model, model], tmp_path / "other", names=["a", "b"])


def test_names(two_runs, tmp_path):  # noqa: F811
    assert comparing._names(two_runs, []) == ["light", "plain"]
    assert comparing._names(two_runs, ["a", "b"]) == ["a", "b"]
    for paths, names in ((two_runs[:1], []), (two_runs, ["a"]), (two_runs, ["a", "a"]), ([tmp_path, tmp_path], [])):
        with pytest.raises(ConfigError):
            comparing._names(paths, names)


def test_the_command(two_runs, tmp_path, capsys):  # noqa: F811
    command = ["compare", *map(str, two_runs), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet", "--no-cost"]
    assert main([*command, "--quality", "fast"]) == 0
    assert "| light | lightm_unet |" in capsys.readouterr().out
    assert main(["compare", str(two_runs[0]), "-o", str(tmp_path / "one")]) == 2


@pytest.mark.slow
def test_seconds_and_memory_of_a_run_are_measured_in_a_process_of_its_own(study):
    entry = make_entry("plain", study.entries[1].evaluation, device="cpu", with_cost=True)
    assert entry.cost["device"] == "cpu"
    assert entry.cost["seconds"] > 0
    assert entry.cost["memory_bytes"] > 0
