"""The losses against small answers worked out by hand and against vectors of the released MambaClinix code.

`data/losses_2d.npz` holds, for 2 samples of 3 classes on 12 x 16 pixels, values and every fourth/fifth gradient of the
vectors in the developers' reference data; the tests marked by the fixture `shared` compare all of them.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mambasegment_training.losses import (
    CrossEntropyLoss,
    RegionTverskyLoss,
    SoftDiceLoss,
    build_loss,
    sum_over_regions,
)
from torch import Tensor

from MambaSegmentLib.errors import ConfigError, ShapeError

SMALL_VECTORS = Path(__file__).parent / "data" / "losses_2d.npz"
REGIONS = {"r4x4": (4, 4), "r5x3": (5, 3), "r2x4x4": (2, 4, 4), "r3x3x5": (3, 3, 5)}


def logits_of(*probabilities: float) -> torch.Tensor:
    """(1, 2, 1, n) logits of a row of pixels whose second class has these probabilities."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([torch.log(1 - p), torch.log(p)])[None, :, None]


def row(*labels: int) -> torch.Tensor:
    return torch.tensor(labels)[None, None, None]


def random_case(*size: int, classes: int = 3, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, dtype=torch.float64, generator=generator, requires_grad=True)
    return logits, torch.randint(0, classes, (batch, 1, *size), generator=generator)


# --- answers by hand


def test_fixed_weights_on_two_pixels():
    # p = 0.8 where the truth is 1, p = 0.5 where it is 0: TP 0.4, FP 0.25, FN 0.1 as averages over two pixels
    loss = RegionTverskyLoss(1, adaptive=False, alpha=0.3, beta=0.7, smooth=1e-12)
    value = loss(logits_of(0.8, 0.5), row(1, 0))
    assert value.item() == pytest.approx(1 - 0.4 / (0.4 + 0.3 * 0.25 + 0.7 * 0.1))


def test_adaptive_weights_on_two_pixels():
    # FP 0.25, FN 0.1: FP gets 0.3 + 0.4 * 25/35, FN gets 0.3 + 0.4 * 10/35
    value = RegionTverskyLoss(1, smooth=1e-12)(logits_of(0.8, 0.5), row(1, 0))
    wrong = (0.3 + 0.4 * 25 / 35) * 0.25 + (0.3 + 0.4 * 10 / 35) * 0.1
    assert value.item() == pytest.approx(1 - 0.4 / (0.4 + wrong))


def test_each_region_has_its_own_index():
    loss = RegionTverskyLoss((1, 2), adaptive=False, alpha=0.5, beta=0.5, smooth=1e-12)
    # left: TP 0.8, FN 0.2; right: all wrong, T = 0
    value = loss(logits_of(0.8, 0.5), row(1, 0))
    assert value.item() == pytest.approx(((1 - 0.8 / 0.9) + 1) / 2)


def test_sum_reduction_grows_with_the_number_of_regions():
    logits, labels = random_case(8, 8)
    mean, total = (RegionTverskyLoss(4, reduction=r)(logits, labels) for r in ("mean", "sum"))
    assert total.item() == pytest.approx(16 * mean.item())


def test_sums_differ_from_averages_by_the_smoothing_alone():
    logits, labels = random_case(8, 8)
    voxels = 4  # in each of 4 x 4 regions
    average = RegionTverskyLoss(4, smooth=1e-3)(logits, labels)
    summed = RegionTverskyLoss(4, smooth=1e-3 * voxels, region_value="sum")(logits, labels)
    assert summed.item() == pytest.approx(average.item(), rel=1e-12)


def test_batch_dice_shares_an_index_between_samples():
    logits = torch.cat([logits_of(0.8), logits_of(0.5)])
    labels = torch.cat([row(1), row(0)])
    options = {"adaptive": False, "alpha": 0.5, "beta": 0.5, "smooth": 1e-12}
    apart, shared_index = (RegionTverskyLoss(1, batch_dice=b, **options)(logits, labels) for b in (False, True))
    assert apart.item() == pytest.approx(((1 - 0.8 / 0.9) + 1) / 2)
    assert shared_index.item() == pytest.approx(1 - 0.8 / (0.8 + 0.25 + 0.1))


def test_bins_overlap_when_the_length_is_no_multiple():
    ones = torch.arange(1.0, 6.0).view(1, 1, 5)  # bins of 5 voxels in 3: [0, 2), [1, 4), [3, 5)
    assert sum_over_regions(ones, (3,)).flatten().tolist() == [1 + 2, 2 + 3 + 4, 4 + 5]


