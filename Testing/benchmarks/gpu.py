"""The scan on a GPU: builds, checks against the recurrence in double precision, and times everything in one call.

    python -m Testing.benchmarks.gpu --mamba-ssm FOLDER --output gpu.json      from the repository's root

Needs Python 3.11 or newer, torch, numpy, and one of triton and cuda-bindings; mamba-ssm's source distribution in FOLDER
and nvcc for the comparison with it. Reads no network. What cannot run leaves a row with the reason; the file is
written anew after each row, so a run that is cut short keeps what it has. With --dry-run everything is tiny and runs on
the CPU, Triton in its interpreter: the numbers then mean nothing, but the script has been run.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DRY_RUN = "--dry-run" in sys.argv
if DRY_RUN:
    os.environ["TRITON_INTERPRET"] = "1"  # Triton looks when it is imported

import torch  # noqa: E402

from MambaSegmentLib.files import atomic_path  # noqa: E402
from MambaSegmentLib.kernels import available_backends, selective_scan  # noqa: E402

from . import gpu_floors, gpu_timing, gpu_tuning  # noqa: E402
from .gpu_cases import (  # noqa: E402
    ImageCase,
    Inputs,
    MambaSsm,
    ScanCase,
    forward,
    forward_backward,
    image_forward,
    image_forward_backward,
)
from .gpu_mamba_ssm import Build  # noqa: E402
from .gpu_timing import graph_ms, median_ms, sets_for  # noqa: E402

OURS = ("cuda", "triton")
half = torch.bfloat16
SCANS = [
    ScanCase(1, 64, 100_000), ScanCase(1, 128, 100_000), ScanCase(1, 768, 16_384), ScanCase(1, 64, 2_000_000),
    ScanCase(1, 32, 100_000), ScanCase(1, 1536, 4_096), ScanCase(1, 768, 65_536, half), ScanCase(1, 64, 100_000, half),
    ScanCase(1, 64, 1_000), ScanCase(1, 256, 32_768), ScanCase(8, 768, 4_096), ScanCase(1, 32, 2_000_000, half),
    ScanCase(1, 384, 1_000), ScanCase(2, 1536, 16_384, half),
]  # fmt: skip
IMAGES = [ImageCase(1, 192, 56, 56), ImageCase(8, 192, 56, 56), ImageCase(1, 192, 256, 256), ImageCase(8, 384, 28, 28)]
CHECKED = [ScanCase(2, 80, 333), ScanCase(1, 40, 700, half)]
if DRY_RUN:
    SCANS, IMAGES = [ScanCase(1, 2, 18, states=1)], [ImageCase(1, 2, 2, 3, states=1)]
    CHECKED = [ScanCase(1, 2, 18, states=2)]
    gpu_timing.SECONDS, gpu_timing.FEWEST_ROUNDS = 0.0, 2
TOLERANCE = {torch.float32: 1e-5, half: 2e-2}


class Report:
    """The numbers so far, on disk after each of them."""

    def __init__(self, output: Path, minutes: float) -> None:
        self.output, self.started = output, time.perf_counter()
        self.seconds = 60 * minutes
        self.values: dict[str, Any] = {"machine": machine(), "checks": [], "scans": [], "images": [], "tuning": []}

    def left_s(self) -> float:
        return self.seconds - (time.perf_counter() - self.started)

    def add(self, part: str, row: dict[str, Any]) -> None:
        self.values[part].append(row)
        print(json.dumps({part: row}), flush=True)
        self.write()

    def write(self) -> None:
        self.values["elapsed_s"] = time.perf_counter() - self.started
        with atomic_path(self.output) as path:
            path.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    options = parsed()
    device = torch.device("cpu" if DRY_RUN else "cuda")
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    report = Report(options.output, options.minutes)
    with tempfile.TemporaryDirectory() as work, building(options.mamba_ssm, Path(work), device, report) as build:
        report.values["floors"] = gpu_floors.measure(device, 1 << 20 if DRY_RUN else 1 << 31)
        report.write()
        usable = usable_backends(report)
        for name in usable:
            for case in CHECKED:
                check(report, name, case, device)
        if build is not None:
            compile_all(report, usable, device)  # while the other build goes on
        rival = finished(build, report)
        for case in SCANS:
            for row in scan_rows(report, case, usable, rival, device):
                report.add("scans", row)
        for image in IMAGES:
            for row in image_rows(report, image, usable, rival, device):
                report.add("images", row)
        if "cuda" in usable:
            for row in gpu_tuning.rows(report.left_s, device):
                report.add("tuning", row)
    report.values["complete"] = report.left_s() > 0
    report.write()
    print(table(report.values))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Testing.benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="file that is written; default: gpu.json")
    parser.add_argument("--mamba-ssm", type=Path, help="folder with mamba_ssm-*.tar.gz; without it its rows say so")
    parser.add_argument("--minutes", type=float, default=9.0, help="no new row is begun after these; default: 9")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "dry_run": DRY_RUN,
        "device": None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": output_of("git", "rev-parse", "HEAD"),
        "nvcc": output_of("nvcc", "--version"),
        "driver": output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        **{name: version_of(name) for name in ("triton", "cuda-bindings", "nvidia-cuda-nvrtc", "numpy")},
    }
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(torch.cuda.current_device())
        found.update(
            device=facts.name, capability=[facts.major, facts.minor], multiprocessors=facts.multi_processor_count,
            memory_bytes=facts.total_memory,
        )  # fmt: skip
    return found


def output_of(*command: str) -> str | None:
    """The last line that a program prints, None without the program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[-1] if done.returncode == 0 and lines else None


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextlib.contextmanager
def building(folder: Path | None, work: Path, device: torch.device, report: Report) -> Iterator[Build | None]:
    """mamba-ssm's build, in the background."""
    report.values["mamba_ssm"] = {"state": "not built: no folder was given"}
    build = None
    if folder is not None and device.type != "cuda":
        report.values["mamba_ssm"] = {"state": "not built: no GPU"}
    elif folder is not None:
        major, minor = torch.cuda.get_device_capability(device)
        try:
            build = Build(folder, work, 10 * major + minor)
        except Exception as error:  # the other rows are still worth having
            report.values["mamba_ssm"] = {"state": f"not built: {type(error).__name__}: {error}"}
    try:
        yield build
    finally:
        if build is not None:
            build.stop()


