"""Losses that compare a network's logits with integer labels: Dice, cross-entropy and the region-specific ones.

Shapes: logits (B, C, *spatial); labels (B, 1, *spatial), integers in 0..C-1 or the ignore label; the value is a scalar.
Softmax runs over all C classes, class 0 is the background. Float64 logits are computed in float64 throughout, all
others in float32, also inside autocast. No sum here depends on the order of threads, so a resumed training repeats
itself.

Sources: region-specific Tversky loss, MambaClinix, Bian et al. 2024, arXiv:2409.12533; adaptive weights (ARSL), Chen et
al., IEEE TPAMI 2023; Dice and cross-entropy as in nnU-Net, Isensee et al. 2021. Written from the papers; values and
gradients agree with the released MambaClinix class, whose value is ours minus 1.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError, ShapeError

from .comparison import Compared, compare

LOSSES = ("dice_ce", "rs_tversky", "arsl", "focal", "dice_focal")
REGION_TERM_WEIGHT = 0.8  # of rs_tversky, as released with MambaClinix
DEFAULT_REGIONS_PER_AXIS = 16  # as both papers' code


class _Loss(nn.Module, ABC):
    """A loss whose value follows from `Compared`."""

    def __init__(self, ignore_label: int | None) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.label_regions: tuple[tuple[int, ...], ...] = ()  # of outputs that overlap: the labels that each unites

    @property
    def adds_up_by_image(self) -> bool:
        """Whether the value of a batch is the mean of the values of its images.

        It is not where voxels are ignored, since an image with few that count then weighs less.
        """
        return self.ignore_label is None

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compare logits (B, C, *spatial) with labels (B, 1, *spatial).

        Raises:
            ShapeError: the two do not fit each other, or a label is neither a class nor the ignore label.
        """
        if not isinstance(logits, Tensor):
            raise ShapeError(
                "the logits are a list; build the loss with deep_supervision_weights to compare several levels"
            )
        with torch.autocast(logits.device.type, enabled=False):
            return self.evaluate(compare(logits, labels, self.ignore_label, self.label_regions))

    @abstractmethod
    def evaluate(self, compared: Compared) -> Tensor:
        """The value of the loss; everything in it is float32 or float64."""


class CrossEntropyLoss(_Loss):
    """Mean of -log p(truth) over the voxels that count, and over regions that overlap; 0 when no voxel counts."""

    def __init__(self, *, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)

    def evaluate(self, compared: Compared) -> Tensor:
        entropies = compared.cross_entropy()
        return (entropies * compared.counts).sum() / (compared.counts.sum() * entropies.shape[1]).clamp(min=1)


class FocalLoss(_Loss):
    """Cross-entropy that weighs a voxel by (1 - p(truth))^gamma, so that the hard ones count; by MONAI, in
    float32 whatever the logits are.

    Args:
        gamma: 0 is the plain cross-entropy.
    Raises:
        ConfigError: MONAI is not installed.
    Source: Lin et al. 2017, arXiv:1708.02002.
    """

    def __init__(self, *, gamma: float = 2.0, ignore_label: int | None = None) -> None:
        super().__init__(ignore_label)
        try:
            from monai.losses import FocalLoss as MonaiFocalLoss
        except ImportError as problem:
            raise ConfigError(
                f"the focal losses are MONAI's ({problem}); install it with `pip install --no-deps monai`"
            ) from problem
        kinds = (MonaiFocalLoss(gamma=gamma, use_softmax=overlap, reduction="none") for overlap in (True, False))
        self.exclusive, self.overlapping = kinds

    def evaluate(self, compared: Compared) -> Tensor:
        values = (self.overlapping if compared.overlap else self.exclusive)(compared.logits, compared.truth())
        voxels = compared.counts.sum() * (values.shape[1] if compared.overlap else 1)
        return (values * compared.counts).sum() / voxels.clamp(min=1)