def test_bins_repeat_voxels_when_there_are_more_bins_than_voxels():
    assert sum_over_regions(torch.tensor([[[3.0, 7.0]]]), (4,)).flatten().tolist() == [3, 3, 7, 7]


@pytest.mark.parametrize(("size", "regions"), [((7,), (3,)), ((12, 16), (5, 3)), ((5, 8, 3), (2, 3, 7))])
def test_bins_are_those_of_adaptive_pooling(size, regions):
    values = torch.randn(2, 3, *size, dtype=torch.float64)
    pool = [torch.nn.functional.adaptive_avg_pool1d, torch.nn.functional.adaptive_avg_pool2d]
    pool.append(torch.nn.functional.adaptive_avg_pool3d)
    counts = sum_over_regions(torch.ones_like(values), regions)
    torch.testing.assert_close(sum_over_regions(values, regions) / counts, pool[len(size) - 1](values, regions))


def test_dice_by_hand():
    # TP 0.8, FP 0.5, FN 0.2
    value = SoftDiceLoss(smooth=1e-12)(logits_of(0.8, 0.5), row(1, 0))
    assert value.item() == pytest.approx(1 - 1.6 / (1.6 + 0.5 + 0.2))


def test_cross_entropy_is_torchs_own():
    logits, labels = random_case(5, 6)
    expected = torch.nn.functional.cross_entropy(logits, labels[:, 0])
    torch.testing.assert_close(CrossEntropyLoss()(logits, labels), expected)


def test_perfect_and_empty_predictions_cost_nothing():
    logits = torch.full((1, 2, 4, 4), -40.0, dtype=torch.float64)
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.long)
    labels[..., :2] = 1
    logits[:, 1][labels[:, 0] == 1] = 40
    logits[:, 0][labels[:, 0] == 0] = 40
    for name in ("dice_ce", "rs_tversky", "arsl"):
        assert build_loss(name)(logits, labels).item() == pytest.approx(0, abs=1e-9)


# --- vectors of the released code


def loss_of_tag(tag: str):
    """Our loss for a tag of the vectors, and what to add to it to get their value."""
    regions = REGIONS[next(part for part in tag.split("_") if part in REGIONS)]
    batch = "batch0" not in tag
    background = "bg1" in tag
    if tag.startswith("official_adaptive"):
        return RegionTverskyLoss(regions, batch_dice=batch, include_background=background), -1
    if tag.startswith("official_fixed"):
        return RegionTverskyLoss(regions, a=0.5, b=0), -1
    if tag.startswith("equation_fixed"):
        return RegionTverskyLoss(regions, adaptive=False), -1
    if tag.startswith("arsl_eq5_6"):
        options = {"region_value": "sum", "reduction": "sum", "include_background": True, "batch_dice": False}
        return RegionTverskyLoss(regions, **options), 0
    if tag.startswith("arsl_pool_sum"):
        return RegionTverskyLoss(regions, reduction="sum", include_background=True), 0
    if tag.startswith("arsl_pool_mean_fg"):
        return RegionTverskyLoss(regions), 0
    assert tag.startswith("compound_r"), tag
    return build_loss("rs_tversky", regions_per_axis=regions, batch_dice=True), -1.8  # Dice and T as -D and -T there


def tags_of(vectors) -> list[tuple[str, str]]:
    names = sorted({tuple(name.split("::")[:2]) for name in vectors.files if name.endswith("::value")})
    return [(case, tag) for case, tag in names if not tag.startswith("compound_ignore")]


def assert_vector(vectors, case, tag, stride=None):
    logits = torch.from_numpy(vectors[f"{case}::logits"]).requires_grad_()
    loss, offset = loss_of_tag(tag)
    value = loss(logits, torch.from_numpy(vectors[f"{case}::labels"]))
    (grad,) = torch.autograd.grad(value, logits)
    assert value.dtype == torch.float64
    assert value.item() + offset == pytest.approx(float(vectors[f"{case}::{tag}::value"]), abs=1e-9)
    grad = grad if stride is None else grad[stride]
    np.testing.assert_allclose(grad.numpy(), vectors[f"{case}::{tag}::grad"], rtol=0, atol=1e-9)


SOME = (slice(None), slice(None), slice(None, None, 4), slice(None, None, 5))


