"""An iteration of training against nnU-Net's own: the same network, patch, batch and data, in turns.

Each side runs in a process of its own with its defaults (nnU-Net with the processes of its data loader), on one patch
size and network, those that nnU-Net plans, with batches of two to fit a small machine. Time is the median of the
iterations after the first ones. Memory is the peak of the whole tree of processes, shared pages counted once (PSS), in
a run of its own: counting the pages holds up the process whose pages they are. Neither side has Triton, as after
`pip install torch` for a CPU; PyTorch's optimisers import it where it is installed.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.phantom import hippocampus_phantom

CASES, BATCH = 6, 2
WARM_UP, TIMED = 2, 6
WATCHED = 4  # iterations while memory is watched
_FIGURES = ("iteration_s", "peak_bytes")
_THEIRS = """
import sys
sys.modules["triton"] = None
import json, multiprocessing, os, sys, time, torch
from pathlib import Path
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from MambaSegmentLib.models import build_model
recipe, warm_up, timed = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[-2]), int(sys.argv[-1])
class Trainer(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(*arguments):
        *_, channels, classes, deep = arguments
        options = {"in_channels": channels, "num_classes": classes, "deep_supervision": deep}
        return build_model(recipe["network"]["name"], recipe["network"]["options"] | options)
    def set_deep_supervision_enabled(self, enabled):
        pass
folder = Path(os.environ["nnUNet_preprocessed"]) / "Dataset001_Hippocampus"
plans, dataset = (json.loads((folder / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
plans["continue_training"] = False  # as nnU-Net's own command adds it
trainer = Trainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
trainer.on_train_start()
trainer.on_epoch_start()
trainer.on_train_epoch_start()
seconds = []
for _ in range(warm_up + timed):
    begin = time.perf_counter()
    trainer.train_step(next(trainer.dataloader_train))
    seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds[warm_up:]))
sys.stdout.flush()
for worker in multiprocessing.active_children():  # of the data loader, which would go on without it
    worker.kill()
os._exit(0)
"""
_OURS = """
import sys
sys.modules["triton"] = None
import json, sys, time
from pathlib import Path
from mambasegment_training.config import config_from_json
from mambasegment_training.prepare import open_work
from mambasegment_training.ranks import ALONE
from mambasegment_training.run_parts import build_parts
from mambasegment_training.sampler import feed
from mambasegment_training.seeds import deterministic
warm_up, timed = int(sys.argv[-2]), int(sys.argv[-1])
config = config_from_json(json.loads(Path(sys.argv[1]).read_text()))
parts = build_parts(open_work(Path(sys.argv[2])), config, "cpu", ALONE)
batches, seconds = feed(parts.sampler, 0, parts.device), []
with deterministic(config.deterministic):
    for _ in range(warm_up + timed):
        begin = time.perf_counter()
        parts.stepper.take(next(batches), 1e-2, print)
        seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds[warm_up:]))
