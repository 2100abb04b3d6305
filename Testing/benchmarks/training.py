"""Training against nnU-Net's own: from raw data to the first iteration.

Both start from the same raw data set in nnU-Net's layout, in processes of their own: the commands that a user types,
which are stopped after the first iteration of training. nnU-Net is left with its defaults.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.phantom import hippocampus_phantom

CASES = 50
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus_mr"
_OUR_FIRST_ITERATION = """
import os, sys
from mambasegment_training import cli, step
take = step.Stepper.take
def take_one(*arguments):
    take(*arguments)
    os._exit(0)
step.Stepper.take = take_one
cli.main(sys.argv[1:])
"""
_THEIR_FIRST_ITERATION = """
import multiprocessing, os, torch
from nnunetv2.run.run_training import get_trainer_from_args
trainer = get_trainer_from_args("1", "3d_fullres", 0, "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu"))
trainer.on_train_start()
trainer.on_epoch_start()
trainer.on_train_epoch_start()
trainer.train_step(next(trainer.dataloader_train))
for worker in multiprocessing.active_children():  # of the data loader, which would go on without it
    worker.kill()
os._exit(0)
"""


def run() -> dict[str, Any]:
    """All parts of this file."""
    return {"raw_to_first_iteration": raw_to_first_iteration()}


def table(measured: dict[str, Any]) -> list[str]:
    """For people."""
    start = measured["raw_to_first_iteration"]
    rows = [f"| {who} | {start[key]['total_s']:.0f} s |" for who, key in (("ours", "ours"), ("nnU-Net", "nnunet"))]
    title = f"| raw data to first iteration, {start['cases']} cases, {start['data']} | time |"
    return ["", title, "|---|---|", *rows, f"| ours / nnU-Net | {start['ratio']:.2f} |"]


def raw_to_first_iteration() -> dict[str, Any]:
    """Seconds of each command, ours and nnU-Net's one after the other."""
    with tempfile.TemporaryDirectory(prefix="mambatrain-bench-") as name:
        folder = Path(name)
        raw = folder / "raw" / "Dataset001_Hippocampus"
        data = _raw_dataset(raw)
        places = {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
        planning = str(Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess"))
        prepare = [sys.executable, "-m", "mambasegment_training", "prepare", str(raw), "-o", str(folder / "work")]
        fit = [sys.executable, "-c", _OUR_FIRST_ITERATION, "fit", str(folder / "work"), "-o", str(folder / "run")]
        network = ["--set", "network.name=resenc_unet", "--device", "cpu"]
        # in turns, since a machine is not equally busy all the time
        ours = {"prepare_s": _seconds(prepare)}
        theirs = {"plan_and_preprocess_s": _seconds([planning, "-d", "1", "-c", "3d_fullres"], places)}
        ours["first_iteration_s"] = _seconds([*fit, *network])
        theirs["first_iteration_s"] = _seconds([sys.executable, "-c", _THEIR_FIRST_ITERATION], places)
    ours_s, theirs_s = sum(ours.values()), sum(theirs.values())
    return {
        "data": data,
        "cases": CASES,
        "ours": ours | {"total_s": ours_s},
        "nnunet": theirs | {"total_s": theirs_s},
        "ratio": ours_s / theirs_s,
    }


def _raw_dataset(folder: Path) -> str:
    """The real cases where they are at hand, else drawn ones of the same size; says which."""
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    real = sorted((REAL / "images").glob("*.nii.gz"))[:CASES]
    for image in real:
        shutil.copy(image, folder / "imagesTr" / image.name.replace(".nii.gz", "_0000.nii.gz"))
        shutil.copy(REAL / "labels" / image.name, folder / "labelsTr" / image.name)
    for seed in range(0 if real else CASES):
        phantom = hippocampus_phantom(seed)
        write_volume(phantom.image, folder / "imagesTr" / f"case{seed:02}_0000.nii.gz")
        write_volume(phantom.truth, folder / "labelsTr" / f"case{seed:02}.nii.gz")
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return "Decathlon hippocampus" if real else "drawn hippocampi"


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        started = time.perf_counter()
        done = subprocess.run(command, env={**os.environ, **(environment or {})}, stdout=said, stderr=said)
        elapsed_s = time.perf_counter() - started
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[:4]} failed: {said.read()[-2000:]}")
    return elapsed_s
