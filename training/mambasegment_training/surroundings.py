"""On what, with what code and how a run was started; for run.json."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

import MambaSegmentLib

from .ranks import Ranks


def describe_surroundings(device: torch.device, seed: int, ranks: Ranks) -> dict[str, Any]:
    """Hardware, code and command, as JSON values."""
    hardware: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": str(device),
        "processes": ranks.size,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        hardware |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return {
        "command": sys.argv,
        "seeds": {"training": seed},  # the split's is in the work folder; all others follow from this one
        "hardware": hardware,
        "git": _git_state(Path(MambaSegmentLib.__file__).parent),
    }


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the code, and whether it was changed since; None where it is no checkout."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *words], cwd=folder, capture_output=True, encoding="utf-8", check=True, timeout=20
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}