"""


def run(rounds: int = 2) -> dict[str, Any]:
    """Seconds an iteration and peak bytes of both sides, and the ratios ours / nnU-Net's."""
    with tempfile.TemporaryDirectory(prefix="mambatrain-bench-") as name:
        folder = Path(name)
        ours, theirs = _commands(folder)
        environment = os.environ | {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
        turns = [(_measured(ours, environment), _measured(theirs, environment)) for _ in range(rounds)]
    return {
        "network": "resenc_unet with the stages that nnU-Net plans",
        "batch": BATCH,
        "rounds": [{"ours": one, "nnunet": other} for one, other in turns],
        "ratio_seconds": statistics.median(one["iteration_s"] / other["iteration_s"] for one, other in turns),
        "ratio_memory": statistics.median(one["peak_bytes"] / other["peak_bytes"] for one, other in turns),
    }


def table(measured: dict[str, Any]) -> list[str]:
    """For people; medians of the rounds."""
    rows = []
    for who, side in (("ours", "ours"), ("nnU-Net's trainer", "nnunet")):
        seconds, peak = (statistics.median(turn[side][key] for turn in measured["rounds"]) for key in _FIGURES)
        rows.append(f"| {who} | {seconds:.2f} s | {peak / 1e9:.2f} GB |")
    return [
        "",
        f"| training iteration, {measured['network']}, batch {measured['batch']} | time | memory of the processes |",
        "|---|---|---|",
        *rows,
        f"| ours / nnU-Net's | {measured['ratio_seconds']:.2f} | {measured['ratio_memory']:.2f} |",
    ]


def _commands(folder: Path) -> tuple[list[str], list[str]]:
    """Prepare the data both ways, and give the two commands to time."""
    raw = folder / "raw" / "Dataset001_Hippocampus"
    for kind in ("imagesTr", "labelsTr"):
        (raw / kind).mkdir(parents=True)
    for seed in range(CASES):
        phantom = hippocampus_phantom(seed)
        write_volume(phantom.image, raw / "imagesTr" / f"case{seed:02}_0000.nii.gz")
        write_volume(phantom.truth, raw / "labelsTr" / f"case{seed:02}.nii.gz")
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    facts = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": CASES, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    environment = os.environ | {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
    planning = [str(Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")), "-d", "1", "-c", "3d_fullres"]
    subprocess.run([*planning, "-np", "1", "-npfp", "1"], env=environment, check=True, capture_output=True)
    plans_file = folder / "preprocessed" / raw.name / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    plan = plans["configurations"]["3d_fullres"]
    plan["batch_size"] = BATCH
    plans_file.write_text(json.dumps(plans), encoding="utf-8")
    prepare = [sys.executable, "-m", "mambasegment_training", "prepare", str(raw), "-o", str(folder / "work")]
    subprocess.run(prepare, check=True, capture_output=True)
    (folder / "recipe.json").write_text(json.dumps(_recipe(plan)), encoding="utf-8")
    recipe = str(folder / "recipe.json")
    return [sys.executable, "-c", _OURS, recipe, str(folder / "work")], [sys.executable, "-c", _THEIRS, recipe]


def _recipe(plan: dict[str, Any]) -> dict[str, Any]:
    """What nnU-Net's trainer does with that plan."""
    given = plan["architecture"]["arch_kwargs"]
    options = {name: given[name] for name in ("features_per_stage", "kernel_sizes", "strides")}
    return {
        "ema_decay": None,
        "network": {"name": "resenc_unet", "options": {"spatial_dims": 3, **options}},
        "data": {"patch_size": plan["patch_size"], "batch_size": BATCH, "foreground_fraction": 0.33},
        "augment": {"mirror_axes": [0, 1, 2]},
        "loss": {"deep_supervision": True, "batch_dice": plan["batch_dice"]},
        "optimizer": {"name": "sgd", "learning_rate": 1e-2, "weight_decay": 3e-5, "decay_all": True},
    }


def _measured(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    seconds, _ = _run(command, environment, WARM_UP, TIMED)
    _, peak = _run(command, environment, WARM_UP, WATCHED, watched=True)
    return {"iteration_s": statistics.median(seconds), "peak_bytes": peak, "seconds": seconds}


def _run(
    command: list[str], environment: dict[str, str], warm_up: int, timed: int, *, watched: bool = False
) -> tuple[list[float], int]:
    """Seconds of each timed iteration, and if watched the peak of memory."""
    counted = [*command, str(warm_up), str(timed)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(counted, env=environment, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8")
        peak = 0
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process.pid)) if watched else 0
            time.sleep(0.2)
        said = process.stdout.read() if process.stdout is not None else ""
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read()[-2000:])
    return json.loads(said.splitlines()[-1]), peak


def _tree_bytes(pid: int) -> int:
    """PSS of a process and all below it; what ends meanwhile counts nothing."""
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
