"""Twenty small cases, whole processes from files to files: `mambasegment batch` against `nnUNetv2_predict`.

Both use one results folder of nnU-Net, written here with random weights; ours after `models import`.
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

import numpy as np
import psutil

ROUNDS, CASES, SHAPE = 2, 20, (40, 48, 56)
TITLE = f"`batch` of {CASES} cases of 56 x 48 x 40, nnU-Net's own small U-Net, mirrored, against `nnUNetv2_predict`"
_DATASET, _CONFIGURATION = "Dataset901_Made", "3d_fullres"


def run() -> dict[str, Any]:
    """Median seconds of each side, and of the rounds' ratios."""
    with tempfile.TemporaryDirectory(prefix="mambasegment-bench-") as name:
        folder = Path(name)
        _write_model(folder)
        _write_images(folder / "images")
        rounds = [(_seconds(_ours(folder, n)), _seconds(_theirs(folder, n), _paths(folder))) for n in range(ROUNDS)]
    medians = {
        side: {key: statistics.median(pair[number][key] for pair in rounds) for key in rounds[0][number]}
        for number, side in enumerate(("ours", "nnunet"))
    }
    return {**medians, "time_ratio": statistics.median(one["wall_s"] / other["wall_s"] for one, other in rounds)}


def _write_model(folder: Path) -> None:
    from Testing.foreign_models import a_network, authors_state_dict, checkpoint_of, dataset_of, plans_of, write_results
    from Testing.library.importing.test_stock_nnunet import newer_configuration

    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    sizes = {"features_per_stage": [6, 8, 8], "kernel_sizes": 3, "decoder_blocks": [1, 1], "encoder_blocks": [2, 1, 1]}
    options = {"spatial_dims": 3, "strides": strides, "in_channels": 1, "num_classes": 3, **sizes}
    configuration = newer_configuration("PlainConvUNet", "n_conv_per_stage", [2, 1, 1], spacing=[1.2, 1.1, 1.1])
    configuration |= {"patch_size": [32, 48, 48]}
    network = a_network("plain_conv_unet", options)
    state = authors_state_dict("plain_conv_unet", network)
    weights = {"0": checkpoint_of("nnUNetTrainer", _CONFIGURATION, state, inference_allowed_mirroring_axes=(0, 1, 2))}
    results = folder / "results" / _DATASET / f"nnUNetTrainer__nnUNetPlans__{_CONFIGURATION}"
    write_results(results, plans_of({_CONFIGURATION: configuration}), dataset_of(), weights)
    command = [sys.executable, "-m", "MambaSegmentLib", "models", "import", str(results), "-o"]
    subprocess.run([*command, str(folder / "m.safetensors"), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def _write_images(folder: Path) -> None:
    from MambaSegmentLib.image_io import write_volume
    from MambaSegmentLib.volume import Volume

    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(CASES):
        array = np.cumsum(generator.normal(0, 10, SHAPE), axis=1).astype(np.float32) + 500
        write_volume(Volume(array, spacing_mm=(1.0, 1.0, 1.2)), folder / f"case{number:02}_0000.nii.gz")


def _ours(folder: Path, number: int) -> list[str]:
    command = [sys.executable, "-m", "MambaSegmentLib", "batch", str(folder / "images"), "--device", "cpu", "--quiet"]
    return [*command, "-m", str(folder / "m.safetensors"), "-o", str(folder / f"ours{number}"), "--ending", ".nii.gz"]


def _theirs(folder: Path, number: int) -> list[str]:
    entry = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point; predict_entry_point()"
    where = ["-i", str(folder / "images"), "-o", str(folder / f"theirs{number}")]
    return [sys.executable, "-c", entry, *where, "-d", "901", "-c", _CONFIGURATION, "-f", "0", "-device", "cpu"]


def _paths(folder: Path) -> dict[str, str]:
    return {name: str(folder / name[7:]) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> dict[str, float]:
    """Of the whole process and those that it starts."""
    begin, before = time.perf_counter(), psutil.Process().cpu_times()
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    wall_s, after = time.perf_counter() - begin, psutil.Process().cpu_times()
    if done.returncode:
        raise RuntimeError(f"{json.dumps(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    children = ("children_user", "children_system")  # of those that ended, and of theirs
    return {"wall_s": wall_s, "cpu_s": sum(getattr(after, name) - getattr(before, name) for name in children)}
