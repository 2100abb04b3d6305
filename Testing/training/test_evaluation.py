"""Evaluating runs and model files: what is measured on, taken over, refused and written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mambasegment_training.cli import main
from mambasegment_training.evaluation.report import write_report
from mambasegment_training.evaluation.run import evaluate_cases
from mambasegment_training.evaluation.subject import read_data, read_subject
from mambasegment_training.export import export
from mambasegment_training.run_folder import read_run

import MambaSegmentLib as ms
from MambaSegmentLib.errors import Cancelled, ConfigError, GeometryError
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.review.agreement import measure_agreement

from .evaluation_runs import two_runs  # noqa: F401  (a fixture)


@pytest.fixture
def run(two_runs) -> Path:  # noqa: F811
    return two_runs[0]


def test_labels_and_measures_are_those_of_the_exported_model(run, prepared, tmp_path):
    evaluation = evaluate_cases(read_subject(run), tmp_path / "out", device="cpu")
    assert list(evaluation.records) == sorted(prepared.split.validation)
    model = ms.load_model(export_of(run, tmp_path), device="cpu")
    for case, record in evaluation.records.items():
        *images, labels = prepared.sources[case]
        expected = model.segment(images[0]).labels
        found = read_volume(tmp_path / "out" / "labels" / f"{case}.nii.gz")
        np.testing.assert_array_equal(found.array, expected.array)
        measured = measure_agreement(expected, read_volume(labels), read_data(prepared.folder).structures)
        assert record.agreement == measured


def export_of(run: Path, folder: Path) -> Path:
    export(run, folder / "model.safetensors", device="cpu", with_cost=False)
    return folder / "model.safetensors"


def test_a_second_call_takes_over_what_is_done_and_other_options_do_not(run, tmp_path):
    subject = read_subject(run)
    first = evaluate_cases(subject, tmp_path, device="cpu")
    again = evaluate_cases(subject, tmp_path, device="cpu")
    assert (first.resumed, again.resumed) == (0, len(first.records))
    assert again.agreements == first.agreements
    assert evaluate_cases(subject, tmp_path, device="cpu", quality="fast").resumed == 0
    damaged = next((tmp_path / "cases").iterdir())
    damaged.write_text("{", encoding="utf-8")
    assert evaluate_cases(subject, tmp_path, device="cpu", quality="fast").resumed == len(first.records) - 1


def test_it_can_be_cancelled_between_cases_and_goes_on(run, tmp_path):
    cancel, seen = CancelToken(), []

    def stop_after_one(progress):
        seen.append(progress)
        if progress.done == 1:
            cancel.cancel()

    with pytest.raises(Cancelled):
        evaluate_cases(read_subject(run), tmp_path, device="cpu", progress=stop_after_one, cancel=cancel)
    assert len(list((tmp_path / "cases").glob("*.json"))) == 1
    assert evaluate_cases(read_subject(run), tmp_path, device="cpu").resumed == 1


def test_which_cases(run, prepared, tmp_path):
    assert read_subject(run, cases="train").trained_on == prepared.split.train
    assert len(read_subject(run, cases="all").cases) == 6
    one = prepared.split.validation[0]
    subject = read_subject(run, cases=f"{one},")
    assert (subject.cases, subject.trained_on) == ((one,), ())
    with pytest.raises(ConfigError, match="'nobody'"):
        read_subject(run, cases="nobody")


def test_regions_are_measured_besides(run, tmp_path):
    subject = read_subject(run, regions={"both": (1, 2)})
    assert [structure.name for structure in subject.data.structures] == ["label 1", "label 2", "both"]
    evaluation = evaluate_cases(subject, tmp_path, device="cpu", quality="fast")
    for agreement in evaluation.agreements.values():
        one, two, both = agreement.structures
        assert both.reference_voxels == one.reference_voxels + two.reference_voxels
        assert agreement.mean_dice == pytest.approx((one.dice + two.dice) / 2)  # the region does not count twice
    for regions, message in (({"both": (1, 7)}, "7"), ({"label 1": (1, 2)}, "already")):
        with pytest.raises(ConfigError, match=message):
            read_subject(run, regions=regions)


def test_a_model_file_needs_data_and_takes_a_work_folder_or_a_data_set(run, prepared, tmp_path):
    model = export_of(run, tmp_path)
    with pytest.raises(ConfigError, match="--data"):
        read_subject(model)
    assert read_subject(model, data=prepared.folder).cases == tuple(sorted(prepared.split.validation))
    raw = prepared.sources["case_000"][0].parent.parent
    subject = read_subject(model, data=raw)
    assert len(subject.cases) == 6
    assert [structure.name for structure in subject.data.structures] == ["label 1", "label 2"]


def test_data_of_other_labels_is_refused(run, prepared, tmp_path):
    content = json.loads((prepared.folder / "dataset.json").read_text(encoding="utf-8"))
    content["labels"].append({"value": 3, "name": "third"})
    other = tmp_path / "work"
    (other / "cases").mkdir(parents=True)
    (other / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match="labelled alike"):
        read_subject(run, data=other)


def test_images_that_are_gone_are_named(run, prepared, tmp_path):
    subject = read_subject(run)
    case = subject.cases[0]
    raw = subject.data.cases[case]
    moved = type(raw)(raw.identifier, raw.patient, (tmp_path / "gone.nii.gz",), raw.labels)
    subject.data.cases[case] = moved  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"gone\.nii\.gz.*--data"):
        evaluate_cases(subject, tmp_path / "out", device="cpu")


def test_labels_on_another_grid_are_refused_by_name(run, a_dataset, tmp_path):
    """They have the image's size, so that nothing else would tell."""
    boxes = a_dataset(count=2, name="moved")
    path = boxes / "labels" / "case_001.nii.gz"
    write_volume(replace(read_volume(path), origin_mm=(3.0, 0.0, 0.0)), path)
    subject = read_subject(export_of(run, tmp_path), data=boxes)
    with pytest.raises(GeometryError, match="case_001"):
        evaluate_cases(subject, tmp_path / "out", device="cpu")


def test_the_report(run, tmp_path):
    evaluation = evaluate_cases(read_subject(run), tmp_path, device="cpu")
    document = write_report(evaluation, worst=1)
    assert document == json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    dice = [one.structures[0].dice for one in evaluation.agreements.values()]
    assert document["summary"]["structures"]["label 1"]["dice"]["mean"] == pytest.approx(np.mean(dice))
    lines = (tmp_path / "evaluation.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 1 + 2 * len(evaluation.records)
    (picture,) = (tmp_path / "worst").iterdir()
    worst = min(evaluation.agreements, key=lambda case: evaluation.agreements[case].mean_dice)
    assert picture.stem == worst
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace('href="http', "")  # nothing is loaded from anywhere
    assert page.count("<img") == 1
    assert worst in page


def test_the_command(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet", "--worst", "0"]) == 0
    assert "2 cases;" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path), "-o", str(tmp_path / "x")]) == 2
    assert "config.json" in capsys.readouterr().err
    assert read_run(run).config.epochs == 2