def compile_all(report: Report, usable: list[str], device: torch.device) -> None:
    """Run each case once and throw the result away: kernels are compiled for sizes and dtypes, and kept."""
    for case in SCANS:
        for name in usable:
            if report.left_s() > 0.5 * report.seconds:
                timed(report, lambda case=case, name=name: [forward_backward(case.inputs(device, True), name)], device)  # type: ignore[misc]


def finished(build: Build | None, report: Report) -> MambaSsm | None:
    """Wait for the build, but leave time for the rows that do not need it."""
    if build is None:
        return None
    try:
        extension = build.finish(timeout_s=report.left_s() - 0.35 * report.seconds)
    except Exception as error:  # as above
        report.values["mamba_ssm"] = {"state": f"not built: {type(error).__name__}: {error}"}
        report.write()
        return None
    after_s = time.perf_counter() - report.started
    report.values["mamba_ssm"] = {"state": "built", "archive": build.archive.name, "ready_after_s": after_s}
    report.write()
    return MambaSsm(extension)


def usable_backends(report: Report) -> list[str]:
    """Of ours, with the reason of those that are not."""
    found = {info.name: info for info in available_backends()}
    report.values["backends"] = {name: found[name].reason for name in OURS}
    return [name for name in OURS if found[name].available]


def check(report: Report, backend: str, case: ScanCase, device: torch.device) -> None:
    """Values and gradients against the recurrence in double precision, new memory filled with NaN beforehand."""
    row: dict[str, Any] = {"backend": backend, "case": str(case)}
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for channels_last in (True, False):
            inputs = case.inputs(device, channels_last, seed=int(time.time()))
            expected = results({name: tensor.double() for name, tensor in inputs.items()}, "reference")
            actual = results(inputs, backend)
            errors = {
                name: float((actual[name].double() - wanted).norm() / wanted.norm())
                for name, wanted in expected.items()
            }
            row["channels_last" if channels_last else "contiguous"] = errors
            row["right"] = row.get("right", True) and all(error < TOLERANCE[case.dtype] for error in errors.values())
    except Exception as error:  # a row that says what failed is the point of a check
        row.update(right=False, reason=f"{type(error).__name__}: {error}")
    torch.use_deterministic_algorithms(False)
    report.add("checks", row)


