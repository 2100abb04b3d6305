"""Labels from scores that come in slabs are those of the scores as a whole."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MambaSegmentLib.errors import Cancelled, ShapeError
from MambaSegmentLib.inference.restoring import BestClass, PaintedRegions, restore_slabs
from MambaSegmentLib.label_maps import restore_labels
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocess import Undo, preprocess
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.progress import CancelToken
from MambaSegmentLib.volume import Volume

VALUES = (0, 3, 7, 300)


def a_volume(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return Volume(array, spacing_mm=spacing_mm, origin_mm=(1.0, 2.0, 3.0), direction=(0, 1, 0, 1, 0, 0, 0, 0, 1))


def in_slabs(scores: np.ndarray, cuts: list[int]) -> Iterator[tuple[int, torch.Tensor]]:
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < scores.shape[1]}), scores.shape[1]]
    for first, end in itertools.pairwise(bounds):
        yield first, torch.from_numpy(scores[:, first:end].copy())


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    spacing_mm=st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 6.0])] * 3),
    order=st.sampled_from([0, 1, 3]),
    coarse=st.sampled_from([None, 0]),
    axes=st.permutations([0, 1, 2]),
    cuts=st.lists(st.integers(1, 12), max_size=4),
    seed=st.integers(0, 1000),
    overlapping=st.booleans(),
)
def test_slabs_give_what_the_whole_gives(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    order: int,
    coarse: int | None,
    axes: list[int],
    cuts: list[int],
    seed: int,
    overlapping: bool,
) -> None:
    spec = PreprocessingSpec(
        (Normalization("none"),),
        orientation="RAS",
        axis_order=(axes[0], axes[1], axes[2]),
        spacing_mm=(1.0, 1.3, 0.9),
        resampling_order=order,
        coarse_axis_order=coarse,
    )
    undo = preprocess([a_volume(shape, spacing_mm)], spec).undo
    # Steps of 1/8 between whole numbers: scores that differ do so by more than the rounding of the interpolation.
    scores = np.random.default_rng(seed).permuted(
        np.broadcast_to(np.arange(4.0)[:, None, None, None], (4, *undo.prepared_shape)), axis=0
    )
    scores = (scores + np.random.default_rng(seed + 1).uniform(0, 0.4, scores.shape)).astype(np.float32)
    scores -= 1.5 if overlapping else 0
    whole = restore_labels(scores, undo, VALUES, overlapping=overlapping)
    streamed = restore_slabs(in_slabs(scores, cuts), undo, VALUES, overlapping=overlapping)
    assert streamed.array.dtype == np.uint16
    assert streamed.same_grid(whole)
    assert np.mean(streamed.array != whole.array) <= 0.002  # a tie within float32's rounding may fall either way


@pytest.fixture
def undo() -> Undo:
    spec = PreprocessingSpec((Normalization("none"),), spacing_mm=(0.5, 1.0, 1.0))
    return preprocess([a_volume((3, 4, 5), (1.0, 1.0, 1.0))], spec).undo


def test_the_best_class_is_the_first_of_equals() -> None:
    best = BestClass((0, 3, 300), (1, 4))
    scores = torch.tensor([[[1.0, 0, 0, 2]], [[1.0, 2, 0, 2]], [[0.0, 2, 5, 2]]])
    assert best(scores).tolist() == [[0, 3, 300, 0]]
    assert best(-scores).tolist() == [[300, 0, 0, 0]]  # buffers hold nothing of the call before


def test_regions_are_painted_one_over_the_other() -> None:
    painted = PaintedRegions((2, 1), (1, 4))
    assert painted(torch.tensor([[[1.0, 1, -1, 0]], [[-1.0, 1, 1, 0]]])).tolist() == [[2, 1, 1, 0]]


@pytest.mark.parametrize("overlapping", [False, True])
def test_splines_take_all_rows_at_once(overlapping: bool) -> None:
    spec = PreprocessingSpec((Normalization("none"),), spacing_mm=(0.5, 1.0, 1.7), score_orders=(3, None))
    undo = preprocess([a_volume((5, 6, 7), (1.0, 1.0, 1.0))], spec).undo
    scores = np.random.default_rng(0).normal(size=(4, *undo.prepared_shape)).astype(np.float32)
    whole = restore_labels(scores, undo, VALUES, overlapping=overlapping)
    streamed = restore_slabs(in_slabs(scores, [2, 3]), undo, VALUES, overlapping=overlapping)
    assert np.array_equal(streamed.array, whole.array)


@pytest.mark.parametrize(
    "slabs",
    [
        [(0, torch.zeros(2, 6, 4, 5)), (7, torch.zeros(2, 1, 4, 5))],
        [(0, torch.zeros(2, 5, 4, 5))],
        [(0, torch.zeros(3, 6, 4, 5))],
        [(0, torch.zeros(2, 6, 4, 4))],
    ],
)
def test_slabs_that_do_not_fit_are_refused(undo: Undo, slabs: list[tuple[int, torch.Tensor]]) -> None:
    with pytest.raises(ShapeError):
        restore_slabs(slabs, undo, (0, 1))


def test_it_can_be_cancelled(undo: Undo) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        restore_slabs([(0, torch.zeros(2, 6, 4, 5))], undo, (0, 1), cancel=token)
