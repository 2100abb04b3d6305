"""A data set small enough to be prepared and trained on within seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mambasegment_training.config import TrainingConfig, config_from_json
from mambasegment_training.prepare import PreparedDataset, prepare

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume

SHAPE = (12, 14, 10)  # (K, J, I); no multiple of anything, so that padding has something to do


def labelled_case(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """An image with a grey and a white box on noise, and their labels 1 and 2."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    k, j, i = rng.integers(1, 3, 3)
    labels[k : k + 4, j : j + 5, i : i + 5] = 1
    labels[k + 4 : k + 8, j : j + 5, i : i + 5] = 2
    image = labels * 100.0 + rng.normal(50.0, 8.0, shape)
    return image.astype(np.float32), labels


def write_case(folder: Path, name: str, image: np.ndarray, labels: np.ndarray, **geometry: Any) -> None:
    """images/NAME.nii.gz and labels/NAME.nii.gz."""
    facts = {"spacing_mm": (1.0, 1.0, 1.0), "origin_mm": (0.0, 0.0, 0.0), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
    for kind, array in (("images", image), ("labels", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, **(facts | geometry)), folder / kind / f"{name}.nii.gz")


@pytest.fixture
def a_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with images/ and labels/: `a_dataset(count=6)`."""

    def make(count: int = 6, name: str = "boxes", **geometry: Any) -> Path:
        for number in range(count):
            write_case(tmp_path / name, f"case_{number:03d}", *labelled_case(number), **geometry)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Six prepared cases, four for training; read-only for tests."""
    folder = tmp_path_factory.mktemp("training")
    for number in range(6):
        write_case(folder / "boxes", f"case_{number:03d}", *labelled_case(number))
    return prepare(folder / "boxes", folder / "work", validation_fraction=0.33)


TINY: dict[str, Any] = {
    "epochs": 3,
    "steps_per_epoch": 3,
    "ema_decay": 0.9,
    "cpu_threads": 1,  # sums depend on the number of threads
    "network": {
        "name": "lightm_unet",
        "options": {"spatial_dims": 3, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    },
    "data": {"batch_size": 1},
    "augment": {"mirror_axes": [2]},
    "optimizer": {"learning_rate": 5e-3},
    "validation": {"every_epochs": 2},
}


@pytest.fixture
def tiny_config() -> Callable[..., TrainingConfig]:
    """Makes configurations of a run of a few seconds; keyword arguments replace top-level keys."""
    return lambda **changes: config_from_json(TINY | changes)
