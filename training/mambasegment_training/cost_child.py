"""Time and memory of a model on volumes of noise: a process of its own, so that the peak is the model's.

python -m mambasegment_training.cost_child MODEL DEVICE SIZES REPORT, where MODEL is a model file or a run folder, SIZES
a JSON list of (K, J, I) in ascending order and REPORT the JSON file to write.
"""

import json
import platform
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from MambaSegmentLib.bundle import read_bundle
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.openmp import let_waiting_threads_sleep

from .evaluation.subject import RunBundle
from .trained_fold import read_folds

_EVERY_S = 0.002


def measure(model: Path, device: str, sizes: list[list[int]]) -> dict[str, Any]:
    """Seconds and bytes of one pass of the first fold for each size; the first pass, which compiles, is not timed."""
    bundle = RunBundle(*read_folds([model])[:1]) if model.is_dir() else read_bundle(model)
    predictor = Predictor(bundle, device, quality="fast")
    loaded_bytes = _memory_bytes(predictor.device)
    channels = len(predictor.manifest.channels)
    rng = np.random.default_rng(0)
    predictor.scores(rng.standard_normal((channels, *sizes[0]), np.float32))
    rows = []
    for size in sizes:
        image = rng.standard_normal((channels, *size), np.float32)
        started = time.perf_counter()
        peak_bytes = _peak_bytes(partial(predictor.scores, image), predictor.device)
        seconds = time.perf_counter() - started
        rows.append({"size": size, "seconds": round(seconds, 4), "memory_bytes": max(0, peak_bytes - loaded_bytes)})
    return {"device": predictor.device.type, "hardware": _hardware(predictor.device), "rows": rows}


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def _peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most memory held at any moment of `run`: the allocator's own count on CUDA, else looked at all the time."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device))
    done = threading.Event()
    highest = [_memory_bytes(device)]

    def watch() -> None:
        process = psutil.Process()
        while not done.wait(_EVERY_S):
            highest.append(max(highest.pop(), int(process.memory_info().rss)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return highest[0]


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def main(arguments: list[str]) -> None:
    model, device, sizes, report = arguments
    let_waiting_threads_sleep()
    Path(report).write_text(json.dumps(measure(Path(model), device, json.loads(sizes))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