def results(inputs: Inputs, backend: str) -> dict[str, torch.Tensor]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    y = selective_scan(**leaves, delta_softplus=True, backend=backend)
    assert isinstance(y, torch.Tensor)
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(y.shape, generator=generator).to(y.device, y.dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


def scan_rows(
    report: Report, case: ScanCase, usable: list[str], rival: MambaSsm | None, device: torch.device
) -> Iterator[dict[str, Any]]:
    """One row for a candidate, a layout and a pass."""
    bytes_each = torch.tensor([], dtype=case.dtype).element_size()
    sets = sets_for(4 * case.batch * case.channels * case.length * bytes_each)
    floors = gpu_floors.floor_ms(
        report.values["floors"], case.batch, case.channels, case.length, case.states, bytes_each, tensors=4
    )
    candidates: list[tuple[str, bool, str, Callable[[Inputs], Callable[[], Any]]]] = []
    for name in usable:
        for last in (True, False):
            candidates.append((name, last, "forward", lambda i, name=name: forward(i, name)))  # type: ignore[misc]
        candidates.append((name, True, "forward+backward", lambda i, name=name: forward_backward(i, name)))  # type: ignore[misc]
    if rival is not None:
        candidates.append(("mamba-ssm", False, "forward", rival.forward))
        candidates.append(("mamba-ssm", False, "forward+backward", rival.forward_backward))
    for name, channels_last, what, make in candidates:
        row = {
            "batch": case.batch, "channels": case.channels, "length": case.length, "dtype": str(case.dtype),
            "candidate": name, "layout": "channels-last" if channels_last else "contiguous", "pass": what,
            **(floors if what == "forward" else {}),
        }  # fmt: skip

        def calls(make=make, channels_last=channels_last) -> list[Callable[[], Any]]:  # type: ignore[no-untyped-def]
            return [make(case.inputs(device, channels_last, seed)) for seed in range(sets)]

        yield row | timed(report, calls, device)


def image_rows(
    report: Report, case: ImageCase, usable: list[str], rival: MambaSsm | None, device: torch.device
) -> Iterator[dict[str, Any]]:
    candidates: list[tuple[str, str, Callable[[Inputs], Callable[[], Any]]]] = []
    for name in usable:
        candidates.append((name, "forward", lambda i, name=name: image_forward(i, case, name)))  # type: ignore[misc]
        candidates.append((name, "forward+backward", lambda i, name=name: image_forward_backward(i, case, name)))  # type: ignore[misc]
    if rival is not None:
        candidates.append(("mamba-ssm", "forward", lambda i: rival.image_forward(i, case)))
        candidates.append(("mamba-ssm", "forward+backward", lambda i: rival.image_forward_backward(i, case)))
    for name, what, make in candidates:
        row = {
            "batch": case.batch, "channels": case.channels, "height": case.height, "width": case.width,
            "dtype": str(case.dtype), "candidate": name, "pass": what,
        }  # fmt: skip
        yield row | timed(report, lambda make=make: [make(case.inputs(device))], device)  # type: ignore[misc]


def timed(report: Report, calls: Callable[[], list[Callable[[], Any]]], device: torch.device) -> dict[str, Any]:
    """The times of a row, or why there are none."""
    if report.left_s() < 0:
        return {"reason": "not run: out of time"}
    try:
        made = calls()
        times: dict[str, Any] = median_ms(made, device)
        try:
            times["graph_ms"] = graph_ms(made[0], device)
        except Exception as error:  # not everything can be captured
            times["graph_reason"] = f"{type(error).__name__}: {str(error)[:300]}"
        return times
    except Exception as error:  # out of memory, or a candidate that cannot take this size
        return {"reason": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def table(values: dict[str, Any]) -> str:
    """The same numbers for people."""
    on = values["machine"]
    lines = [
        f"Measured {on['date']} on {on['device'] or 'no GPU (dry run: the times mean nothing)'}, torch {on['torch']}, "
        f"triton {on['triton']}; mamba-ssm {values['mamba_ssm']['state'][:80]}.",
        "",
        "| size | dtype | candidate | pass | ms | in a graph | of the nearer floor | times faster than mamba-ssm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in [*values["scans"], *values["images"]]:
        if "median_ms" not in row:
            continue
        rest = f"{row['length']}" if "length" in row else f"{row['height']} x {row['width']} x 4 directions"
        graph = row.get("graph_ms")
        lines.append(
            f"| {row['batch']} x {row['channels']} x {rest} | {row['dtype'].removeprefix('torch.')} | "
            f"{row['candidate']}{', ' + row['layout'] if 'layout' in row else ''} | {row['pass']} | "
            f"{row['median_ms']:.3f} | {'' if graph is None else format(graph, '.3f')} | {share_of_floor(row)} | "
            f"{ratio_to_rival(row, values)} |"
        )
    return "\n".join(lines) + "\n"


def share_of_floor(row: dict[str, Any]) -> str:
    """The larger of the floors over the time."""
    floors = [row[name] for name in ("memory_floor_ms", "exponential_floor_ms") if row.get(name) is not None]
    return f"{100 * max(floors) / (row.get('graph_ms') or row['median_ms']):.0f} %" if floors else ""


def ratio_to_rival(row: dict[str, Any], values: dict[str, Any]) -> str:
    same = ("batch", "channels", "length", "height", "width", "dtype", "pass")
    for other in [*values["scans"], *values["images"]]:
        alike = all(other.get(key) == row.get(key) for key in same)
        if (
            alike
            and other["candidate"] == "mamba-ssm" != row["candidate"]
            and not math.isnan(other.get("median_ms", math.nan))
        ):
            return f"{other['median_ms'] / row['median_ms']:.2f}"
    return ""


if __name__ == "__main__":
    main()