@pytest.mark.parametrize(("case", "tag"), tags_of(np.load(SMALL_VECTORS)))
def test_values_and_gradients_of_the_small_vectors(case, tag):
    assert_vector(np.load(SMALL_VECTORS), case, tag, SOME)


def test_values_and_gradients_of_all_vectors(shared):
    vectors = np.load(shared / "reference" / "losses" / "golden.npz")
    tags = tags_of(vectors)
    assert len(tags) == 40
    for case, tag in tags:
        assert_vector(vectors, case, tag)


def test_the_released_handling_of_ignored_voxels_can_be_had():
    vectors = np.load(SMALL_VECTORS)
    logits = torch.from_numpy(vectors["c2d::logits"]).requires_grad_()
    labels = torch.from_numpy(vectors["c2d::labels_with_ignore"])
    as_background = torch.where(labels == 3, 0, labels)
    dice_ce = build_loss("dice_ce", ignore_label=3, batch_dice=True)(logits, labels)
    value = dice_ce - 1 + 0.8 * (RegionTverskyLoss((4, 4))(logits, as_background) - 1)
    (grad,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(float(vectors["c2d::compound_ignore_r4x4::value"]), abs=1e-9)
    np.testing.assert_allclose(grad[SOME], vectors["c2d::compound_ignore_r4x4::grad"], rtol=0, atol=1e-9)


# --- ignored voxels

ALL_LOSSES = [
    pytest.param(lambda **o: build_loss("dice_ce", **o), id="dice_ce"),
    pytest.param(lambda **o: build_loss("rs_tversky", regions_per_axis=(5, 3), **o), id="rs_tversky"),
    pytest.param(lambda **o: build_loss("arsl", regions_per_axis=2, **o), id="arsl"),
    pytest.param(lambda **o: RegionTverskyLoss(3, region_value="sum", **o), id="region sum"),
]


@pytest.mark.parametrize("make", ALL_LOSSES)
@pytest.mark.parametrize("ignore_label", [-1, 3, 255])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_ignored_voxels_change_nothing(make, ignore_label, batch_dice):
    logits, labels = random_case(12, 16)
    ignored = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    ignored[:, :, :6] = True  # whole regions among them
    labels = torch.where(ignored, ignore_label, labels)
    loss = make(ignore_label=ignore_label, batch_dice=batch_dice)
    value = loss(logits, labels)
    (grad,) = torch.autograd.grad(value, logits)
    assert grad[ignored.expand_as(grad)].abs().max() == 0
    assert grad[~ignored.expand_as(grad)].abs().min() > 0
    changed = torch.where(ignored, 100 * torch.randn_like(logits), logits)
    assert loss(changed, labels).item() == pytest.approx(value.item(), abs=1e-12)


def test_an_image_with_an_ignored_half_counts_as_its_other_half():
    logits, labels = random_case(8, 16)
    masked = labels.clone()
    masked[..., 8:] = 9
    for batch_dice in (False, True):
        whole = RegionTverskyLoss((2, 4), ignore_label=9, batch_dice=batch_dice)(logits, masked)
        half = RegionTverskyLoss((2, 2), batch_dice=batch_dice)(logits[..., :8], labels[..., :8])
        assert whole.item() == pytest.approx(half.item(), abs=1e-12)


def test_a_wholly_ignored_sample_counts_as_absent():
    logits, labels = random_case(8, 8)
    labels[1] = -1
    for loss in (RegionTverskyLoss(2, batch_dice=False, ignore_label=-1), CrossEntropyLoss(ignore_label=-1)):
        assert loss(logits, labels).item() == pytest.approx(loss(logits[:1], labels[:1]).item(), abs=1e-12)


@pytest.mark.parametrize("make", ALL_LOSSES)
def test_nothing_but_ignored_voxels_gives_a_finite_loss_without_gradient(make):
    logits, labels = random_case(6, 6)
    value = make(ignore_label=7)(logits, torch.full_like(labels, 7))
    (grad,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert grad.abs().max() == 0


# --- deep supervision


def test_deep_supervision_adds_up_the_levels():
    logits, labels = random_case(8, 8)
    smaller = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    plain = build_loss("rs_tversky", regions_per_axis=4)
    deep = build_loss("rs_tversky", regions_per_axis=4, deep_supervision_weights=(0.75, 0.25))
    expected = 0.75 * plain(logits, labels) + 0.25 * plain(smaller, labels[..., 1::2, 1::2])
    assert deep([logits, smaller], labels).item() == pytest.approx(expected.item())
    assert deep([logits, smaller], [labels, labels[..., 1::2, 1::2]]).item() == pytest.approx(expected.item())


def test_a_level_of_weight_zero_costs_nothing():
    logits, labels = random_case(8, 8)
    unused = torch.full((2, 3, 1, 1), float("nan"))
    deep = build_loss("dice_ce", deep_supervision_weights=(1, 0))
    assert deep([logits, unused], labels).item() == pytest.approx(build_loss("dice_ce")(logits, labels).item())


# --- precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_compared_in_float32(dtype):
    logits, labels = random_case(12, 16)
    loss = build_loss("rs_tversky", regions_per_axis=(5, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.to(dtype), labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.to(dtype).double(), labels).item(), abs=1e-5)


def test_gradients_are_those_of_finite_differences():
    logits, labels = random_case(3, 4, 2, classes=2, batch=1)
    labels[0, 0, 0, 0, 0] = 2
    loss = build_loss("rs_tversky", regions_per_axis=(2, 3, 1), ignore_label=2)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (logits,))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_type(dtype):
    logits, labels = random_case(6, 6)
    loss = build_loss("arsl")
    assert loss(logits, labels.to(dtype)).item() == loss(logits, labels).item()


# --- refusals


@pytest.mark.parametrize(
    "options",
    [
        {"regions_per_axis": 0},
        {"regions_per_axis": ()},
        {"regions_per_axis": (4, -1)},
        {"regions_per_axis": 2.5},
        {"regions_per_axis": "444"},
        {"regions_per_axis": 4, "a": -0.1},
        {"regions_per_axis": 4, "beta": float("nan")},
        {"regions_per_axis": 4, "smooth": 0},
        {"regions_per_axis": 4, "region_value": "median"},
        {"regions_per_axis": 4, "reduction": "none"},
    ],
)
def test_arguments_without_sense_are_refused(options):
    with pytest.raises(ConfigError):
        RegionTverskyLoss(**options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tversky", {}),
        ("dice_ce", {"regions_per_axis": (4, 4)}),
        ("arsl", {"deep_supervision_weights": (1, -0.5)}),
        ("arsl", {"deep_supervision_weights": (0, 0)}),
        ("rs_tversky", {"regions_per_axis": (4, 0)}),
    ],
)
def test_losses_without_sense_are_refused(name, options):
    with pytest.raises(ConfigError):
        build_loss(name, **options)


