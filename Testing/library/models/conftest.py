"""Reference vectors: the full set beside a developer's checkout, small ones in the repository."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Arrays of shared/reference/NAME/golden_small.npz."""

    def load(name: str) -> dict[str, torch.Tensor]:
        with np.load(shared / "reference" / name / "golden_small.npz", allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}

    return load
