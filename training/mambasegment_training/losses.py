"""Losses that compare a network's logits with integer labels: Dice, cross-entropy and the region-specific ones.

Shapes: logits (B, C, *spatial); labels (B, 1, *spatial), integers in 0..C-1 or the ignore label; the value is a scalar.
Softmax runs over all C classes, class 0 is the background. Float64 logits are computed in float64 throughout, all
others in float32, also inside autocast. No sum here depends on the order of threads, so a resumed training repeats
itself.

Sources: region-specific Tversky loss, MambaClinix, Bian et al. 2024, arXiv:2409.12533; adaptive weights (ARSL), Chen et
al., IEEE TPAMI 2023; Dice and cross-entropy as in nnU-Net, Isensee et al. 2021. Written from the papers; values and
gradients agree with the released MambaClinix class, whose value is ours minus 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError, ShapeError

LOSSES = ("dice_ce", "rs_tversky", "arsl")
REGION_TERM_WEIGHT = 0.8  # of rs_tversky, as released with MambaClinix
DEFAULT_REGIONS_PER_AXIS = 16  # as both papers' code


@dataclass(frozen=True)
class _Compared:
    """What all terms of a loss need, computed once."""

    log_probabilities: Tensor  # (B, C, *spatial)
    probabilities: Tensor  # (B, C, *spatial)
    classes: Tensor  # (B, 1, *spatial) int64; 0 where ignored
    counts: Tensor  # (B, 1, *spatial) bool; False where ignored

    def tp_fp_fn(self, first_class: int) -> tuple[Tensor, Tensor, Tensor]:
        """Soft true positives, false positives and false negatives of each voxel; all 0 where ignored."""
        soft = self.probabilities[:, first_class:]
        names = torch.arange(first_class, self.probabilities.shape[1], device=soft.device)
        truth = self.classes == names.view(1, -1, *(1,) * (soft.ndim - 2))
        inside, outside = truth & self.counts, ~truth & self.counts
        return soft * inside, soft * outside, (1 - soft) * inside


class _Loss(nn.Module, ABC):
    """A loss whose value follows from `_Compared`."""

    def __init__(self, ignore_label: int | None) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compare logits (B, C, *spatial) with labels (B, 1, *spatial).

        Raises:
            ShapeError: the two do not fit each other, or a label is neither a class nor the ignore label.
        """
        _check_shapes(logits, labels)
        with torch.autocast(logits.device.type, enabled=False):
            return self.evaluate(_compare(logits, labels, self.ignore_label))

    @abstractmethod
    def evaluate(self, compared: _Compared) -> Tensor:
        """The value of the loss; everything in it is float32 or float64."""


class CrossEntropyLoss(_Loss):
    """Mean of -log p(true class) over the voxels that count; 0 when none does."""

    def __init__(self, *, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)

    def evaluate(self, compared: _Compared) -> Tensor:
        # gather, not F.cross_entropy: that one adds up in no fixed order on CUDA
        chosen = compared.log_probabilities.gather(1, compared.classes)
        return -(chosen * compared.counts).sum() / compared.counts.sum().clamp(min=1)


class SoftDiceLoss(_Loss):
    """1 - mean soft Dice of the foreground classes.

    Args:
        batch_dice: add up the batch before the ratio is taken, as if it were one large image; otherwise one ratio a
            sample.
        smooth: added to numerator and denominator.
        ignore_label: voxels of this label take no part.
    """

    def __init__(self, *, batch_dice: bool = False, smooth: float = 1e-5, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)
        self.batch_dice = batch_dice
        self.smooth = _positive("smooth", smooth)

    def evaluate(self, compared: _Compared) -> Tensor:
        axes = (
            [0, *range(2, compared.probabilities.ndim)] if self.batch_dice else [*range(2, compared.probabilities.ndim)]
        )
        tp, fp, fn = (part.sum(axes) for part in compared.tp_fp_fn(first_class=1))
        return 1 - ((2 * tp + self.smooth) / (2 * tp + fp + fn + self.smooth)).mean()


