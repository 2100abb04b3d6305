"""Dice on whole validation volumes, segmented as the exported model will segment them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from MambaSegmentLib.inference.sliding import SlidingWindow
from MambaSegmentLib.quality import Mirrorings
from MambaSegmentLib.review.measure import dice_per_label

from .data import CaseStore


def predict_labels(
    network: nn.Module,
    image: np.ndarray,
    patch_size: Sequence[int],
    device: torch.device,
    class_count: int,
    tile_step: float = 0.5,
    mirrorings: Mirrorings = ((),),
) -> np.ndarray:
    """Segment one prepared case: padded where it is smaller than the patch, tiled where it is larger.

    Args:
        network: in evaluation mode.
        image: float32 (C, K, J, I).
        class_count: outputs of the network, background included.
        mirrorings: axes of each mirrored copy whose answers are averaged; () is the image itself.
    Returns:
        uint8 (K, J, I).
    """
    window = SlidingWindow([network], class_count, patch_size, device=device, step=tile_step, mirrorings=mirrorings)
    return window.scores(np.ascontiguousarray(image)).argmax(0).astype(np.uint8)


def validate(
    network: nn.Module,
    store: CaseStore,
    label_values: Sequence[int],
    patch_size: Sequence[int],
    device: torch.device,
    *,
    ignore_label: int | None = None,
    tile_step: float = 0.5,
    mirrorings: Mirrorings = ((),),
) -> dict[str, dict[int, float | None]]:
    """Dice of each case and label; None where neither the prediction nor the truth has the label.

    Args:
        label_values: 1 to the number of foreground classes.
        patch_size: voxels (K, J, I).
        tile_step: distance of neighbouring tiles as a fraction of the patch.
        mirrorings: as for `predict_labels`; a training validates without, which is faster.
    """
    was_training = network.training
    network.eval()
    classes = len(label_values) + 1
    scores: dict[str, dict[int, float | None]] = {}
    for identifier in store.identifiers:
        case = store[identifier]
        predicted = predict_labels(network, case.image, patch_size, device, classes, tile_step, mirrorings)
        truth = np.asarray(case.labels)
        if ignore_label is not None:
            predicted, truth = (np.where(case.labels == ignore_label, 0, array) for array in (predicted, truth))
        scores[identifier] = dice_per_label(predicted, truth, label_values)
    network.train(was_training)
    return scores


def mean_per_label(scores: Mapping[str, Mapping[int, float | None]]) -> dict[int, float | None]:
    """Mean over the cases that have a score for the label; None where no case has one."""
    labels = sorted({label for case in scores.values() for label in case})
    means: dict[int, float | None] = {}
    for label in labels:
        values = [value for case in scores.values() if (value := case.get(label)) is not None]
        means[label] = sum(values) / len(values) if values else None
    return means


def lowest_per_label(scores: Mapping[str, Mapping[int, float | None]]) -> dict[int, float | None]:
    """The worst score of each label; None where no case has one."""
    labels = sorted({label for case in scores.values() for label in case})
    present = {label: [s for case in scores.values() if (s := case.get(label)) is not None] for label in labels}
    return {label: min(values, default=None) for label, values in present.items()}


def overall(means: Mapping[int, float | None]) -> float:
    """Mean over the labels that have a score; 0 where none has."""
    values = [value for value in means.values() if value is not None]
    return sum(values) / len(values) if values else 0.0
