"""The scan with softplus, bias, D and gate: compiled, chunked, as a Python loop, and against the same in C++."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from MambaSegmentLib.kernels import selective_scan

from . import scan_yardstick
from .python_loop import selective_scan_loop
from .timing import median_seconds, paired_seconds, peak_memory_bytes

# channels, length, layout; the Python loop is timed where it fits memory (B, D, L, N) and patience
SHAPES = [
    (64, 32768, "channels-last"),
    (64, 32768, "contiguous (B, D, L)"),
    (32, 89600, "channels-last"),
    (256, 4096, "channels-last"),
    (512, 512, "channels-last"),
]
LOOP_ELEMENTS = 64 * 32768
STATES = 16
LONG = (64, 262144, "channels-last")  # too long for a loop: for the yardstick and the threads
FEW_CHANNELS = (16, 262144, "channels-last")  # one block of channels: the sequence is cut into chunks


def scan_arguments(channels: int, length: int, layout: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def sequence(width: int) -> torch.Tensor:
        return normal(1, length, width).transpose(1, 2) if layout == "channels-last" else normal(1, width, length)

    A = -torch.arange(1.0, STATES + 1).repeat(channels, 1)
    names = {"u": channels, "delta": channels, "B": STATES, "C": STATES, "z": channels}
    sequences = {name: sequence(width) for name, width in names.items()}
    sequences["delta"] = 0.5 * sequences["delta"] - 2
    return {**sequences, "A": A, "D": normal(channels), "delta_bias": normal(channels)}


def run() -> dict[str, Any]:
    return {
        "shapes": [_row(*shape) for shape in SHAPES],
        "cpp": [
            _against_cpp(shape, threads) for shape in (SHAPES[0], LONG) for threads in (1, torch.get_num_threads())
        ],
        "threads": [_scaling(shape) for shape in (LONG, FEW_CHANNELS)],
        "forward_backward": _training(*SHAPES[0]),
    }


def _row(channels: int, length: int, layout: str) -> dict[str, Any]:
    arguments = scan_arguments(channels, length, layout)
    with torch.inference_mode():
        fast = median_seconds({name: _forward(name, arguments) for name in ("numba", "chunked")}, rounds=7)
        loop = (
            median_seconds({"loop": lambda: selective_scan_loop(**arguments)}, rounds=2)
            if channels * length <= LOOP_ELEMENTS
            else {}
        )
    both = median_seconds({"numba": _forward_backward("numba", arguments)}, rounds=5)
    row = {
        "channels": channels, "length": length, "states": STATES, "layout": layout,
        "numba_ms": 1e3 * fast["numba"], "chunked_ms": 1e3 * fast["chunked"],
        "numba_forward_backward_ms": 1e3 * both["numba"],
    }  # fmt: skip
    if loop:
        row["loop_ms"] = 1e3 * loop["loop"]
        row["times_faster_than_loop"] = loop["loop"] / fast["numba"]
    return row


def _against_cpp(shape: tuple[int, int, str], threads: int) -> dict[str, Any]:
    """Median of the ratios of pairs of runs, ours over the C++ kernel's; empty where there is no compiler."""
    yardstick = scan_yardstick.compiled()
    if yardstick is None:
        return {"reason": "no g++ here"}
    arguments = scan_arguments(*shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            y, expected = selective_scan(**arguments, delta_softplus=True, backend="numba"), yardstick(**arguments)
            torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-4)
            pair = paired_seconds(_forward("numba", arguments), lambda: yardstick(**arguments), rounds=15)
    finally:
        torch.set_num_threads(before)
    elements = shape[0] * shape[1]
    return {
        "channels": shape[0], "length": shape[1], "threads": threads, "time_over_cpp": pair.ratio,
        "numba_ms": 1e3 * pair.first, "cpp_ms": 1e3 * pair.second,
        "numba_elements_per_s": elements / pair.first, "cpp_elements_per_s": elements / pair.second,
    }  # fmt: skip


def _scaling(shape: tuple[int, int, str]) -> dict[str, Any]:
    """Two threads against one; on a machine that does other work at the time this says nothing."""
    arguments, before = scan_arguments(*shape), torch.get_num_threads()

    def with_threads(count: int) -> Callable[[], object]:
        forward = _forward("numba", arguments)

        def call() -> object:
            torch.set_num_threads(count)
            return forward()

        return call

    try:
        with torch.inference_mode():
            pair = paired_seconds(with_threads(1), with_threads(2), rounds=15)
    finally:
        torch.set_num_threads(before)
    return {
        "channels": shape[0], "length": shape[1], "one_ms": 1e3 * pair.first, "two_ms": 1e3 * pair.second,
        "times_faster_with_two": pair.ratio,
    }  # fmt: skip


def _training(channels: int, length: int, layout: str) -> dict[str, Any]:
    arguments = scan_arguments(channels, length, layout)
    steps = {name: _forward_backward(name, arguments) for name in ("chunked", "numba")}
    pair = paired_seconds(steps["chunked"], steps["numba"], rounds=5)
    memory = {name: _extra_memory(name, channels, length, layout) for name in steps}
    return {
        "channels": channels, "length": length, "times_faster_than_chunked": pair.ratio,
        "chunked_ms": 1e3 * pair.first, "numba_ms": 1e3 * pair.second,
        "chunked_extra_bytes": memory["chunked"], "numba_extra_bytes": memory["numba"],
    }  # fmt: skip


def _extra_memory(backend: str, channels: int, length: int, layout: str) -> int:
    """Peak memory of a forward and backward pass beyond the inputs, in a process of its own."""
    call = f"from Testing.benchmarks.scan import memory; memory({backend!r}, {channels}, {length}, {layout!r})"
    done = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory(backend: str, channels: int, length: int, layout: str) -> None:
    _forward_backward(backend, scan_arguments(channels, 1024, layout))()  # code and threads, before the count starts
    step = _forward_backward(backend, scan_arguments(channels, length, layout))
    before = peak_memory_bytes(reset=True)
    gradients = step()
    print(json.dumps(peak_memory_bytes() - before))
    del gradients


def _forward(backend: str, arguments: dict[str, Any]) -> Any:
    return lambda: selective_scan(**arguments, delta_softplus=True, backend=backend)


def _forward_backward(backend: str, arguments: dict[str, Any]) -> Any:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in arguments.items()}

    def step() -> Any:
        y = selective_scan(**leaves, delta_softplus=True, backend=backend)
        return torch.autograd.grad(y, list(leaves.values()), torch.ones_like(y))

    return step