class RegionTverskyLoss(_Loss):
    """One Tversky index T = (TP + e) / (TP + w_fp FP + w_fn FN + e) a sub-region; the value is the mean of 1 - T.

    A region with many false positives weighs these more, one with many false negatives those (the report's equation 6):
    w_fp = a + b (FP + e) / (FP + FN + e), w_fn = a + b (FN + e) / (FP + FN + e); gradients flow through both.

    Bin i of n along an axis of length L covers floor(i L / n) .. ceil((i + 1) L / n), as adaptive average pooling does:
    bins overlap when n does not divide L, and repeat voxels when n > L.

    Args:
        regions_per_axis: number of bins, one for each spatial axis in array order (K, J, I), or one number for all.
        adaptive: weights from a, b; otherwise `alpha` weighs false positives and `beta` false negatives.
        a, b: the adaptive weights lie in [a, a + b]. With b = 0 both are a: region-wise soft Dice for a = 0.5.
        alpha, beta: the fixed weights.
        smooth: e; weighs more on averages than on sums, by the number of voxels in a region.
        include_background: class 0 takes part.
        batch_dice: add up TP, FP, FN of a region over the batch before T is taken; otherwise one T a sample.
        region_value: "average" or "sum" of TP, FP, FN inside a region.
        reduction: "mean" or "sum" of 1 - T over regions; then the mean over classes (and samples). The sum is the
            papers' equation, and grows with the number of regions.
        ignore_label: voxels of this label take no part: averages are over the others, and a region in which no voxel
            counts is left out of the mean. The released code instead feeds ignored voxels to the region term as
            background; to reproduce that, replace the ignore label by 0 and give no `ignore_label`.
    Raises:
        ConfigError: an argument makes no sense.
    Source: see the module. The value is 1 + that of the released MambaClinix class, whose `alpha`, `beta` are a, b.
    """

    def __init__(
        self,
        regions_per_axis: int | Sequence[int],
        *,
        adaptive: bool = True,
        a: float = 0.3,
        b: float = 0.4,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1e-5,
        include_background: bool = False,
        batch_dice: bool = True,
        region_value: Literal["average", "sum"] = "average",
        reduction: Literal["mean", "sum"] = "mean",
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(ignore_label)
        self.regions_per_axis = _checked_regions(regions_per_axis)
        self.adaptive = adaptive
        self.a, self.b = _not_negative("a", a), _not_negative("b", b)
        self.alpha, self.beta = _not_negative("alpha", alpha), _not_negative("beta", beta)
        self.smooth = _positive("smooth", smooth)
        self.include_background = include_background
        self.batch_dice = batch_dice
        self.region_value = _one_of("region_value", region_value, ("average", "sum"))
        self.reduction = _one_of("reduction", reduction, ("mean", "sum"))

    def evaluate(self, compared: _Compared) -> Tensor:
        regions = self._regions_for(compared.counts.shape[2:])
        tp, fp, fn = (
            sum_over_regions(part, regions) for part in compared.tp_fp_fn(0 if self.include_background else 1)
        )
        voxels = sum_over_regions(compared.counts.to(tp.dtype), regions)  # (B, 1, *regions)
        if self.region_value == "average":
            tp, fp, fn = (part / voxels.clamp(min=1) for part in (tp, fp, fn))
        if self.batch_dice:
            tp, fp, fn, voxels = (part.sum(0, keepdim=True) for part in (tp, fp, fn, voxels))
        return self._reduce(1 - self._tversky(tp, fp, fn), (voxels > 0).to(tp.dtype))

    def _tversky(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        if self.adaptive:
            wrong = fp + fn + self.smooth
            fp_weight = self.a + self.b * (fp + self.smooth) / wrong
            fn_weight = self.a + self.b * (fn + self.smooth) / wrong
            return (tp + self.smooth) / (tp + fp_weight * fp + fn_weight * fn + self.smooth)
        return (tp + self.smooth) / (tp + self.alpha * fp + self.beta * fn + self.smooth)

    def _reduce(self, region_losses: Tensor, seen: Tensor) -> Tensor:
        """Over the regions in which a voxel counts, then over classes and over the samples that have such a region."""
        axes = [*range(2, region_losses.ndim)]
        regions_seen = seen.sum(axes)  # (B or 1, 1)
        value = (region_losses * seen).sum(axes)  # (B or 1, C)
        if self.reduction == "mean":
            value = value / regions_seen.clamp(min=1)
        samples_seen = (regions_seen > 0).sum().clamp(min=1)
        return value.mean(1).sum() / samples_seen

    def _regions_for(self, size: torch.Size) -> tuple[int, ...]:
        if len(self.regions_per_axis) == 1:
            return self.regions_per_axis * len(size)
        if len(self.regions_per_axis) != len(size):
            raise ShapeError(
                f"regions_per_axis {self.regions_per_axis} has {len(self.regions_per_axis)} numbers, but the logits "
                f"have {len(size)} spatial axes {tuple(size)}; give one number for each axis"
            )
        return self.regions_per_axis

    def extra_repr(self) -> str:
        return f"regions_per_axis={self.regions_per_axis}, adaptive={self.adaptive}, reduction={self.reduction!r}"


class CompoundLoss(_Loss):
    """A weighted sum of losses on the same logits; softmax is computed once."""

    def __init__(self, terms: Sequence[tuple[float, _Loss]], *, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)
        self.weights = tuple(weight for weight, _ in terms)
        self.terms = nn.ModuleList(term for _, term in terms)

    def evaluate(self, compared: _Compared) -> Tensor:
        values = [
            weight * term.evaluate(compared) for weight, term in zip(self.weights, self._typed_terms(), strict=True)
        ]
        return torch.stack(values).sum()

    def _typed_terms(self) -> list[_Loss]:
        return [term for term in self.terms if isinstance(term, _Loss)]


class DeepSupervisionLoss(nn.Module):
    """The weighted sum of one loss over the outputs of a network at several resolutions, largest first.

    Args:
        loss: applied at every level with a weight other than 0.
        weights: one for each level, used as they are; nnU-Net's are 1, 1/2, 1/4 ... with the last set to 0, normalised.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(_not_negative("deep_supervision_weights", weight) for weight in weights)
        if not any(self.weights):
            raise ConfigError(f"deep_supervision_weights {self.weights} must hold at least one number above 0")

    def forward(self, logits: Sequence[Tensor], labels: Tensor | Sequence[Tensor]) -> Tensor:
        """Compare a list of logits with labels of each level, or of the first, which are then reduced (nearest voxel).

        Raises:
            ShapeError: the number of levels is not the number of weights.
        """
        if isinstance(logits, Tensor) or len(logits) != len(self.weights):
            came = "one tensor" if isinstance(logits, Tensor) else f"a list of {len(logits)}"
            raise ShapeError(f"deep supervision with {len(self.weights)} weights needs as many logits, but got {came}")
        if isinstance(labels, Tensor):
            labels = [_nearest(labels, level.shape[2:]) for level in logits]
        if len(labels) != len(logits):
            raise ShapeError(f"{len(logits)} levels of logits need as many labels, but got {len(labels)}")
        values = [w * self.loss(x, y) for w, x, y in zip(self.weights, logits, labels, strict=True) if w]
        return torch.stack(values).sum()


def build_loss(
    name: str,
    *,
    regions_per_axis: int | Sequence[int] | None = None,
    ignore_label: int | None = None,
    batch_dice: bool = False,
    deep_supervision_weights: Sequence[float] | None = None,
) -> nn.Module:
    """The loss that a training config names.

    Args:
        name: "dice_ce": cross-entropy + Dice; "rs_tversky": the same + 0.8 x adaptive region term (MambaClinix);
            "arsl": cross-entropy + adaptive region term, mean over regions, without background.
        regions_per_axis: of the region term, in array order (K, J, I); None means 16 along each axis.
        ignore_label: voxels of this label take no part in any term.
        batch_dice: take Dice and region ratios over the whole batch rather than per sample.
        deep_supervision_weights: given, the loss takes a list of logits, largest first, see `DeepSupervisionLoss`.
    Returns:
        A module called as loss(logits, labels).
    Raises:
        ConfigError: an unknown name or an argument that makes no sense.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    if regions_per_axis is None:
        regions_per_axis = DEFAULT_REGIONS_PER_AXIS
    elif name == "dice_ce":
        raise ConfigError("regions_per_axis is of no use to the loss 'dice_ce'; leave it out or choose 'rs_tversky'")
    terms: list[tuple[float, _Loss]] = [(1.0, CrossEntropyLoss(ignore_label=ignore_label))]
    if name != "arsl":
        terms.append((1.0, SoftDiceLoss(batch_dice=batch_dice, ignore_label=ignore_label)))
    if name != "dice_ce":
        region_term = RegionTverskyLoss(regions_per_axis, batch_dice=batch_dice, ignore_label=ignore_label)
        terms.append((REGION_TERM_WEIGHT if name == "rs_tversky" else 1.0, region_term))
    loss = CompoundLoss(terms, ignore_label=ignore_label)
    return loss if deep_supervision_weights is None else DeepSupervisionLoss(loss, deep_supervision_weights)


def sum_over_regions(values: Tensor, regions_per_axis: Sequence[int]) -> Tensor:
    """Sums over the bins of adaptive pooling: (B, C, *spatial) -> (B, C, *regions_per_axis).

    A matrix product for each axis: unlike torch's adaptive pooling its gradient has a fixed order of additions on CUDA.
    """
    for axis, bins in enumerate(regions_per_axis, start=2):
        size = values.shape
        matrix = _bin_matrix(bins, size[axis], values)
        values = matrix @ values.reshape(size[:axis].numel(), size[axis], size[axis + 1 :].numel())
        values = values.reshape(*size[:axis], bins, *size[axis + 1 :])
    return values


def _bin_matrix(bins: int, length: int, like: Tensor) -> Tensor:
    """(bins, length): 1 where the voxel lies in the bin, else 0."""
    first = torch.arange(bins, device=like.device).view(-1, 1)
    start, stop = first * length // bins, ((first + 1) * length + bins - 1) // bins
    voxel = torch.arange(length, device=like.device)
    return ((voxel >= start) & (voxel < stop)).to(like.dtype)


def _compare(logits: Tensor, labels: Tensor, ignore_label: int | None) -> _Compared:
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    classes = labels.long()
    counts = torch.ones_like(classes, dtype=torch.bool) if ignore_label is None else classes != ignore_label
    classes = torch.where(counts, classes, 0)
    _check_labels(classes, logits.shape[1], ignore_label)
    log_probabilities = logits.log_softmax(1)
    return _Compared(log_probabilities, log_probabilities.exp(), classes, counts)


def _check_shapes(logits: Tensor, labels: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise ShapeError(
            "the logits are a list; build the loss with deep_supervision_weights to compare several levels"
        )
    if not logits.is_floating_point() or logits.ndim < 3 or logits.shape[1] < 2 or 0 in logits.shape:
        raise ShapeError(
            f"logits must be floating point of shape (B, C, *spatial) with at least two classes and one voxel, "
            f"but are {logits.dtype} {tuple(logits.shape)}"
        )
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


def _nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(labels.shape[2:]) == tuple(size):
        return labels
    return F.interpolate(labels.double(), size=tuple(size), mode="nearest-exact").long()


def _checked_regions(regions_per_axis: int | Sequence[int]) -> tuple[int, ...]:
    regions = tuple(regions_per_axis) if isinstance(regions_per_axis, Sequence) else (regions_per_axis,)
    if not regions or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in regions):
        raise ConfigError(f"regions_per_axis must be whole numbers of at least 1, but is {regions_per_axis!r}")
    return regions


def _not_negative(name: str, value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name} must be a number of at least 0, but is {value}")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a number above 0, but is {value}")
    return float(value)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, but is {value!r}")
    return value
