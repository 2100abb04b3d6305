"""Training against nnU-Net's own: from raw data to the first iteration.

Both start from the same raw data set in nnU-Net's layout, in processes of their own, with the commands that a user
types. nnU-Net is left with its defaults and stopped after its first iteration; ours also validates and saves.
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
_FIRST_ITERATION = """
import os, torch
from nnunetv2.run.run_training import get_trainer_from_args
trainer = get_trainer_from_args("1", "3d_fullres", 0, "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu"))
trainer.on_train_start()
trainer.on_epoch_start()
trainer.on_train_epoch_start()
trainer.train_step(next(trainer.dataloader_train))
os._exit(0)
"""


def run() -> dict[str, Any]:
    """All parts of this file."""
    return {"raw_to_first_iteration": raw_to_first_iteration()}


def raw_to_first_iteration() -> dict[str, Any]:
    """Seconds of each command, ours and nnU-Net's one after the other."""
    with tempfile.TemporaryDirectory(prefix="mambatrain-bench-") as name:
        folder = Path(name)
        raw = folder / "raw" / "Dataset001_Hippocampus"
        data = _raw_dataset(raw)
        program = [sys.executable, "-m", "mambasegment_training"]
        work, recipe = str(folder / "work"), ["network.name=resenc_unet", "steps_per_epoch=1", "epochs=1"]
        settings = [part for setting in recipe for part in ("--set", setting)]
        ours = {
            "prepare_s": _seconds([*program, "prepare", str(raw), "-o", work]),
            "fit_s": _seconds([*program, "fit", work, "-o", str(folder / "run"), "--device", "cpu", *settings]),
        }
        places = {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
        planning = str(Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess"))
        theirs = {
            "plan_and_preprocess_s": _seconds([planning, "-d", "1", "-c", "3d_fullres"], places),
            "first_iteration_s": _seconds([sys.executable, "-c", _FIRST_ITERATION], places),
        }
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
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - started