class SoftDiceLoss(_Loss):
    """1 - mean soft Dice of the foreground classes, or of regions that overlap.

    Args:
        batch_dice: add up the batch before the ratio is taken, as if it were one large image; otherwise one ratio a
            sample.
        smooth: added to numerator and denominator.
        include_background: class 0 takes part.
        squared: 2 sum(p g) / (sum(p^2) + sum(g^2)), Milletari et al. 2016, as Mamba-UNet's authors train.
        ignore_label: voxels of this label take no part.
    """

    def __init__(
        self,
        *,
        batch_dice: bool = False,
        smooth: float = 1e-5,
        include_background: bool = False,
        squared: bool = False,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(ignore_label)
        self.batch_dice, self.squared, self.first_class = batch_dice, squared, 0 if include_background else 1
        self.smooth = _positive("smooth", smooth)

    @property
    def adds_up_by_image(self) -> bool:
        return not self.batch_dice  # one ratio an image, whatever is ignored in it

    def evaluate(self, compared: Compared) -> Tensor:
        axes = (
            [0, *range(2, compared.probabilities.ndim)] if self.batch_dice else [*range(2, compared.probabilities.ndim)]
        )
        parts = compared.tp_fp_fn(self.first_class)
        if self.squared:  # p^2 = (p g)^2 + (p (1 - g))^2, and g^2 = g = p g + (1 - p) g
            tp, fp, fn = parts
            predicted, true = (tp.square() + fp.square()).sum(axes), (tp + fn).sum(axes)
            return 1 - ((2 * tp.sum(axes) + self.smooth) / (predicted + true + self.smooth)).mean()
        tp, fp, fn = (part.sum(axes) for part in parts)
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

    @property
    def adds_up_by_image(self) -> bool:
        return not self.batch_dice and self.ignore_label is None

    def evaluate(self, compared: Compared) -> Tensor:
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

    @property
    def adds_up_by_image(self) -> bool:
        return all(term.adds_up_by_image for term in self._typed_terms())

    def evaluate(self, compared: Compared) -> Tensor:
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

    @property
    def adds_up_by_image(self) -> bool:
        """As the loss at each level has it."""
        return bool(getattr(self.loss, "adds_up_by_image", False))

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
    label_regions: Sequence[Sequence[int]] = (),
    dice_background: bool = False,
    dice_squared: bool = False,
    region_weights: Literal["adaptive", "fixed"] = "adaptive",
    region_a: float = 0.3,
    region_b: float = 0.4,
    alpha: float = 0.3,
    beta: float = 0.7,
    focal_gamma: float = 2.0,
    scale: float = 1.0,
) -> nn.Module:
    """The loss that a training config names.

    Args:
        name: "dice_ce": cross-entropy + Dice; "rs_tversky": the same + 0.8 x region term (MambaClinix); "arsl":
            cross-entropy + region term, mean over regions, without background; "focal"; "dice_focal": focal + Dice.
        regions_per_axis: of the region term, in array order (K, J, I); None means 16 along each axis.
        ignore_label: voxels of this label take no part in any term.
        batch_dice: take Dice and region ratios over the whole batch rather than per sample.
        deep_supervision_weights: given, the loss takes a list of logits, largest first, see `DeepSupervisionLoss`.
        label_regions: for a network whose outputs overlap, the labels that each output unites; each output is then a
            yes or no of its own (sigmoid), and all of them count as foreground.
        dice_background, dice_squared: as `SoftDiceLoss` has them.
        region_weights, region_a, region_b, alpha, beta: as `RegionTverskyLoss` has them.
        focal_gamma: see `FocalLoss`.
        scale: the whole value times this.
    Returns:
        A module called as loss(logits, labels).
    Raises:
        ConfigError: an unknown name or an argument that makes no sense.
    """
    if name not in LOSSES:
        near = difflib.get_close_matches(name, LOSSES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown loss {name!r}{hint}; known: {', '.join(LOSSES)}")
    has_regions = name in ("rs_tversky", "arsl")
    if regions_per_axis is not None and not has_regions:
        raise ConfigError(f"regions_per_axis is of no use to the loss {name!r}; leave it out or choose 'rs_tversky'")
    terms: list[tuple[float, _Loss]] = []
    if "focal" in name:
        terms.append((1.0, FocalLoss(gamma=focal_gamma, ignore_label=ignore_label)))
    else:
        terms.append((1.0, CrossEntropyLoss(ignore_label=ignore_label)))
    if name in ("dice_ce", "rs_tversky", "dice_focal"):
        dice = SoftDiceLoss(
            batch_dice=batch_dice,
            include_background=dice_background,
            squared=dice_squared,
            ignore_label=ignore_label,
        )
        terms.append((1.0, dice))
    if has_regions:
        region_term = RegionTverskyLoss(
            DEFAULT_REGIONS_PER_AXIS if regions_per_axis is None else regions_per_axis,
            adaptive=region_weights == "adaptive",
            a=region_a,
            b=region_b,
            alpha=alpha,
            beta=beta,
            batch_dice=batch_dice,
            ignore_label=ignore_label,
        )
        terms.append((REGION_TERM_WEIGHT if name == "rs_tversky" else 1.0, region_term))
    loss = CompoundLoss([(scale * weight, term) for weight, term in terms], ignore_label=ignore_label)
    loss.label_regions = tuple(tuple(labels) for labels in label_regions)
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
