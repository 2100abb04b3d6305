"""The forward pass of every network at its published size, each in a process of its own whose peak memory is taken.

`python -m Testing.benchmarks.networks NUMBER` measures one of `CANONICAL` in this process and prints JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch

from MambaSegmentLib.kernels import choose_backend
from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.canonical import CANONICAL, Canonical

from .cases import _peak_memory

LONG_S = 5.0
ROUNDS, ROUNDS_OF_LONG_ONES = 9, 3
TARGETS: Mapping[str, Mapping[str, float]] = {  # on 2 cores
    "LightM-UNet 3D": {"peak_memory_bytes": 2e9},
    "Swin-UMamba": {"median_s": 2.5},
    "Mamba-UNet": {"median_s": 0.5},
}


def run(titles: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """One row for each canonical network, or for those of the given titles."""
    numbers = [number for number, network in enumerate(CANONICAL) if titles is None or network.title in titles]
    return [_in_a_child(number) for number in numbers]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of `run` for people."""
    lines = [
        "",
        "One forward pass at the published size, a batch of one; peak memory of the whole process, weights and "
        "libraries included.",
        "",
        "| network | input | median | peak memory | before the pass | target |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['network']} | {' x '.join(map(str, row['input_shape'][1:]))} | {row['median_s']:.2f} s | "
            f"{row['peak_memory_bytes'] / 1e9:.2f} GB | {row['memory_before_bytes'] / 1e9:.2f} GB | "
            f"{_target(row)} |"
        )
    return lines


def measure(network: Canonical) -> dict[str, Any]:
    """Seconds of the forward pass and the peak memory of this process until now."""
    torch.manual_seed(0)
    net = build_model(network.architecture, network.options).eval()
    x = torch.randn(network.input_shape)
    process = psutil.Process()
    before = process.memory_info().rss
    with torch.inference_mode():
        warm_up_s = _seconds(net, x)
        rounds = ROUNDS_OF_LONG_ONES if warm_up_s > LONG_S else ROUNDS
        seconds = [_seconds(net, x) for _ in range(rounds)]
    return {
        "network": network.title,
        "architecture": network.architecture,
        "input_shape": list(network.input_shape),
        "backend": choose_backend(x.device, x.dtype).name,
        "threads": torch.get_num_threads(),
        "median_s": statistics.median(seconds),
        "seconds": seconds,
        "memory_before_bytes": before,
        # Linux adds up the pages of each processor now and then: its high-water mark can be some below what was read
        "peak_memory_bytes": max(before, _peak_memory(process)),
        "target": dict(TARGETS.get(network.title, {})),
    }


def _seconds(net: torch.nn.Module, x: torch.Tensor) -> float:
    begin = time.perf_counter()
    net(x)
    return time.perf_counter() - begin


def _in_a_child(number: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "Testing.benchmarks.networks", str(number)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(child.stdout)


def _target(row: Mapping[str, Any]) -> str:
    texts = []
    for key, limit in row["target"].items():
        wanted = f"{limit / 1e9:g} GB" if key.endswith("bytes") else f"{limit:g} s"
        texts.append(f"below {wanted}: {'met' if row[key] < limit else 'missed'}")
    return ", ".join(texts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, choices=range(len(CANONICAL)))
    print(json.dumps(measure(CANONICAL[parser.parse_args().number])))
