"""Every bad input through the module's worker: the answer that library and shell give, and the worker goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.worker.blocking import error_of
from MambaSegmentLib.worker.failures import failure
from MambaSegmentLib.worker.protocol import Failed, JobProgress, Options, Segment
from Testing.bad_cases import worker_model, worker_options
from Testing.bad_inputs import CASES
from Testing.host import start

REPOSITORY = Path(__file__).resolve().parents[2]
WRITE_MODELS = """
import json, sys
from pathlib import Path
from Testing.bad_inputs import write_models
print(json.dumps({name: str(path) for name, path in write_models(Path(sys.argv[1])).items()}))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Written by a process of their own, since that needs torch."""
    command = [sys.executable, "-c", WRITE_MODELS, str(tmp_path_factory.mktemp("models"))]
    written = subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True).stdout
    return {name: Path(path) for name, path in json.loads(written).items()}


@pytest.fixture(scope="module")
def shared_segmenter():
    start()
    sys.path.insert(0, str(REPOSITORY / "MambaSegment"))
    from MambaSegmentPanel.segmenter import Segmenter

    segmenter = Segmenter()
    yield segmenter
    segmenter.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_modules_worker_says_what_the_library_says(host, shared_segmenter, models, case, tmp_path):
    job = case.make(tmp_path, models)
    client = shared_segmenter.worker.client
    images = tuple(str(path) for path in job.images)
    try:
        options = Options(job.device, **worker_options(job))
    except ConfigError as problem:  # what no worker need be asked for is refused where it was written
        answer = failure(problem, "1")
    else:
        command = Segment(client.new_job(), images, worker_model(job), str(job.output), options)
        heard = []
        client.send(command, heard.append)
        host.wait_until(lambda: heard and not isinstance(heard[-1], JobProgress), timeout_s=60)
        answer = heard[-1]
    if case.error is not None:
        assert isinstance(answer, Failed)
        assert isinstance(error_of(answer), case.error)
        said = answer.message
    else:
        assert not isinstance(answer, Failed), answer
        read_volume(job.output)
        said = "; ".join(answer.warnings)
    assert [text for text in case.says if text not in said] == [], said
    assert client._run is not None  # the process goes on
