"""Dice on whole validation volumes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from MambaSegmentLib.review.measure import dice_per_label

from .data import CaseStore


def predict_labels(
    network: nn.Module, image: np.ndarray, patch_size: Sequence[int], device: torch.device
) -> np.ndarray:
    """Segment one prepared case in one piece.

    Args:
        image: float32 (C, K, J, I); padded with 0 at the far ends to the patch size or, where larger, to the patch
            size's largest power of two, up to 32.
    Returns:
        uint8 (K, J, I).
    """
    shape = image.shape[1:]
    padding: list[int] = []
    for extent, patch in zip(reversed(shape), reversed(list(patch_size)), strict=True):
        multiple = min(patch & -patch, 32)
        padding += [0, max(patch, -(-extent // multiple) * multiple) - extent]
    padded = functional.pad(torch.from_numpy(np.ascontiguousarray(image))[None], padding)
    logits = network(padded.to(device))
    best = (logits[0] if isinstance(logits, list | tuple) else logits)[0].argmax(0)
    return best[tuple(slice(extent) for extent in shape)].to("cpu", torch.uint8).numpy()


def validate(
    network: nn.Module,
    store: CaseStore,
    label_values: Sequence[int],
    patch_size: Sequence[int],
    device: torch.device,
    ignore_label: int | None,
) -> dict[str, dict[int, float | None]]:
    """Dice of each case and label; None where neither the prediction nor the truth has the label."""
    was_training = network.training
    network.eval()
    scores: dict[str, dict[int, float | None]] = {}
    with torch.inference_mode():
        for identifier in store.identifiers:
            case = store[identifier]
            predicted = predict_labels(network, case.image, patch_size, device)
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


def overall(means: Mapping[int, float | None]) -> float:
    """Mean over the labels that have a score; 0 where none has."""
    values = [value for value in means.values() if value is not None]
    return sum(values) / len(values) if values else 0.0
