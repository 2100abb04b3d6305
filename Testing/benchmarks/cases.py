"""Whole cases through the command line, each in a process of its own whose peak memory counts everything."""

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

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.phantom import hippocampus_phantom
from MambaSegmentLib.volume import Volume

LARGE_SHAPE = (128, 256, 256)  # (K, J, I) at 1 mm


def run(model: str = "hippocampus-t1") -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "hippocampus.nii.gz", Path(folder) / "large.nii.gz"
        write_volume(hippocampus_phantom().image, small)
        write_volume(_smooth_noise(LARGE_SHAPE), large)
        repeats = [_segment(small, model) for _ in range(5)]
        return {
            "help_s": statistics.median(_wall_s(["--help"]) for _ in range(7)),
            "hippocampus_cold": {
                key: statistics.median(r[key] for r in repeats) for key in ("wall_s", "peak_memory_bytes")
            }
            | {"timings_s": repeats[0]["timings_s"]},
            "large_256x256x128": _segment(large, model),
        }


def _smooth_noise(shape: tuple[int, int, int]) -> Volume:
    """Structure at many scales, so that no step has it easy: noise, summed from coarse to fine."""
    generator = np.random.default_rng(0)
    array = np.zeros(shape, np.float32)
    for factor in (32, 8, 2):
        coarse = generator.standard_normal([size // factor for size in shape]).astype(np.float32)
        array += factor * np.kron(coarse, np.ones([factor] * 3, np.float32))
    return Volume(array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def _segment(image: Path, model: str) -> dict[str, Any]:
    """Wall time of a cold process, its peak memory, and the times it reports of its own stages."""
    output = image.with_name("labels.seg.nrrd")
    command = [
        sys.executable,
        "-m",
        "MambaSegmentLib",
        "segment",
        str(image),
        "-m",
        model,
        "-o",
        str(output),
        "--json",
        "--quiet",
    ]
    begin = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak_memory(process))
        time.sleep(0.02)
    wall_s = time.perf_counter() - begin
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return {"wall_s": wall_s, "peak_memory_bytes": peak, "timings_s": report["timings"]}


def _peak_memory(process: psutil.Popen) -> int:
    """The kernel's own high-water mark where it keeps one (Linux, Windows), else the memory in use now."""
    try:
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
            return int(line.split()[1]) * 1024
        memory = process.memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0


def _wall_s(arguments: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "MambaSegmentLib", *arguments], check=True, stdout=subprocess.DEVNULL, env=os.environ
    )
    return time.perf_counter() - begin
