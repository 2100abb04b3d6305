"""Distances of surfaces: worked out by hand, against MONAI, and what must hold for any masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MambaSegmentLib.errors import GeometryError, ShapeError
from MambaSegmentLib.review import surface
from MambaSegmentLib.review.structures import Structure
from MambaSegmentLib.review.surface import boundary_voxels, surface_distances

SPACING_MM = (0.7, 1.0, 2.5)  # (I, J, K)


def masks(shape=(5, 6, 7)):
    return arrays.arrays(bool, shape).filter(np.any)


def test_single_voxels_use_the_spacing_of_each_axis():
    predicted, reference = np.zeros((2, 5, 5, 5), bool)
    predicted[1, 2, 2] = reference[3, 2, 2] = True  # two slices apart, 2.5 mm each
    distances = surface_distances(predicted, reference, SPACING_MM)
    assert distances.hausdorff_mm() == pytest.approx(5.0)
    assert distances.average_mm == distances.average_symmetric_mm == pytest.approx(5.0)
    predicted[...] = False
    predicted[3, 2, 0] = True  # two columns apart
    assert surface_distances(predicted, reference, SPACING_MM).hausdorff_mm() == pytest.approx(1.4)


def test_larger_and_pooled_percentile_and_both_averages():
    predicted, reference = np.zeros((2, 1, 1, 30), bool)
    predicted[0, 0, [0, 29]] = True  # in a row of one voxel's width only the ends are boundary
    reference[0, 0, 0] = True
    distances = surface_distances(predicted, reference, (1.0, 1.0, 1.0))
    assert sorted(distances.to_reference_mm) == [0, 29]
    assert list(distances.to_predicted_mm) == [0]
    assert distances.hausdorff_mm() == pytest.approx(0.95 * 29)  # of [0, 29]; the other way it is 0
    assert distances.hausdorff_mm(pooled=True) == pytest.approx(0.9 * 29)  # of [0, 0, 29]: nine tenths from 0 to 29
    assert distances.hausdorff_mm(100) == 29
    assert distances.average_mm == pytest.approx(14.5)
    assert distances.average_symmetric_mm == pytest.approx(29 / 3)
    assert distances.within(1.0) == pytest.approx(2 / 3)
    assert distances.within(29.0) == 1


def test_boundary_is_a_shell_and_the_edge_of_the_image_belongs_to_it():
    block = np.zeros((5, 5, 5), np.uint8)
    block[1:4, 1:4, 1:4] = 1
    assert len(boundary_voxels(Structure("a", (1,)), block)) == 26
    assert len(boundary_voxels(Structure("a", (1,)), np.ones((3, 3, 3), np.uint8))) == 26
    flat = np.ones((1, 4, 4), np.uint8)  # a 2-D image: its only slice has no surface above and below
    assert len(boundary_voxels(Structure("a", (1,)), flat)) == 12


@pytest.mark.parametrize("slab_voxels", [1, 40, 10_000])
def test_slabs_change_nothing(monkeypatch, slab_voxels):
    labels = np.random.default_rng(3).integers(0, 3, (7, 6, 5)).astype(np.uint8)
    region = Structure("both", (1, 2))
    whole = boundary_voxels(region, labels)
    monkeypatch.setattr(surface, "_SLAB_VOXELS", slab_voxels)
    np.testing.assert_array_equal(boundary_voxels(region, labels), whole)
    box = (slice(2, 6), slice(1, 6), slice(0, 5))
    inside = [
        point
        for point in whole.tolist()
        if all(part.start <= n < part.stop for n, part in zip(point, box, strict=True))
    ]
    assert boundary_voxels(region, labels, box).tolist() == inside


def test_no_distance_to_nothing():
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert surface_distances(empty, full, SPACING_MM) is None
    assert surface_distances(full, empty, SPACING_MM) is None
    assert surface_distances(empty, empty, SPACING_MM) is None


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ShapeError, match="differ in shape"):
        surface_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), SPACING_MM)
    with pytest.raises(ShapeError, match="K, J, I"):
        surface_distances(np.ones((2, 2), bool), np.ones((2, 2), bool), SPACING_MM)
    with pytest.raises(GeometryError, match="spacing"):
        surface_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1.0, 0.0, 1.0))


@settings(max_examples=40)
@given(masks(), masks(), st.sampled_from([50.0, 95.0, 100.0]))
def test_distances_are_those_of_a_slow_comparison_of_all_pairs(predicted, reference, percentile):
    distances = surface_distances(predicted, reference, SPACING_MM)
    mask = Structure("mask", (1,))
    edges = np.array(SPACING_MM[::-1])
    one, other = (boundary_voxels(mask, array) * edges for array in (predicted, reference))
    pairs = np.linalg.norm(one[:, None] - other[None], axis=2)
    directed = np.percentile(pairs.min(axis=1), percentile), np.percentile(pairs.min(axis=0), percentile)
    assert distances.hausdorff_mm(percentile) == pytest.approx(max(directed))
    assert distances.average_mm == pytest.approx(pairs.min(axis=1).mean())


@settings(max_examples=40)
@given(masks(), masks())
def test_symmetry_and_order(predicted, reference):
    there = surface_distances(predicted, reference, SPACING_MM)
    back = surface_distances(reference, predicted, SPACING_MM)
    assert there.hausdorff_mm() == pytest.approx(back.hausdorff_mm())
    assert there.average_symmetric_mm == pytest.approx(back.average_symmetric_mm)
    assert there.within(1.0) == pytest.approx(back.within(1.0))
    assert there.within(0.0) <= there.within(1.0) <= there.within(1e3) == 1
    assert there.hausdorff_mm() <= there.hausdorff_mm(100) + 1e-9
    assert there.hausdorff_mm(pooled=True) <= there.hausdorff_mm(100) + 1e-9
    same = surface_distances(predicted, predicted, SPACING_MM)
    assert same.hausdorff_mm() == same.average_mm == 0
    assert same.within(0.0) == 1


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_monai(seed):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(seed)
    shape = (9, 14, 12)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * SPACING_MM[::-1]
    centre = np.array(shape) / 2 * SPACING_MM[::-1]
    predicted, reference = (
        np.linalg.norm(grid - centre - rng.normal(0, 1, 3), axis=-1) < rng.uniform(3, 4.5) for _ in range(2)
    )
    predicted[0, 0, 0] = seed % 2  # a stray voxel in a corner of the image
    distances = surface_distances(predicted, reference, SPACING_MM)
    pair = [torch.tensor(mask)[None, None].float() for mask in (predicted, reference)]
    how = {"include_background": True, "spacing": list(SPACING_MM[::-1])}

    def value(tensor):
        return pytest.approx(float(tensor), rel=1e-5)

    assert distances.hausdorff_mm() == value(metrics.compute_hausdorff_distance(*pair, percentile=95, **how))
    assert distances.hausdorff_mm(100) == value(metrics.compute_hausdorff_distance(*pair, **how))
    assert distances.average_mm == value(metrics.compute_average_surface_distance(*pair, **how))
    assert distances.average_symmetric_mm == value(
        metrics.compute_average_surface_distance(*pair, symmetric=True, **how)
    )
    for tolerance_mm in (0.5, 1.0, 2.5):
        expected = metrics.compute_surface_dice(*pair, class_thresholds=[tolerance_mm], **how)
        assert distances.within(tolerance_mm) == value(expected)


def test_flat_masks_agree_with_monai_in_two_dimensions():
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(5)
    predicted, reference = rng.random((2, 1, 16, 18)) < 0.6
    distances = surface_distances(predicted, reference, (0.7, 1.3, 9.0))
    pair = [torch.tensor(mask)[None].float() for mask in (predicted, reference)]  # (B, C, J, I)
    how = {"include_background": True, "spacing": [1.3, 0.7]}
    expected = metrics.compute_hausdorff_distance(*pair, percentile=95, **how)
    assert distances.hausdorff_mm() == pytest.approx(float(expected), rel=1e-5)
    expected = metrics.compute_average_surface_distance(*pair, symmetric=True, **how)
    assert distances.average_symmetric_mm == pytest.approx(float(expected), rel=1e-5)
