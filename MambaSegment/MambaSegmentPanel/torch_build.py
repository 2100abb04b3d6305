"""What kind of PyTorch is installed, and whether it leaves a graphics card unused; found without importing it."""

from __future__ import annotations

import os
import re
import shutil
from importlib import util
from pathlib import Path

_NVIDIA_FILES = {
    "posix": Path("/proc/driver/nvidia/version"),
    "nt": Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll",
}


def torchIsForCpuOnly() -> bool:
    """Whether the installed build of PyTorch knows no graphics card; False where none is installed, or it is unclear.

    Its file version.py says `cuda: Optional[str] = None`, or `'12.4'`, and likewise `hip`.
    """
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    found = dict(re.findall(r"^(cuda|hip)\b[^=\n]*=\s*(\S+)", text, re.MULTILINE))
    return "cuda" in found and set(found.values()) == {"None"}


def nvidiaDriverIsThere() -> bool:
    """Whether a driver of an NVIDIA card is installed."""
    file = _NVIDIA_FILES.get(os.name)
    return shutil.which("nvidia-smi") is not None or (file is not None and file.exists())
