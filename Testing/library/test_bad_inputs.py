"""Every bad input through the library and through the shell: the same answer, and nothing left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import MambaSegmentLib as ms
from MambaSegmentLib.api import Model
from MambaSegmentLib.cli import main
from MambaSegmentLib.image_io import read_volume
from Testing.bad_cases import python_arguments, shell_words
from Testing.bad_inputs import CASES, Case, Job, write_models

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def loaded(models) -> dict[str, Model]:
    return {str(path): ms.load_model(path, "cpu") for path in models.values()}


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all that is there."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def assert_labels_lie_on_the_image(job: Job) -> None:
    series = job.options.get("series", "")
    series = series if isinstance(series, str) else series[0]
    labels, image = read_volume(job.output), read_volume(job.images[0], series=series or None)
    # NIfTI rounds to single precision; spacings of nanometres need a finer look than those of kilometres.
    assert labels.same_grid(image, tolerance_mm=max(1e-3, 1e-6 * max(image.spacing_mm)))
    assert labels.array.dtype == np.uint8
    assert labels.array.max() <= (4 if "more_models" in job.options else 2)


@EACH_CASE
def test_the_library_refuses_what_is_bad_and_does_what_is_odd(case: Case, models, loaded, tmp_path):
    job = case.make(tmp_path, models)
    before = files_in(tmp_path)
    fresh = job.device != "cpu" or "folds" in job.options  # a loaded model keeps its own
    first = job.model if fresh else loaded.get(job.model, job.model)

    def segment():
        models = [first, *job.options.get("more_models", ())]
        where = {"output": job.output, "device": job.device}
        return ms.segment(list(job.images), models=models, **where, **python_arguments(job))

    if case.error is not None:
        with pytest.raises(case.error) as caught:
            segment()
        said = str(caught.value)
        assert files_in(tmp_path) == before
    else:
        said = "; ".join(segment().warnings)
        assert {*before, str(job.output)} == set(files_in(tmp_path))
        assert_labels_lie_on_the_image(job)
    assert [text for text in case.says if text not in said] == [], said
    assert case.says or not said or case.error


def shell_arguments(job: Job) -> list[str]:
    images = [str(image) for image in job.images]
    return ["segment", *images, "-m", job.model, "-o", str(job.output), "--device", job.device, *shell_words(job)]


@EACH_CASE
def test_the_shell_gives_one_line_and_the_code(case: Case, models, tmp_path, capfd):
    """Descriptors are looked at, not only Python's streams: C++ libraries write past those."""
    job = case.make(tmp_path, models)
    before = files_in(tmp_path)
    capfd.readouterr()  # what was said while the files were made
    code = main([*shell_arguments(job), "--quiet"])
    out, err = capfd.readouterr()
    assert [text for text in case.says if text not in err] == [], err
    if case.error is None:
        assert (code, out) == (0, f"{job.output}\n")
        assert all(line.startswith("mambasegment: warning: ") for line in err.splitlines())
        assert bool(err) == bool(case.says)
        assert_labels_lie_on_the_image(job)
        return
    kinds = case.error if isinstance(case.error, tuple) else (case.error,)
    assert code in {kind.exit_code for kind in kinds}
    assert err.startswith("mambasegment: ")
    assert err.count("\n") == 1
    assert out == ""
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("name", ["text renamed .nii.gz", "nan in x.nii", "model with a changed weight"])
def test_a_process_of_its_own_says_the_same(name, models, tmp_path, repository):
    (case,) = (case for case in CASES if case.name == name)
    job = case.make(tmp_path, models)
    command = [sys.executable, "-m", "MambaSegmentLib", *shell_arguments(job), "--quiet"]
    run = subprocess.run(command, cwd=repository, capture_output=True, encoding="utf-8")
    assert run.returncode == case.error.exit_code
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("mambasegment: ")
    assert "Traceback" not in run.stderr
    assert not job.output.exists()


def test_the_catalog_names_each_case_once():
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
