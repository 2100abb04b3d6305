"""Logits against integer labels, voxel by voxel: what all terms of a loss need, computed once.

Shapes: logits (B, C, *spatial); labels (B, 1, *spatial), integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from MambaSegmentLib.errors import ShapeError


@dataclass(frozen=True)
class Compared:
    """Probabilities of classes that exclude each other (softmax), class 0 the background.

    Attributes:
        logits, log_probabilities, probabilities: (B, C, *spatial).
        classes: (B, 1, *spatial) int64; 0 where ignored.
        counts: (B, 1, *spatial) bool; False where ignored.
    """

    logits: Tensor
    log_probabilities: Tensor
    probabilities: Tensor
    classes: Tensor
    counts: Tensor

    overlap = False

    def truth(self) -> Tensor:
        """(B, C, *spatial) bool: whether the class, or the region, is there."""
        names = torch.arange(self.logits.shape[1], device=self.classes.device)
        return self.classes == names.view(1, -1, *(1,) * (self.logits.ndim - 2))

    def cross_entropy(self) -> Tensor:
        """(B, 1, *spatial): -log p(true class)."""
        # gather, not F.cross_entropy: that one adds up in no fixed order on CUDA
        return -self.log_probabilities.gather(1, self.classes)

    def tp_fp_fn(self, first_class: int) -> tuple[Tensor, Tensor, Tensor]:
        """Soft true positives, false positives and false negatives of each voxel; all 0 where ignored."""
        soft, truth = self.probabilities[:, first_class:], self.truth()[:, first_class:]
        inside, outside = truth & self.counts, ~truth & self.counts
        return soft * inside, soft * outside, (1 - soft) * inside


@dataclass(frozen=True)
class ComparedRegions(Compared):
    """Probabilities of regions that may overlap, each a yes or no of its own (sigmoid); none is the background.

    Attributes:
        regions: the labels that each output unites.
    """

    regions: tuple[tuple[int, ...], ...] = ()

    overlap = True

    def truth(self) -> Tensor:
        return torch.cat([_is_one_of(self.classes, labels) for labels in self.regions], dim=1)

    def cross_entropy(self) -> Tensor:
        """(B, C, *spatial): -log p(yes) or -log p(no)."""
        truth = self.truth().to(self.logits.dtype)
        return F.binary_cross_entropy_with_logits(self.logits, truth, reduction="none")

    def tp_fp_fn(self, first_class: int) -> tuple[Tensor, Tensor, Tensor]:
        return super().tp_fp_fn(0)  # all of them are foreground


def compare(
    logits: Tensor, labels: Tensor, ignore_label: int | None, regions: Sequence[tuple[int, ...]] = ()
) -> Compared:
    """Compare in float32, or in float64 where the logits are.

    Args:
        regions: the labels that each output unites; empty for outputs that exclude each other.
    Raises:
        ShapeError: the two do not fit each other, or a label is neither a class nor the ignore label.
    """
    _check_shapes(logits, labels, len(regions))
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    classes = labels.long()
    counts = torch.ones_like(classes, dtype=torch.bool) if ignore_label is None else classes != ignore_label
    classes = torch.where(counts, classes, 0)
    if regions:
        probabilities = logits.sigmoid()
        return ComparedRegions(logits, F.logsigmoid(logits), probabilities, classes, counts, tuple(regions))
    _check_labels(classes, logits.shape[1], ignore_label)
    log_probabilities = logits.log_softmax(1)
    return Compared(logits, log_probabilities, log_probabilities.exp(), classes, counts)


def _is_one_of(classes: Tensor, labels: Sequence[int]) -> Tensor:
    found = torch.zeros_like(classes, dtype=torch.bool)
    for label in labels:
        found |= classes == label
    return found


def _check_shapes(logits: Tensor, labels: Tensor, regions: int) -> None:
    least = 1 if regions else 2
    if not logits.is_floating_point() or logits.ndim < 3 or logits.shape[1] < least or 0 in logits.shape:
        raise ShapeError(
            f"logits must be floating point of shape (B, C, *spatial) with at least {least} outputs and one voxel, "
            f"but are {logits.dtype} {tuple(logits.shape)}"
        )
    if regions and logits.shape[1] != regions:
        raise ShapeError(f"the data has {regions} regions, but the logits {tuple(logits.shape)} are of another number")
    expected = (logits.shape[0], 1, *logits.shape[2:])
    if tuple(labels.shape) != expected:
        raise ShapeError(f"labels for logits {tuple(logits.shape)} must be {expected}, but are {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError(f"labels must be integers, but are {labels.dtype}; convert them with .long()")


def _check_labels(classes: Tensor, num_classes: int, ignore_label: int | None) -> None:
    low, high = (int(bound) for bound in torch.aminmax(classes))
    if low < 0 or high >= num_classes:
        or_ignored = "" if ignore_label is None else f" or the ignore label {ignore_label}"
        raise ShapeError(
            f"labels must be 0..{num_classes - 1}{or_ignored}, but hold {low if low < 0 else high}; "
            "change num_classes, the labels or the ignore label"
        )
