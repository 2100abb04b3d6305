"""Counts, ratios, instances, regions and the rule for empty structures, against answers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MambaSegmentLib.errors import ConfigError, GeometryError, ShapeError
from MambaSegmentLib.review import confusion
from MambaSegmentLib.review.agreement import METRICS, Rules, measure_agreement
from MambaSegmentLib.review.confusion import Confusion, confusion_matrix
from MambaSegmentLib.review.instances import match_instances, match_pieces
from MambaSegmentLib.review.measure import dice_per_label
from MambaSegmentLib.review.structures import Structure, labels_and_regions
from MambaSegmentLib.volume import Volume

label_pairs = st.tuples(*[arrays.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 3))] * 2)
A, B = Structure("a", (1,)), Structure("b", (2,))


def volume(*rows: str, **geometry) -> Volume:
    """One slice, a digit a voxel."""
    return Volume(np.array([[list(map(int, row)) for row in rows]], np.uint8), **geometry)


def test_counts_and_ratios_of_one_structure():
    #                  reference   predicted
    matrix = confusion_matrix(np.array([1, 1, 1, 0, 0, 2]), np.array([1, 1, 0, 1, 0, 0]))
    counts = matrix.of(A)  # arguments are predicted, reference
    assert counts == Confusion(tp=2, fp=1, fn=1, tn=2)
    assert counts.dice == pytest.approx(2 / 3)
    assert counts.iou == 2 / 4
    assert counts.accuracy == 4 / 6
    assert counts.precision == counts.sensitivity == pytest.approx(2 / 3)
    assert counts.specificity == pytest.approx(2 / 3)
    assert matrix.accuracy == 3 / 6  # 1 1 0 of the six are right as labels
    assert matrix.of(B) == Confusion(tp=0, fp=1, fn=0, tn=5)


def test_a_region_is_one_mask():
    matrix = confusion_matrix(np.array([1, 2, 2, 0]), np.array([2, 1, 0, 1]))
    assert matrix.of(Structure("whole", (1, 2))) == Confusion(tp=2, fp=1, fn=1, tn=0)


def test_ratios_without_a_denominator_do_not_exist():
    nothing = Confusion(0, 0, 0, 5)
    assert nothing.dice is nothing.iou is nothing.precision is nothing.sensitivity is None
    assert nothing.specificity == nothing.accuracy == 1
    assert Confusion(0, 0, 0, 0).accuracy is None


def test_ignored_voxels_are_not_counted():
    matrix = confusion_matrix(np.array([1, 1, 0, 1]), np.array([1, 9, 9, 0]), ignore_label=9)
    assert matrix.of(A) == Confusion(tp=1, fp=1, fn=0, tn=0)


def test_labels_of_a_wrong_kind_are_refused():
    with pytest.raises(ShapeError, match="integers"):
        confusion_matrix(np.zeros(3), np.zeros(3))
    with pytest.raises(ShapeError, match="-1"):
        confusion_matrix(np.array([-1]), np.array([0]))


@given(label_pairs, st.sampled_from([1, 20, 10_000]))
@settings(max_examples=30)
def test_slabs_change_no_count_and_dice_is_that_of_the_training(pair, slab_voxels):
    before, confusion._SLAB_VOXELS = confusion._SLAB_VOXELS, slab_voxels
    try:
        matrix = confusion_matrix(*pair)
    finally:
        confusion._SLAB_VOXELS = before
    assert matrix.counts.sum() == pair[0].size
    for value, expected in dice_per_label(*pair, [1, 2, 3]).items():
        assert matrix.of(Structure("x", (value,))).dice == expected


@given(label_pairs)
@settings(max_examples=30)
def test_relations_between_measures(pair):
    predicted, reference = map(Volume, pair)
    measured = measure_agreement(predicted, reference, [A, B, Structure("c", (3,)), Structure("ab", (1, 2))])
    for one in measured.structures:
        if one.dice is not None:
            assert one.iou == pytest.approx(one.dice / (2 - one.dice))
        if one.precision and one.sensitivity:
            harmonic = 2 * one.precision * one.sensitivity / (one.precision + one.sensitivity)
            assert one.dice == pytest.approx(harmonic)
        for name in METRICS:
            value = getattr(one, name)
            assert value is None or (value >= 0 and (name.endswith("_mm") or value <= 1))


def test_numbers_of_a_small_case_in_millimetres():
    reference = volume("1100", "1100", "0002", spacing_mm=(2.0, 3.0, 1.0))
    predicted = volume("0110", "0110", "0002", spacing_mm=(2.0, 3.0, 1.0))
    case = measure_agreement(predicted, reference, [A, B], Rules(tolerance_mm=1.9))
    a, b = case.structures
    assert (a.reference_voxels, a.predicted_voxels, a.reference_ml) == (4, 4, pytest.approx(4 * 6 / 1000))
    assert a.dice == 0.5
    assert a.hd95_mm == 2.0  # two of four voxels are one column of 2 mm away, in both directions
    assert a.asd_mm == a.assd_mm == 1.0
    assert a.nsd == 0.5
    assert b.dice == b.nsd == 1
    assert b.hd95_mm == 0
    assert case.mean_dice == 0.75
    assert case.mean_iou == pytest.approx((1 / 3 + 1) / 2)
    assert case.accuracy == 8 / 12


def test_the_rule_for_structures_that_one_volume_lacks():
    reference = volume("1100", "0000", spacing_mm=(3.0, 4.0, 1.0))
    predicted = volume("0000", "0220", spacing_mm=(3.0, 4.0, 1.0))
    a, b, c = measure_agreement(predicted, reference, [A, B, Structure("c", (3,))]).structures
    diagonal = math.hypot(3 * 3, 4)
    assert (a.empty, b.empty, c.empty) == ("predicted", "reference", "both")
    assert (a.dice, a.iou, a.nsd, a.sensitivity, a.precision) == (0, 0, 0, 0, None)
    assert (b.dice, b.nsd, b.sensitivity, b.precision) == (0, 0, None, 0)
    assert a.hd95_mm == a.asd_mm == b.assd_mm == pytest.approx(diagonal)
    assert [getattr(c, name) for name in ("dice", "iou", "nsd", "hd95_mm", "sensitivity")] == [None] * 5
    assert c.specificity == 1
    (left_out, *_) = measure_agreement(predicted, reference, [A], Rules(missed="left out")).structures
    assert left_out.hd95_mm is None
    assert left_out.nsd == 0


def test_ignored_voxels_have_no_surface():
    reference, predicted = volume("1199"), volume("1111")
    (a,) = measure_agreement(predicted, reference, [A], Rules(ignore_label=9)).structures
    assert (a.dice, a.hd95_mm) == (1, 0)


def test_other_grids_are_refused():
    with pytest.raises(GeometryError, match="grid"):
        measure_agreement(volume("11"), volume("11", origin_mm=(0, 0, 1)), [A])


def test_instances():
    reference = np.array([1, 1, 1, 1, 0, 2, 2, 0, 3, 3, 3, 3])
    predicted = np.array([7, 7, 7, 0, 0, 8, 0, 0, 0, 0, 0, 4])
    match = match_instances(predicted, reference)  # IoU 3/4, exactly 1/2, 1/4
    assert (match.matched, match.spurious, match.missed) == (2, 1, 1)
    assert match.f1 == 2 / 3
    assert match_instances(predicted, reference, 0.7).matched == 1
    assert match_instances(np.zeros(3, int), np.zeros(3, int)).f1 is None
    with pytest.raises(ConfigError, match=r"0\.5"):
        match_instances(predicted, reference, 0.3)


def test_an_object_is_matched_once_even_where_two_reach_the_threshold():
    assert match_instances(np.array([1, 2]), np.array([5, 5])).matched == 1


def test_pieces_touch_by_faces():
    reference = volume("10", "01").array == 1
    assert match_pieces(reference, reference).matched == 2
    case = measure_agreement(volume("10", "01"), volume("10", "00"), [A], Rules(instances=True))
    assert case.structures[0].instance_f1 == pytest.approx(2 / 3)
    assert case.structures[0].instances_spurious == 1


def test_names_of_labels_and_regions():
    named = labels_and_regions({2: "core", 1: "rim"}, {"whole": (1, 2)})
    assert [(s.name, s.values) for s in named] == [("rim", (1,)), ("core", (2,)), ("whole", (1, 2))]
    with pytest.raises(ConfigError, match="label 3"):
        labels_and_regions({1: "rim"}, {"whole": (1, 3)})
    with pytest.raises(ConfigError, match="two labels"):
        labels_and_regions({1: "rim", 2: "rim"})
    with pytest.raises(ConfigError, match="background"):
        Structure("all", (0, 1))


def test_rules_are_checked():
    with pytest.raises(ConfigError, match="tolerance"):
        Rules(tolerance_mm=-1)
    with pytest.raises(ConfigError, match="hd95"):
        Rules(hd95="mean")  # type: ignore[arg-type]


def test_ratios_agree_with_monai():
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(1)
    predicted, reference = rng.random((2, 6, 7, 8)) < 0.4
    pair = [torch.tensor(mask)[None, None].float() for mask in (predicted, reference)]
    counts = confusion_matrix(predicted.astype(np.uint8), reference.astype(np.uint8)).of(A)
    assert counts.dice == pytest.approx(float(metrics.compute_dice(*pair)), rel=1e-5)
    assert counts.iou == pytest.approx(float(metrics.compute_iou(*pair)), rel=1e-5)
    table = metrics.get_confusion_matrix(*pair)
    for name in ("accuracy", "precision", "sensitivity", "specificity"):
        expected = float(metrics.compute_confusion_matrix_metric(name, table))
        assert getattr(counts, name) == pytest.approx(expected, rel=1e-5), name
