"""As a user would, in real processes: prepare, train, be killed, resume, export, segment."""

import subprocess
import sys
import time

import numpy as np
import pytest
from mambasegment_training.run_folder import LAST

from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.review.measure import dice_per_label

TRAIN, SEGMENT = [sys.executable, "-m", "mambasegment_training"], [sys.executable, "-m", "MambaSegmentLib"]
SETTINGS = [
    "network.options.init_filters=8",
    "network.options.blocks_down=[1, 1]",
    "network.options.blocks_up=[1]",
    "data.batch_size=1",
    "augment.enabled=false",
    "optimizer.learning_rate=1e-2",
    "steps_per_epoch=10",
    "cpu_threads=1",
]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_kill_resume_export_segment(a_dataset, tmp_path):
    dataset = a_dataset()
    work, folder, model, output = (tmp_path / name for name in ("work", "run", "boxes.safetensors", "labels.nii.gz"))
    run(*TRAIN, "prepare", str(dataset), "-o", str(work))
    fit = [*TRAIN, "fit", str(work), "-o", str(folder), "--device", "cpu"]
    sets = [word for text in SETTINGS for word in ("--set", text)]
    process = subprocess.Popen([*fit, "--epochs", "12", *sets], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (folder / LAST).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert run(*fit, "--resume").startswith("12 epochs done")
    run(*TRAIN, "export", str(folder), "-o", str(model), "--device", "cpu")
    case = "case_000.nii.gz"
    run(*SEGMENT, "segment", str(dataset / "images" / case), "-m", str(model), "-o", str(output), "--device", "cpu")
    found, truth = read_volume(output).array, read_volume(dataset / "labels" / case).array
    scores = dice_per_label(found.astype(np.uint8), truth.astype(np.uint8), [1, 2])
    assert min(score or 0.0 for score in scores.values()) > 0.5  # bright boxes on a dark ground
