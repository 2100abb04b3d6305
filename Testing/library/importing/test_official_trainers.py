"""A results folder of each official trainer, imported by the command and compared with its network called by hand."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import MambaSegmentLib as ms
from MambaSegmentLib.bundle import verify_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.volume import Volume
from Testing.foreign_models import (
    a_network,
    authors_state_dict,
    checkpoint_of,
    dataset_of,
    older_configuration,
    plans_of,
    write_results,
)

STRIDES_3D = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
STRIDES_2D = [[1, 1], [2, 2], [2, 2]]
PLANNED = {"features_per_stage": [8, 16, 16], "kernel_sizes": 3}
VSS = {"encoder_dims": [4, 8, 16, 32], "encoder_depths": [1, 1, 2, 1], "d_state": 4}
SWIN = {**VSS, "feature_sizes": [4, 8, 16, 24, 32], "hidden_size": 32}
SWIN_D = {"dims": [4, 8, 16, 32], "encoder_depths": [1, 1, 2, 1], "decoder_depths": [1, 2, 1], "d_state": 4}


@dataclass(frozen=True)
class Training:
    """What was trained: the network by our options, written down without the importer.

    Attributes:
        alone: imported by a process of its own, as users do; once for each network.
    """

    trainer: str
    architecture: str
    patch: list[int]
    options: dict[str, Any]
    strides: list[list[int]] = field(default_factory=lambda: STRIDES_3D)
    mirror_axes: tuple[int, ...] | None = None
    folds: tuple[str, ...] = ("all",)
    image: tuple[int, int, int] = (11, 9, 8)

    @property
    def alone(self) -> bool:
        return not self.trainer.endswith(("TRS", "epochs", "NoAMP", "Scratch"))


BOT_3D = {"spatial_dims": 3, **PLANNED, "strides": STRIDES_3D}
LIGHTM = {"spatial_dims": 3, "init_filters": 8, "blocks_down": [1, 2], "blocks_up": [1]}
SLICES = (3, 40, 33)
TRAININGS = [
    Training("nnUNetTrainerLightMUNet", "lightm_unet", [8, 8, 8], LIGHTM, folds=("0", "1")),
    Training("nnUNetTrainerMambaClinix", "mambaclinix", [8, 8, 8], BOT_3D, mirror_axes=(0, 1, 2)),
    Training("nnUNetTrainerMambaClinixTRS", "mambaclinix", [8, 8, 8], BOT_3D, image=(5, 8, 8)),
    Training("nnUNetTrainerMambaClinixTRS_500epochs", "mambaclinix", [8, 8, 8], BOT_3D, image=(8, 8, 8)),
    Training("nnUNetTrainerUMambaBot", "umamba_bot", [8, 8, 8], BOT_3D),
    Training(
        "nnUNetTrainerUMambaEnc",
        "umamba_enc",
        [16, 16],
        {"spatial_dims": 2, **PLANNED, "strides": STRIDES_2D, "input_size": [16, 16]},
        STRIDES_2D,
        mirror_axes=(0, 1),
        image=(3, 21, 16),
    ),
    Training("nnUNetTrainerUMambaEncNoAMP", "umamba_enc", [8, 8, 8], {**BOT_3D, "input_size": [8, 8, 8]}),
    Training("nnUNetTrainerSwinUMamba", "swin_umamba", [32, 32], {**SWIN, "generation": 2}, STRIDES_2D, image=SLICES),
    Training(
        "nnUNetTrainerSwinUMambaScratch", "swin_umamba", [32, 32], {**SWIN, "generation": 1}, STRIDES_2D, image=SLICES
    ),
    Training("nnUNetTrainerSwinUMambaD", "swin_umamba_d", [32, 32], SWIN_D, STRIDES_2D, image=SLICES),
    Training("nnUNetTrainerSwinUMambaDScratch", "swin_umamba_d", [32, 32], SWIN_D, STRIDES_2D, image=SLICES),
]


def networks_of(training: Training) -> list[torch.nn.Module]:
    options = {"in_channels": 1, "num_classes": 3, **training.options}
    return [a_network(training.architecture, options, salt=fold) for fold in training.folds]


def written(folder, training: Training, networks):
    configuration = "2d" if len(training.patch) == 2 else "3d_fullres"
    plans = plans_of({configuration: older_configuration(training.patch, training.strides)})
    checkpoints = {
        fold: checkpoint_of(
            training.trainer,
            configuration,
            authors_state_dict(training.architecture, network),
            inference_allowed_mirroring_axes=training.mirror_axes,
        )
        for fold, network in zip(training.folds, networks, strict=True)
    }
    return write_results(folder / f"{training.trainer}__nnUNetPlans__{configuration}", plans, dataset_of(), checkpoints)


def logits_by_hand(networks, array: np.ndarray, patch: list[int], mirror_axes) -> np.ndarray:
    """One tile after the other, each mirrored in each way, each network; Gaussian weights; slice by slice in 2D."""
    if len(patch) < array.ndim:
        return np.stack([logits_by_hand(networks, slice_, patch, mirror_axes) for slice_ in array], axis=1)
    margins = [max(p - s, 0) for p, s in zip(patch, array.shape, strict=True)]
    padded = np.pad(array, [(m // 2, m - m // 2) for m in margins])
    total, weight_sum = np.zeros((3, *padded.shape)), np.zeros(padded.shape)
    profiles = [np.exp(-0.5 * ((np.arange(p) - p // 2) / (p / 8)) ** 2) for p in patch]
    weights = profiles[0]
    for profile in profiles[1:]:
        weights = weights[..., None] * profile
    corners = itertools.product(
        *({0, size - p} if size - p <= p / 2 else {0, (size - p + 1) // 2, size - p}
          for size, p in zip(padded.shape, patch, strict=True))
    )  # fmt: skip
    subsets = [s for n in range(len(patch) + 1) for s in itertools.combinations(mirror_axes or (), n)]
    for corner in corners:
        place = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        tile = torch.from_numpy(padded[place].astype(np.float32))[None, None]
        answers = []
        for network, axes in itertools.product(networks, subsets):
            dims = [axis + 2 for axis in axes]
            with torch.inference_mode():
                answers.append(network(tile.flip(dims)).flip(dims)[0].numpy())
        total[(slice(None), *place)] += np.mean(answers, axis=0) * weights
        weight_sum[place] += weights
    inner = tuple(slice(m // 2, m // 2 + s) for m, s in zip(margins, array.shape, strict=True))
    return (total / weight_sum)[(slice(None), *inner)]


def run_import(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "MambaSegmentLib", "models", "import", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.parametrize("training", TRAININGS, ids=[training.trainer for training in TRAININGS])
def test_an_imported_training_predicts_what_its_network_does(training, tmp_path):
    networks = networks_of(training)
    source = written(tmp_path, training, networks)
    output = tmp_path / "imported.safetensors"
    arguments = [str(source), "-o", str(output), "--quiet", "--json"]
    if training.alone:
        done = run_import(*arguments)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["name"] == "imported"
    else:
        assert main(["models", "import", *arguments]) == 0

    manifest = verify_bundle(output)
    assert manifest.architecture_name == training.architecture
    assert manifest.patch_size == tuple(training.patch)
    assert manifest.mirror_axes == (training.mirror_axes or ())
    assert list(manifest.training["imported"]["folds"]) == list(training.folds)

    array = np.random.default_rng(5).normal(50, 20, training.image).astype(np.float32)
    array = np.cumsum(array, axis=2) + 1000  # smooth along one axis, nowhere zero
    write_volume(Volume(array), tmp_path / "image.nii.gz")
    found = ms.segment(tmp_path / "image.nii.gz", model=output, device="cpu").labels.array

    prepared = (array - array.mean(dtype=np.float64)) / array.std(dtype=np.float64)
    logits = logits_by_hand(networks, prepared, training.patch, training.mirror_axes)
    expected = logits.argmax(axis=0)
    assert len(np.unique(expected)) > 1, "one class everywhere would prove nothing"
    sorted_logits = np.sort(logits, axis=0)
    clear = sorted_logits[-1] - sorted_logits[-2] > 1e-4  # rounding may turn what is all but a tie
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], expected[clear])
