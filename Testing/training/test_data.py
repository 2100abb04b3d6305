"""Patches: where they lie, what surrounds them, and that equal seeds give equal ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mambasegment_training.data import Case, CaseStore, case_at, cut_patch, sample_seed

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.inference.tiling import padding


def a_case(*shape: int) -> Case:
    """Each voxel of the image tells its place (from 1); the label is 1 at the far corner."""
    image = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(1, *shape)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(size - 1 for size in shape)] = 1
    return Case(image, labels, np.array([[1, *(size - 1 for size in shape)]], np.int32))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_smaller_case_lies_where_prediction_puts_it():
    case = a_case(3, 4, 5)
    image, labels = cut_patch(case, (8, 8, 8), rng(), 0.5)
    margins = padding((3, 4, 5), (8, 8, 8))
    np.testing.assert_array_equal(image, np.pad(case.image, [(0, 0), *margins]))
    np.testing.assert_array_equal(labels, np.pad(case.labels, margins))
    assert (image.dtype, labels.dtype) == (np.float32, np.int16)


def test_a_smaller_case_lies_in_every_place_if_wanted():
    case = a_case(3, 8, 8)
    places = set()
    for seed in range(60):
        image, _ = cut_patch(case, (5, 8, 8), rng(seed), 0.5, small_cases="anywhere")
        first = int(np.flatnonzero(image[0].any(axis=(1, 2)))[0])
        np.testing.assert_array_equal(image[:, first : first + 3], case.image)
        places.add(first)
    assert places == {0, 1, 2}


@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.sampled_from(["centred", "anywhere"]),
)
def test_a_patch_holds_voxels_of_the_case_and_zeros(shape, size, seed, fraction, small_cases):
    case = a_case(*shape)
    image, labels = cut_patch(case, size, rng(seed), fraction, small_cases=small_cases)
    assert image.shape == (1, *size)
    inside = image[0] > 0
    assert inside.sum() == np.prod([min(s, p) for s, p in zip(shape, size, strict=True)])
    assert len(np.unique(image[inside[None]])) == inside.sum()  # each place once
    np.testing.assert_array_equal(labels == 1, image[0] == np.prod(shape))


def test_foreground_patches_hold_the_label():
    case = a_case(20, 20, 20)  # one labelled voxel of 8000
    for seed in range(20):
        assert cut_patch(case, (4, 4, 4), rng(seed), 1.0)[1].max() == 1
    assert sum(cut_patch(case, (4, 4, 4), rng(seed), 0.0)[1].max() for seed in range(50)) < 3


def test_labels_are_drawn_evenly_however_large_they_are():
    labels = np.zeros((40, 4, 4), np.uint8)
    labels[:20], labels[39, 0, 0] = 1, 2
    rows = np.column_stack([labels[labels > 0], np.argwhere(labels > 0)]).astype(np.int32)
    case = Case(labels[None].astype(np.float32), labels, rows)
    found = sum((cut_patch(case, (4, 4, 4), rng(seed), 1.0)[1] == 2).any() for seed in range(100))
    assert 35 < found < 65


def test_a_case_without_labels_gives_patches_all_the_same():
    case = Case(np.ones((1, 9, 9, 9), np.float32), np.zeros((9, 9, 9), np.uint8), np.empty((0, 4), np.int32))
    assert cut_patch(case, (4, 4, 4), rng(), 1.0)[0].all()


@given(st.tuples(*[st.integers(1, 14)] * 3), st.integers(0, 10**6))
def test_the_surroundings_have_the_patch_in_their_middle(shape, seed):
    case, size, wide = a_case(*shape), (4, 5, 6), (9, 9, 9)
    patch, _ = cut_patch(case, size, rng(seed), 0.5)
    source, _ = cut_patch(case, size, rng(seed), 0.5, wide)
    middle = [(extent // 2 - edge // 2) for extent, edge in zip(source.shape[1:], size, strict=True)]
    window = tuple(slice(first, first + edge) for first, edge in zip(middle, size, strict=True))
    np.testing.assert_array_equal(source[(slice(None), *window)], patch)


def test_patches_are_copies():
    case = a_case(4, 4, 4)
    cut_patch(case, (4, 4, 4), rng(), 0.0)[0][:] = -1
    assert case.image.min() == 1


def test_each_round_shows_every_case_once_in_a_new_order():
    rounds = [[case_at(start + place, 7, seed=3) for place in range(7)] for start in (0, 7, 14)]
    assert all(sorted(cases) == list(range(7)) for cases in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert [case_at(place, 7, seed=4) for place in range(7)] != rounds[0]


def test_samples_have_random_numbers_of_their_own():
    seeds = [(3, 0, 0), (3, 0, 1), (3, 1, 0), (4, 0, 0)]
    words = {tuple(sample_seed(*seed).generate_state(4)) for seed in seeds}
    assert len(words) == 4
    assert tuple(sample_seed(3, 0, 0).generate_state(4)) in words


@pytest.mark.parametrize("limit_bytes", [0, 2**30])
def test_stores_in_memory_and_mapped_hold_the_same(prepared, limit_bytes):
    store = CaseStore(prepared.folder / "cases", prepared.split.train, limit_bytes)
    assert len(store) == 4
    case = store[prepared.split.train[0]]
    assert isinstance(case.image, np.memmap) == (limit_bytes == 0)
    np.testing.assert_array_equal(
        case.image, np.load(prepared.folder / "cases" / f"{prepared.split.train[0]}.image.npy")
    )


def test_missing_and_damaged_cases(prepared, tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.image\.npy does not exist; run `mambatrain prepare` again"):
        CaseStore(prepared.folder / "cases", ("absent",), 0)
    for kind in ("image", "labels", "foreground"):
        (tmp_path / f"a.{kind}.npy").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"cannot read .*a\.image\.npy"):
        CaseStore(tmp_path, ("a",), 0)
