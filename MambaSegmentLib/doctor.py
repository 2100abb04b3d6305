"""What this computer has, what of it is used, and what should be installed and why."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

from . import __version__

_PACKAGES = (
    "torch", "numpy", "scipy", "SimpleITK", "safetensors", "slicerio", "pynrrd", "numba", "triton", "cuda-bindings",
    "nvidia-cuda-nvrtc", "mamba-ssm", "pydicom", "highdicom",
)  # fmt: skip
_REQUIRED = {"torch", "numpy", "scipy", "SimpleITK", "safetensors", "slicerio", "pynrrd"}
_GB = 1e9
_SMALL_MEMORY_GB = 4.0


def examine() -> dict[str, Any]:
    """Look at versions, devices, scan kernels, memory and the model store.

    Returns:
        JSON-ready: `mambasegment`, `python`, `platform`, `packages` (name to version or None), `devices`, `device`
        (what "auto" takes), `kernels`, `kernel` (what "auto" takes there, None without torch), `kernel_reason`,
        `memory` {total_bytes, available_bytes}, `store` {folders, models}, `advice` (sentences).
    """
    import psutil

    packages = {name: _version(name) for name in _PACKAGES}
    memory = psutil.virtual_memory()
    report: dict[str, Any] = {
        "mambasegment": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "devices": [],
        "device": None,
        "kernels": [],
        "kernel": None,
        "kernel_reason": None,
        "memory": {"total_bytes": memory.total, "available_bytes": memory.available},
        "store": _store(),
    }
    if packages["torch"] is not None:
        report.update(_devices(), **_kernels())
    report["advice"] = _advice(report)
    return report


def as_text(report: Mapping[str, Any]) -> str:
    """The report of `examine` for a person."""
    memory = report["memory"]
    lines = [
        f"mambasegment {report['mambasegment']}, Python {report['python']}, {report['platform']}",
        f"memory        {memory['available_bytes'] / _GB:.1f} GB free of {memory['total_bytes'] / _GB:.1f} GB",
        "",
        "packages",
        *(f"  {name:<18} {version or 'not installed'}" for name, version in report["packages"].items()),
        "",
        "devices",
        *(
            f"  {'*' if device['name'] == report['device'] else ' '} {device['name']:<10} {device['description']}"
            for device in report["devices"]
        ),
        "",
        "scan kernels",
        *(
            f"  {'*' if kernel['name'] == report['kernel'] else ' '} {kernel['name']:<10} "
            f"{'yes' if kernel['available'] else 'no':<4}{kernel['reason']}"
            for kernel in report["kernels"]
        ),
        *([f"  {report['kernel_reason']}"] if report["kernel_reason"] else []),
        "",
        f"models: {', '.join(report['store']['models']) or 'none'}",
        *(f"  {folder}" for folder in report["store"]["folders"]),
        "",
        "(* is what is used)",
        *(f"! {sentence}" for sentence in report["advice"]),
    ]
    return "\n".join(lines) + ("" if report["advice"] else "\nall is well")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import torch

    from .devices import choose_device

    cpu = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    devices: list[dict[str, Any]] = [{"name": "cpu", "description": cpu, "memory_bytes": None}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        text = f"{facts.name}, {facts.total_memory / _GB:.0f} GB"
        devices.append({"name": f"cuda:{index}", "description": text, "memory_bytes": facts.total_memory})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "description": "Apple GPU", "memory_bytes": None})
    chosen = str(choose_device("auto"))
    return {"devices": devices, "device": "cuda:0" if chosen == "cuda" else chosen}


def _kernels() -> dict[str, Any]:
    import torch

    from .devices import choose_device
    from .kernels import available_backends, choose_backend, explain_choice

    kernels = [
        {
            "name": info.name,
            "available": info.available,
            "reason": info.reason,
            "devices": list(info.devices),
            "dtypes": [str(dtype).removeprefix("torch.") for dtype in info.dtypes],
            "gradients": info.gradients,
        }
        for info in available_backends()
    ]
    device = choose_device("auto")
    return {
        "kernels": kernels,
        "kernel": choose_backend(device, torch.float32).name,
        "kernel_reason": explain_choice(device),
    }


def _store() -> dict[str, Any]:
    from .store import list_models, model_folders

    return {
        "folders": [str(folder) for folder in model_folders() if folder.is_dir()],
        "models": [model.name for model in list_models() if model.manifest is not None],
    }


def _advice(report: Mapping[str, Any]) -> list[str]:
    advice = [
        f"{name} is missing and needed: pip install {name}"
        for name, version in report["packages"].items()
        if version is None and name in _REQUIRED
    ]
    advice += [
        f"the scan kernel {kernel['name']} is not used: {kernel['reason']}" for kernel in _missing_kernels(report)
    ]
    if report["device"] == "cpu" and sys.platform in ("linux", "win32") and _nvidia_gpu_without_cuda():
        advice.append(
            "an NVIDIA driver is installed, but this build of torch cannot use it: install a CUDA build of torch "
            "(https://pytorch.org/get-started)"
        )
    if report["memory"]["available_bytes"] < _SMALL_MEMORY_GB * _GB:
        advice.append(f"less than {_SMALL_MEMORY_GB:.0f} GB of memory are free; large volumes may fail")
    if not report["store"]["models"]:
        advice.append("no model is installed; put .safetensors models into the user's folder or give a path with -m")
    return advice


def _missing_kernels(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that would be taken before the present one on the present device if they were there."""
    names = [kernel["name"] for kernel in report["kernels"]]
    before = report["kernels"][: names.index(report["kernel"])] if report["kernel"] in names else []
    device = str(report["device"]).split(":")[0]
    return [kernel for kernel in before if not kernel["available"] and device in kernel["devices"]]


def _nvidia_gpu_without_cuda() -> bool:
    import shutil

    return shutil.which("nvidia-smi") is not None