def test_an_unknown_loss_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'rs_tverski'; did you mean rs_tversky\?.*dice_ce, rs_tversky, arsl"):
        build_loss("rs_tverski")


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 5, dtype=torch.long)),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.long)),
        (torch.zeros(1, 2, 4, 4, dtype=torch.long), torch.zeros(1, 1, 4, 4, dtype=torch.long)),
        (torch.zeros(1, 2), torch.zeros(1, 1, dtype=torch.long)),
        (torch.zeros(0, 2, 4, 4), torch.zeros(0, 1, 4, 4, dtype=torch.long)),
        (torch.zeros(1, 2, 4, 4), torch.full((1, 1, 4, 4), 2)),
        (torch.zeros(1, 2, 4, 4), torch.full((1, 1, 4, 4), -1)),
        ([torch.zeros(1, 2, 4, 4)], torch.zeros(1, 1, 4, 4, dtype=torch.long)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(logits, labels):
    with pytest.raises(ShapeError):
        build_loss("rs_tversky", regions_per_axis=2)(logits, labels)


def test_a_label_out_of_range_is_named():
    with pytest.raises(ShapeError, match=r"0\.\.1 or the ignore label 255, but hold 7"):
        build_loss("dice_ce", ignore_label=255)(torch.zeros(1, 2, 4, 4), torch.full((1, 1, 4, 4), 7))


def test_regions_must_fit_the_spatial_axes():
    with pytest.raises(ShapeError, match="2 spatial axes"):
        RegionTverskyLoss((2, 2, 2))(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.long))


def test_deep_supervision_needs_a_list_of_the_right_length():
    loss = build_loss("dice_ce", deep_supervision_weights=(1, 0.5))
    logits, labels = random_case(4, 4)
    for wrong in (logits, [logits], [logits] * 3):
        with pytest.raises(ShapeError):
            loss(wrong, labels)


