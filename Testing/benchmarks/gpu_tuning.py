"""How the CUDA scan's time depends on numbers chosen from arithmetic: gpu_plan.py and EXPONENTIALS_ON_FMA."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from MambaSegmentLib.kernels import cuda_source_text, gpu_plan

from .gpu_cases import ScanCase, forward, forward_backward
from .gpu_timing import graph_ms

CASES = [ScanCase(1, 64, 100_000), ScanCase(1, 768, 16_384), ScanCase(1, 768, 16_384, torch.bfloat16)]
PLANS: list[dict[str, int]] = [
    {},
    *({"WANTED_WARPS": warps} for warps in (8, 12, 16, 36, 48)),
    *({"SHORTEST_CHUNK": steps} for steps in (32, 128, 256)),
    {"FULL_WARPS": 1},  # fewer sequences are cut
    {"FULL_WARPS": 32},  # more are
    *({"EXPONENTIALS_ON_FMA": share} for share in (1, 2, 4)),
]


def rows(left_s: Callable[[], float], device: torch.device) -> Iterator[dict[str, Any]]:
    """A row for each case and each change of one number; stops when the time is over."""
    for case in CASES:
        inputs = case.inputs(device, channels_last=True)
        for change in PLANS:
            if left_s() < 0:
                return
            with changed(change):
                row: dict[str, Any] = {"case": str(case), "change": change}
                for what, make in (("forward", forward), ("forward+backward", forward_backward)):
                    try:
                        row[f"{what}_graph_ms"] = graph_ms(make(inputs, "cuda"), device)
                    except Exception as error:  # the other numbers are still worth having
                        row[f"{what}_reason"] = f"{type(error).__name__}: {str(error)[:300]}"
                yield row


@contextlib.contextmanager
def changed(change: dict[str, int]) -> Iterator[None]:
    """Put the numbers in place, and those that were there back."""
    home = {name: cuda_source_text if name == "EXPONENTIALS_ON_FMA" else gpu_plan for name in change}
    before = {name: getattr(module, name) for name, module in home.items()}
    try:
        for name, module in home.items():
            setattr(module, name, change[name])
        yield
    finally:
        for name, module in home.items():
            setattr(module, name, before[name])
