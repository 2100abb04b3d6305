"""`python -m Testing.module.tiny_models FOLDER` writes models for Testing/library/worker/tiny_worker.py.

Their answers are known by hand. A program of its own: writing a model needs torch, which the host's process shall not
have.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.manifest import Channel, Manifest
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segments import SegmentInfo

# label 1 where the sum of the channels is between 0.5 and 1.5, label 5 above
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "two": {
        "channels": (Channel("T1", "MR"), Channel("T2", "MR")),
        "preprocessing": PreprocessingSpec((Normalization("none"), Normalization("none"))),
    },
    "slow": {"architecture_name": "acting", "architecture_options": {"sleep_s": 0.05, "layers": 80}},
    "short": {"architecture_name": "acting", "architecture_options": {"sleep_s": 0.05, "layers": 20}},
    "stuck": {"architecture_name": "acting", "architecture_options": {"sleep_s": 4, "layers": 1}},
    "crash": {"architecture_name": "acting", "architecture_options": {"crashes": True}},
    "greedy": {"architecture_name": "acting", "architecture_options": {"greedy": True}},
    "broken": {"architecture_name": "acting", "architecture_options": {"raises": True}},
}


def main(folder: Path) -> None:
    state = {"weight": torch.ones(1), "same_weight": torch.ones(1), "steps": torch.arange(3)}
    for name, changes in MODELS.items():
        facts: dict[str, Any] = {
            "name": name,
            "architecture_name": "tiny",
            "architecture_options": {"classes": 3},
            "channels": (Channel("T1", "MR"),),
            "segments": (SegmentInfo(1, "Anterior", (1.0, 0.0, 0.0)), SegmentInfo(5, "Posterior", (0.0, 1.0, 0.0))),
            "preprocessing": PreprocessingSpec((Normalization("none"),)),
            "patch_size": (8, 8, 8),
        }
        write_bundle(folder / f"{name}.safetensors", Manifest(**(facts | changes)), [state])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