TUMOUR_REGIONS = ((1, 2), (2,))  # a tumour with its core


def overlapping() -> tuple[Tensor, Tensor]:
    """Logits of two regions and labels 0, 1, 2 on four voxels."""
    logits = torch.tensor([[[2.0, 1.0, -1.0, 0.5]], [[-2.0, 0.0, 3.0, 0.5]]], dtype=torch.float64)
    return logits.permute(1, 0, 2).reshape(1, 2, 1, 4), torch.tensor([[[[0, 1, 2, 0]]]])


def test_regions_that_overlap_are_yes_or_no_each():
    """By hand: truth of the tumour 0 1 1 0, of the core 0 0 1 0; mean binary cross-entropy plus 1 - mean Dice."""
    logits, labels = overlapping()
    p, truth = logits.sigmoid()[0, :, 0], torch.tensor([[0.0, 1, 1, 0], [0, 0, 1, 0]], dtype=torch.float64)
    entropy = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    dice = ((2 * (p * truth).sum(1) + 1e-5) / (p.sum(1) + truth.sum(1) + 1e-5)).mean()
    torch.testing.assert_close(build_loss("dice_ce", label_regions=TUMOUR_REGIONS)(logits, labels), entropy + 1 - dice)


@pytest.mark.parametrize("name", ["dice_ce", "rs_tversky", "arsl", "focal", "dice_focal"])
def test_every_loss_takes_regions_and_leaves_ignored_voxels_out(name):
    pytest.importorskip("monai")
    more = {"regions_per_axis": (1, 2)} if name in ("rs_tversky", "arsl") else {}
    loss = build_loss(name, label_regions=TUMOUR_REGIONS, ignore_label=3, **more)
    logits, labels = overlapping()
    labels[..., 3] = 3
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.all(gradient[..., 3] == 0)
    assert torch.all(gradient[..., :2] != 0)


def test_as_many_outputs_as_regions():
    logits, labels = overlapping()
    with pytest.raises(ShapeError, match="the data has 3 regions"):
        build_loss("dice_ce", label_regions=(*TUMOUR_REGIONS, (1,)))(logits, labels)


def test_focal_loss_by_hand():
    """MONAI's, against (1 - p)^gamma times the cross-entropy of the true class; gamma 0 is the cross-entropy."""
    pytest.importorskip("monai")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 1, 4, 5), generator=generator)
    p = logits.softmax(1).gather(1, labels)
    for gamma in (1.5, 0.0):
        expected = (-((1 - p) ** gamma) * p.log()).mean().float()
        torch.testing.assert_close(build_loss("focal", focal_gamma=gamma)(logits, labels), expected)
    labels[0] = 9
    expected = (-((1 - p[1]) ** 2) * p[1].log()).mean().float()
    torch.testing.assert_close(build_loss("focal", ignore_label=9)(logits, labels), expected)


def test_focal_without_monai(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.losses", None)  # what Python keeps of a package that cannot be imported
    with pytest.raises(ConfigError, match=r"`pip install --no-deps monai`"):
        build_loss("dice_focal")


def test_dice_with_squares_and_background():
    """Mamba-UNet's: 1 - (2 sum(p g) + e) / (sum(p^2) + sum(g^2) + e) over all classes, the batch as one."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 1, 4, 5), generator=generator)
    p, g = logits.softmax(1), torch.nn.functional.one_hot(labels[:, 0], 3).permute(0, 3, 1, 2).double()
    ratios = (2 * (p * g).sum((0, 2, 3)) + 1e-5) / ((p * p).sum((0, 2, 3)) + g.sum((0, 2, 3)) + 1e-5)
    expected = 0.5 * (CrossEntropyLoss()(logits, labels) + 1 - ratios.mean())
    loss = build_loss("dice_ce", batch_dice=True, dice_background=True, dice_squared=True, scale=0.5)
    torch.testing.assert_close(loss(logits, labels), expected)


def test_fixed_weights_of_the_region_term():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 1, 4, 5), generator=generator)
    options = {"region_weights": "fixed", "alpha": 0.3, "beta": 0.7}
    term = RegionTverskyLoss((2, 2), adaptive=False, alpha=0.3, beta=0.7, batch_dice=False)
    value = build_loss("arsl", regions_per_axis=(2, 2), **options)(logits, labels)
    torch.testing.assert_close(value, CrossEntropyLoss()(logits, labels) + term(logits, labels))
