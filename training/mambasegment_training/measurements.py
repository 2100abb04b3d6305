"""What is measured on a model before it is written: likeness to its checkpoints, Dice, calibration, cost.

Always on a file that was read back, 16-bit weights included, and each fold on the validation cases of its own run.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from MambaSegmentLib.bundle import Manifest, read_bundle, write_bundle
from MambaSegmentLib.quality import QUALITIES, mirrorings_for, step_for

from . import parity
from .calibration import Answers, calibration_of, gather_answers, together
from .cost import measure_cost
from .data import CaseStore
from .parity import Parity
from .trained_fold import TrainedFold
from .validate import Scores, validate


@dataclass(frozen=True)
class Measurements:
    """Attributes:
    parities: of each fold.
    scores: of each fold, by quality: Dice of its validation cases.
    calibration, cost: as the model file has them; both may be empty.
    """

    parities: tuple[Parity, ...]
    scores: tuple[Mapping[str, Scores], ...]
    calibration: Mapping[str, Any]
    cost: Mapping[str, Any]

    def pooled(self, quality: str) -> Scores:
        """Of all folds together; each case has one, since folds validate on different cases."""
        return {case: labels for fold in self.scores for case, labels in fold[quality].items()}

    @property
    def worst_parity(self) -> Parity:
        found = self.parities
        return Parity(max(p.largest for p in found), max(p.rms for p in found), min(p.same_labels for p in found))


def measure(
    manifest: Manifest, folds: Sequence[TrainedFold], device: torch.device, *, half: bool, with_cost: bool
) -> Measurements:
    """Measure a model that is not written yet.

    Raises:
        BundleError: it would compute something else than the checkpoints.
    """
    with _written(manifest, folds, half=half) as path:
        networks = [network.to(device) for network in read_bundle(path).build_networks()]
        parities = [_parity(manifest, *pair, device) for pair in zip(folds, networks, strict=True)]
        parity.check({f"fold {number}": found for number, found in enumerate(parities)}, half=half)
        scores = [_scores(manifest, *pair, device) for pair in zip(folds, networks, strict=True)]
        answers = [_answers(manifest, *pair, device) for pair in zip(folds, networks, strict=True)]
        cost = measure_cost(path, str(device), _sizes(manifest, folds[0])) if with_cost else {}
    return Measurements(tuple(parities), tuple(scores), calibration_of(together(answers)), cost)


@contextmanager
def _written(manifest: Manifest, folds: Sequence[TrainedFold], *, half: bool) -> Iterator[Path]:
    """The model as a file that goes away again."""
    with tempfile.TemporaryDirectory(prefix="mambatrain-") as folder:
        path = Path(folder) / "model.safetensors"
        write_bundle(path, manifest, [fold.state_dict() for fold in folds], half=half)
        yield path


def _parity(manifest: Manifest, fold: TrainedFold, network: nn.Module, device: torch.device) -> Parity:
    """On the smallest validation case."""
    store = _validation_store(fold)
    smallest = min(store.identifiers, key=lambda name: store[name].labels.size)
    return parity.compare(
        network,
        fold.network,
        store[smallest].image,
        outputs=len(manifest.class_values),
        patch_size=manifest.patch_size,
        step=manifest.step,
        device=device,
        overlapping=bool(manifest.regions),
    )


def _scores(manifest: Manifest, fold: TrainedFold, network: nn.Module, device: torch.device) -> dict[str, Scores]:
    """Dice of a fold on its validation cases, by quality."""
    return {
        quality: validate(
            network,
            _validation_store(fold),
            list(fold.dataset.labels),
            manifest.patch_size,
            device,
            ignore_label=fold.dataset.ignore_label,
            regions=fold.dataset.regions,
            tile_step=step_for(quality, manifest.step),
            mirrorings=mirrorings_for(quality, manifest.mirror_axes),
        )
        for quality in QUALITIES
    }


def _answers(manifest: Manifest, fold: TrainedFold, network: nn.Module, device: torch.device) -> Answers:
    """What a fold says of voxels of its validation cases, at best quality."""
    return gather_answers(
        [network],
        _validation_store(fold),
        list(fold.dataset.labels),
        manifest.patch_size,
        device,
        regions=[region.labels for region in fold.dataset.regions],
        ignore_label=fold.dataset.ignore_label,
        tile_step=manifest.step,
        mirrorings=mirrorings_for(QUALITIES[0], manifest.mirror_axes),
    )


def _validation_store(fold: TrainedFold) -> CaseStore:
    limit_bytes = fold.record.config.data.memory_limit_gib * 2**30
    return CaseStore(fold.dataset.folder / "cases", fold.split.validation, limit_bytes)


def _sizes(manifest: Manifest, fold: TrainedFold) -> list[tuple[int, ...]]:
    """What the cost is measured on: one patch, and the validation case of median size."""
    patch = manifest.patch_size if len(manifest.patch_size) == 3 else (1, *manifest.patch_size)
    store = _validation_store(fold)
    shapes = sorted(
        (store[name].labels.shape for name in store.identifiers),
        key=lambda shape: (shape[0] * shape[1] * shape[2], shape),
    )
    median = shapes[len(shapes) // 2]
    return [patch, tuple(max(sizes) for sizes in zip(patch, median, strict=True))]
