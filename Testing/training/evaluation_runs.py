"""Two tiny trained runs on the six boxes, for the tests of evaluating and comparing."""

from pathlib import Path
from typing import Any

import pytest
from mambasegment_training.config import config_from_json
from mambasegment_training.loop import fit
from mambasegment_training.prepare import PreparedDataset

from .conftest import TINY

STAGES = {"spatial_dims": 3, "features_per_stage": [4, 8], "kernel_sizes": 3, "strides": [1, 2]}
RESENC = {"name": "resenc_unet", "options": STAGES}


def train(prepared: PreparedDataset, run: Path, **changes: Any) -> Path:
    fit(prepared.folder, run, config_from_json(TINY | {"epochs": 2} | changes), device="cpu")
    return run


@pytest.fixture(scope="session")
def two_runs(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LightM-UNet and the plain control; read-only for tests."""
    folder = tmp_path_factory.mktemp("runs")
    return train(prepared, folder / "light"), train(prepared, folder / "plain", network=RESENC)
