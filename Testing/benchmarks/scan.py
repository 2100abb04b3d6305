"""The scan with softplus, bias, D and gate: compiled, chunked, and as a Python loop over the sequence."""

from typing import Any

import torch

from MambaSegmentLib.kernels import selective_scan

from .python_loop import selective_scan_loop
from .timing import median_seconds

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


def run() -> list[dict[str, Any]]:
    rows = []
    for channels, length, layout in SHAPES:
        arguments = scan_arguments(channels, length, layout)
        with torch.inference_mode():
            fast = median_seconds({name: _forward(name, arguments) for name in ("numba", "chunked")}, rounds=7)
            loop = (
                median_seconds({"loop": lambda a=arguments: selective_scan_loop(**a)}, rounds=2)
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
        rows.append(row)
    return rows


def _forward(backend: str, arguments: dict[str, Any]) -> Any:
    return lambda: selective_scan(**arguments, delta_softplus=True, backend=backend)


def _forward_backward(backend: str, arguments: dict[str, Any]) -> Any:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in arguments.items()}

    def step() -> Any:
        y = selective_scan(**leaves, delta_softplus=True, backend=backend)
        return torch.autograd.grad(y, list(leaves.values()), torch.ones_like(y))

    return step
