"""Dice on whole validation volumes, segmented as the exported model will segment them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from MambaSegmentLib.errors import Cancelled
from MambaSegmentLib.inference.sliding import SlidingWindow
from MambaSegmentLib.manifest import Region
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.quality import Mirrorings
from MambaSegmentLib.review.measure import dice_per_label

from .data import CaseStore
from .ranks import ALONE, Ranks

Scores = dict[str, dict[int, float | None]]


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
    regions: Sequence[Region] = (),
    tile_step: float = 0.5,
    mirrorings: Mirrorings = ((),),
    ranks: Ranks = ALONE,
    cancel: CancelToken | None = None,
) -> Scores:
    """Dice of each case and label; None where neither the prediction nor the truth has the label.

    Args:
        label_values: 1 to the number of foreground classes.
        patch_size: voxels (K, J, I).
        regions: the outputs of a network whose outputs overlap; they are scored in place of the labels.
        tile_step: distance of neighbouring tiles as a fraction of the patch.
        mirrorings: as for `predict_labels`; a training validates without, which is faster.
        ranks: each of them segments its share of the cases, and gets all scores.
        cancel: looked at between tiles; with several ranks between cases, since all must stop together.
    Raises:
        Cancelled: on request.
    """
    was_training = network.training
    network.eval()
    keys = [region.value for region in regions] or list(label_values)
    window = SlidingWindow(
        [network], len(regions) or len(keys) + 1, patch_size, device=device, step=tile_step, mirrorings=mirrorings
    )
    own: dict[str, dict[int, float | None]] = {}
    try:
        for first in range(0, len(store), ranks.size):
            for identifier in store.identifiers[first + ranks.rank : first + ranks.rank + 1]:
                case = store[identifier]
                logits = window.scores(np.ascontiguousarray(case.image), cancel=cancel if ranks.size == 1 else None)
                own[identifier] = _scores(logits, np.asarray(case.labels), label_values, ignore_label, regions)
            if ranks.size > 1 and ranks.totals([float(cancel is not None and cancel.cancelled)])[0] > 0:
                raise Cancelled("stopped during the validation")
    finally:
        network.train(was_training)
    return _shared(own, store.identifiers, keys, ranks)


def _scores(
    logits: np.ndarray,
    truth: np.ndarray,
    label_values: Sequence[int],
    ignore_label: int | None,
    regions: Sequence[Region],
) -> dict[int, float | None]:
    counts = np.ones(truth.shape, bool) if ignore_label is None else truth != ignore_label
    if not regions:
        predicted = logits.argmax(0).astype(np.uint8)
        return dice_per_label(np.where(counts, predicted, 0), np.where(counts, truth, 0), label_values)
    return {
        region.value: dice_per_label(
            ((output > 0) & counts).astype(np.uint8), (np.isin(truth, region.labels) & counts).astype(np.uint8), [1]
        )[1]
        for region, output in zip(regions, logits, strict=True)
    }


def _shared(
    own: Mapping[str, Mapping[int, float | None]], cases: Sequence[str], keys: Sequence[int], ranks: Ranks
) -> Scores:
    """The scores of all ranks, in the order of the cases."""
    if ranks.size == 1:
        return {case: dict(own[case]) for case in cases}
    found = [own.get(case, {}).get(key) for case in cases for key in keys]
    numbers = ranks.totals([value or 0.0 for value in found] + [float(value is not None) for value in found])
    values, known = numbers[: len(found)], numbers[len(found) :]
    flat = iter([value if has else None for value, has in zip(values, known, strict=True)])
    return {case: {key: next(flat) for key in keys} for case in cases}


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
