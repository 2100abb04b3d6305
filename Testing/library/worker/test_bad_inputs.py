"""Every bad input through one worker: the same answers as the library's, and the next job is done as if nothing was."""

from pathlib import Path

import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.worker.blocking import BlockingWorker
from MambaSegmentLib.worker.failures import failure
from MambaSegmentLib.worker.protocol import Failed, Hello, Options, Result, Segment
from Testing.bad_cases import worker_model, worker_options
from Testing.bad_files import write
from Testing.bad_inputs import CASES, Case, Job, write_models
from Testing.library.worker.conftest import is_gone


class CountedWorker(BlockingWorker):
    """Knows the processes that it had: a crash would bring a second one."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        super().__init__()

    def _note(self, status):
        if isinstance(status, Hello):
            self.pids.append(status.pid)
        super()._note(status)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def worker():
    with CountedWorker() as worker:
        yield worker
        folder = worker.client.folder
        assert len(worker.pids) == 1
    assert is_gone(worker.pids[0])
    assert not folder.exists()


def ask(worker: BlockingWorker, job: Job) -> Result | Failed:
    images = tuple(str(image) for image in job.images)
    try:
        options = Options(job.device, **worker_options(job))
    except ConfigError as problem:  # what no worker need be asked for is refused where it was written
        return failure(problem, "1")
    return worker.ask(Segment(worker.new_job(), images, worker_model(job), str(job.output), options))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_worker_answers_and_serves_on(case: Case, models, worker, tmp_path):
    job = case.make(tmp_path, models)
    before = set(tmp_path.rglob("*"))
    answer = ask(worker, job)
    if case.error is None:
        assert isinstance(answer, Result), answer
        said = "; ".join(answer.warnings)
        assert job.output.is_file()
    else:
        assert isinstance(answer, Failed)
        kinds = case.error if isinstance(case.error, tuple) else (case.error,)
        assert answer.kind in {kind.__name__ for kind in kinds}
        assert answer.advice
        said = answer.message
        assert set(tmp_path.rglob("*")) == before
    assert [text for text in case.says if text not in said] == [], said

    good = Job((write(tmp_path / "good.nrrd"),), tmp_path / "good labels.nrrd", str(models["volume"]))
    assert isinstance(ask(worker, good), Result)
    assert read_volume(good.output).same_grid(read_volume(good.images[0]))
    assert len(worker.pids) == 1
