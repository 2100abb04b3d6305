"""Reference vectors: the full set beside a developer's checkout, small ones in the repository."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[..., dict[str, torch.Tensor]]:
    """Arrays of shared/reference/NAME/FILE.npz."""

    def load(name: str, file: str = "golden_small") -> dict[str, torch.Tensor]:
        with np.load(shared / "reference" / name / f"{file}.npz", allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}

    return load


@pytest.fixture(scope="session")
def described(shared: Path) -> Callable[[str, str], dict[str, Any]]:
    """What shared/reference/NAME/FILE.json says."""
    return lambda name, file: json.loads((shared / "reference" / name / f"{file}.json").read_text())
