"""SS2D's four directions: walked in place by one call, against four scans of reordered copies."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from MambaSegmentLib.kernels import Direction, all_directions, directional_scan, row_major, selective_scan

from .timing import median_seconds, peak_memory_bytes

# channels D of the scan, spatial size, directions: stages of the networks, and LightM-UNet's and its six-direction kin
SHAPES: list[tuple[int, tuple[int, ...], str]] = [
    (192, (56, 56), "four"),
    (384, (28, 28), "four"),
    (192, (160, 160), "four"),
    (64, (48, 48, 48), "six"),
    (64, (48, 48, 48), "row-major"),
]
STATES = 16


def directions_of(name: str, spatial_dims: int) -> tuple[Direction, ...]:
    return row_major(spatial_dims) if name == "row-major" else all_directions(spatial_dims)


def arguments_of(channels: int, spatial: tuple[int, ...], name: str) -> dict[str, Any]:
    """Channels-last tensors as SS2D has them."""
    generator = torch.Generator().manual_seed(0)
    directions = directions_of(name, len(spatial))
    count = len(directions)

    def image(*width: int) -> Tensor:
        tensor = torch.randn(1, *spatial, *width, generator=generator)
        return tensor.permute(0, *range(-len(width), 0), *range(1, 1 + len(spatial)))

    return {
        "u": image(channels),
        "delta": 0.5 * image(count * channels) - 2,
        "A": -torch.arange(1.0, STATES + 1).repeat(count * channels, 1),
        "B": image(count, STATES),
        "C": image(count, STATES),
        "D": torch.ones(count * channels),
        "delta_bias": torch.zeros(count * channels),
        "directions": directions,
    }


def separate_scans(a: dict[str, Any]) -> Tensor:
    """The usual way: reordered copies stacked for a scan in groups of channels, and the results put back and added."""
    u, directions = a["u"], a["directions"]
    copies = torch.cat([d.tokens(u) for d in directions], dim=1)
    delta = torch.cat(
        [d.tokens(part) for d, part in zip(directions, a["delta"].chunk(len(directions), 1), strict=True)], 1
    )
    B, C = (torch.stack([d.tokens(a[name][:, k]) for k, d in enumerate(directions)], 1) for name in ("B", "C"))
    y = selective_scan(copies, delta, a["A"], B, C, a["D"], delta_bias=a["delta_bias"], delta_softplus=True)
    assert isinstance(y, Tensor)
    parts = y.chunk(len(directions), 1)
    total = torch.zeros_like(u)
    for direction, part in zip(directions, parts, strict=True):
        total += direction.image(part, u.shape[2:])
    return total


def one_at_a_time(a: dict[str, Any]) -> Tensor:
    """Less memory, the same copies: four scans, one after the other."""
    u, directions, channels = a["u"], a["directions"], a["u"].shape[1]
    total = torch.zeros_like(u)
    for k, direction in enumerate(directions):
        rows = slice(k * channels, (k + 1) * channels)
        y = selective_scan(
            direction.tokens(u), direction.tokens(a["delta"][:, rows]), a["A"][rows], direction.tokens(a["B"][:, k]),
            direction.tokens(a["C"][:, k]), a["D"][rows], delta_bias=a["delta_bias"][rows], delta_softplus=True,
        )  # fmt: skip
        assert isinstance(y, Tensor)
        total += direction.image(y, u.shape[2:])
    return total


def in_place(a: dict[str, Any]) -> Tensor:
    return directional_scan(**a)


WAYS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "in_place": in_place, "one_at_a_time": one_at_a_time, "separate": separate_scans,
}  # fmt: skip


def run() -> list[dict[str, Any]]:
    rows = []
    for channels, spatial, name in SHAPES:
        a = arguments_of(channels, spatial, name)
        with torch.inference_mode():
            seconds = median_seconds({way: partial(f, a) for way, f in WAYS.items()}, rounds=9)
        memory = {way: _extra_memory(way, channels, spatial, name) for way in WAYS}
        rows.append(
            {"channels": channels, "spatial": spatial, "directions": name}
            | {f"{way}_ms": 1e3 * s for way, s in seconds.items()}
            | {f"{way}_extra_bytes": m for way, m in memory.items()}
            | {"times_faster_than_separate": seconds["separate"] / seconds["in_place"]}
            | {"times_faster_than_one_at_a_time": seconds["one_at_a_time"] / seconds["in_place"]}
        )
    return rows


def _extra_memory(way: str, channels: int, spatial: tuple[int, ...], name: str) -> int:
    """Peak memory of a call beyond the inputs, in a process of its own."""
    call = f"from Testing.benchmarks.directions import memory; memory({way!r}, {channels}, {spatial!r}, {name!r})"
    done = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory(way: str, channels: int, spatial: tuple[int, ...], name: str) -> None:
    small = arguments_of(16, (4,) * len(spatial), name)
    with torch.inference_mode():
        WAYS[way](small)  # code and threads are there before the count starts
        a = arguments_of(channels, spatial, name)
        before = peak_memory_bytes(reset=True)
        F.relu(WAYS[way](a), inplace=True)
    print(json.dumps(peak_memory_bytes() - before))
