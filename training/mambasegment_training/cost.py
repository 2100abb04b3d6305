"""What a model costs, for its card: seconds and memory by device and size.

    "measured": {"cpu": [{"size": [K, J, I], "seconds": s, "memory_bytes": b, "hardware": "x86_64, 2 threads",
                          "torch": "2.13.0", "note": "…"}]}

`size` is that of a volume on the model's own grid, `seconds` one pass over it of one fold (quality "fast") in a warm
process, and `memory_bytes` what the process held at most beyond what it held with the model loaded.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

_log = logging.getLogger(__name__)
_NOTE = "one pass of one fold (quality fast) over a volume of this size on the model's grid"


def measure_cost(model: Path, device: str, sizes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Measure a model file, or a run folder, in a process of its own.

    Args:
        device: as for `choose_device`.
        sizes: of volumes (K, J, I); measured in ascending order, each once.
    Returns:
        The `measured` object; empty, with a warning in the log, where the process did not live to tell.
    """
    ascending = sorted({tuple(size) for size in sizes}, key=lambda size: (size[0] * size[1] * size[2], size))
    with tempfile.TemporaryDirectory(prefix="mambatrain-") as folder:
        report = Path(folder) / "cost.json"
        command = [sys.executable, "-m", "mambasegment_training.cost_child"]
        command += [str(model), device, json.dumps(ascending), str(report)]
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=_environment()
        )
        if ended.returncode != 0 or not report.is_file():
            last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            _log.warning("seconds and memory are not in the model's card, since measuring them failed: %s", last)
            return {}
        measured = json.loads(report.read_text(encoding="utf-8"))
    common = {"hardware": measured["hardware"], "torch": torch.__version__, "note": _NOTE}
    return {measured["device"]: [{**row, **common} for row in measured["rows"]]}


def _environment() -> dict[str, str]:
    """The same packages as here, however they came to be found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
