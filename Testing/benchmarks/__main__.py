"""Measure speed and memory on this machine: `make bench` writes docs/benchmarks/<name>.json and a table beside it."""

import argparse
import datetime
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import torch

import MambaSegmentLib
from MambaSegmentLib.files import atomic_path

from . import cases, click, directions, engine, networks, scan, training, training_iteration, training_step

PARTS: dict[str, Callable[[], Any]] = {
    "scan": scan.run,
    "directions": directions.run,
    "training_step": training_step.run,
    "cases": cases.run,
    "click": click.run,
    "networks": networks.run,
    "engine": engine.run,
    "training": training.run,
    "training_iteration": training_iteration.run,
}
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--name", default="cpu", help="of the files that are written; default: cpu")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="the others are kept; default: all"
    )
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole = len(arguments.parts) == len(PARTS)
    result = {} if whole else json.loads((FOLDER / f"{arguments.name}.json").read_text("utf-8"))
    for part in arguments.parts:
        on = machine()
        result[part] = PARTS[part]()
        result.setdefault("machines", {})[part] = on
        if not whole or part == arguments.parts[-1]:  # what was measured is kept, whatever happens to the next part
            _write(arguments.name, result)
    print(table(result))


def _write(name: str, result: dict[str, Any]) -> None:
    with atomic_path(FOLDER / f"{name}.json") as path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    with atomic_path(FOLDER / f"{name}.md") as path:
        path.write_text(table(result), encoding="utf-8")


def machine() -> dict[str, Any]:
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "mambasegment": MambaSegmentLib.__version__,
    }


def _processor() -> str:
    """The name and the vector units that matter, as Linux tells them."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor()
    lines = dict(line.split(":", 1) for line in information.read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = fields.get("flags", "").split()
    units = [unit for unit in ("avx2", "avx512f") if unit in flags]
    return f"{fields.get('model name', 'unknown')} ({', '.join(units)})"


def table(result: dict[str, Any]) -> str:
    """The same numbers for people."""
    step, whole = result["training_step"], result["cases"]
    lines = [
        *_machines(result["machines"]),
        "",
        *(scan_table(result["scan"]) if "cpp" in result["scan"] else []),  # a file of before lacks these
        *(directions_table(result["directions"]) if "directions" in result else []),
    ]
    lines += [
        "",
        "| what | time | peak memory |",
        "|---|---|---|",
        f"| training step, compact LightM-UNet, patch {tuple(step['patch'])} | {step['numba_s']:.2f} s "
        f"({step['chunked_s']:.1f} s with the chunked scan) | |",
        _case_row("`segment`, hippocampus crop, cold start", whole["hippocampus_cold"]),
        _case_row("`segment`, 256 x 256 x 128 at 1 mm", whole["large_256x256x128"]),
        f"| `mambasegment --help` | {whole['help_s']:.2f} s | |",
    ]
    if "click" in result:  # a file written before a part existed lacks it
        lines += click.table(result["click"])
    if "networks" in result:
        lines += networks.table(result["networks"])
    if "engine" in result:
        lines += engine.table(result["engine"])
    if "training" in result:
        lines += training.table(result["training"])
    if "training_iteration" in result:
        lines += training_iteration.table(result["training_iteration"])
    return "\n".join(lines) + "\n"


def _machines(machines: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each machine and day, with the parts that were measured there."""
    parts: dict[str, list[str]] = {}
    for part, on in machines.items():
        line = (
            f"Measured {on['date']} on {on['processor']}, {on['threads']} threads, torch {on['torch']}, "
            f"numba {on['numba']}"
        )
        parts.setdefault(line, []).append(part)
    if len(parts) == 1:
        return [f"{next(iter(parts))}."]
    return [f"- {line}: {', '.join(names)}." for line, names in parts.items()]


def scan_table(measured: dict[str, Any]) -> list[str]:
    lines = [
        "| scan: channels x length, layout | compiled | chunked | Python loop | loop / compiled | forward + backward |",
        "|---|---|---|---|---|---|",
    ]
    for row in measured["shapes"]:
        loop = f"{row['loop_ms']:.0f} ms | {row['times_faster_than_loop']:.0f}" if "loop_ms" in row else "not run | "
        lines.append(
            f"| {row['channels']} x {row['length']}, {row['layout']} | {row['numba_ms']:.1f} ms | "
            f"{row['chunked_ms']:.0f} ms | {loop} | {row['numba_forward_backward_ms']:.0f} ms |"
        )
    lines += ["", "| scan, channels-last, against C++ | compiled | C++ | time / C++ |", "|---|---|---|---|"]
    for row in measured["cpp"]:
        if "reason" in row:
            lines.append(f"| {row['reason']} | | | |")
            continue
        lines.append(
            f"| {row['channels']} x {row['length']}, {row['threads']} threads | {row['numba_ms']:.1f} ms, "
            f"{row['numba_elements_per_s'] / 1e6:.0f} M elements/s | {row['cpp_ms']:.1f} ms | "
            f"{row['time_over_cpp']:.2f} |"
        )
    lines += ["", "| scan, threads | one | two | faster |", "|---|---|---|---|"]
    for row in measured["threads"]:
        lines.append(
            f"| {row['channels']} x {row['length']} | {row['one_ms']:.1f} ms | {row['two_ms']:.1f} ms | "
            f"{row['times_faster_with_two']:.2f} |"
        )
    both = measured["forward_backward"]
    return [
        *lines,
        "",
        "| scan, forward + backward | compiled | chunked | chunked / compiled |",
        "|---|---|---|---|",
        f"| time, {both['channels']} x {both['length']} | {both['numba_ms']:.0f} ms | {both['chunked_ms']:.0f} ms | "
        f"{both['times_faster_than_chunked']:.1f} |",
        f"| memory beyond the inputs | {both['numba_extra_bytes'] / 1e6:.0f} MB | "
        f"{both['chunked_extra_bytes'] / 1e6:.0f} MB | {both['chunked_extra_bytes'] / both['numba_extra_bytes']:.1f} |",
        "",
    ]


def directions_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| directions of a map, forward | in place | one after the other, on copies | together, on copies | "
        "memory beyond the inputs |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        size = " x ".join(str(extent) for extent in row["spatial"])
        ways = ("in_place", "one_at_a_time", "separate")
        times = " | ".join(f"{row[f'{way}_ms']:.1f} ms" for way in ways)
        memory = ", ".join(f"{row[f'{way}_extra_bytes'] / 1e6:.0f}" for way in ways)
        lines.append(f"| {row['channels']} channels, {size}, {row['directions']} | {times} | {memory} MB |")
    return lines


def _case_row(name: str, case: dict[str, Any]) -> str:
    return f"| {name} | {case['wall_s']:.1f} s | {case['peak_memory_bytes'] / 1e9:.2f} GB |"


if __name__ == "__main__":
    main()
