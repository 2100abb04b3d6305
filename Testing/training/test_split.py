"""No patient on both sides, whatever the data set looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mambasegment_training.split import (
    Split,
    folds_by_patient,
    folds_to_nnunet,
    read_folds,
    split_by_list,
    split_by_patient,
)
from mambasegment_training.storage import write_json

from MambaSegmentLib.errors import ConfigError

patients = st.dictionaries(st.text("abc0123", min_size=1, max_size=4), st.sampled_from("PQRSTU"), min_size=2)


@given(patients, st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_a_patient_is_on_one_side(patient_of, fraction, seed):
    if len(set(patient_of.values())) < 2:
        with pytest.raises(ConfigError, match="2 are needed"):
            split_by_patient(patient_of, fraction, seed)
        return
    split = split_by_patient(patient_of, fraction, seed)
    assert sorted(split.train + split.validation) == sorted(patient_of)
    assert split.train
    assert split.validation
    assert not {patient_of[case] for case in split.train} & {patient_of[case] for case in split.validation}


@given(st.integers(0, 2**31))
def test_the_order_of_the_cases_does_not_matter(seed):
    cases = {f"case{n}": f"patient{n // 2}" for n in range(20)}
    backwards = dict(reversed(cases.items()))
    assert split_by_patient(cases, 0.25, seed) == split_by_patient(backwards, 0.25, seed)


def test_the_share_of_cases_is_met():
    cases = {f"case{n}": f"case{n}" for n in range(50)}
    assert len(split_by_patient(cases, 0.2, 1).validation) == 10
    assert split_by_patient(cases, 0.2, 1) != split_by_patient(cases, 0.2, 2)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.1])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split_by_patient({"a": "a", "b": "b"}, fraction, 0)


CASES = {"a1": "A", "a2": "A", "b1": "B", "c1": "C"}


def test_a_split_by_names():
    assert split_by_list(CASES, ["b1"]) == Split(("a1", "a2", "c1"), ("b1",))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["d1"], "'d1' is not in the data set"),
        (["a1"], "patient 'A' has cases in training and in validation"),
        (["a1", "a2", "b1", "c1"], "at least one case each"),
        ([], "at least one case each"),
    ],
)
def test_names_that_make_no_split(names, message):
    with pytest.raises(ConfigError, match=message):
        split_by_list(CASES, names)


@given(patients, st.floats(0.1, 0.5), st.integers(0, 2**31))
def test_folds_share_the_cases(patient_of, fraction, seed):
    if len(set(patient_of.values())) < 2:
        return
    folds = folds_by_patient(patient_of, fraction, seed)
    assert folds[0] == split_by_patient(patient_of, fraction, seed)
    assert sorted(case for fold in folds for case in fold.validation) == sorted(patient_of)  # each once
    for fold in folds:
        assert fold.train
        assert fold.validation
        assert not {patient_of[case] for case in fold.train} & {patient_of[case] for case in fold.validation}


def test_a_fifth_makes_five_even_folds():
    folds = folds_by_patient({f"case{n}": f"case{n}" for n in range(52)}, 0.2, 7)
    assert [len(fold.validation) for fold in folds] == [10, 11, 11, 10, 10]


def test_splits_of_nnunet_are_read_as_they_are_written(tmp_path):
    patient_of = {f"case{n}": f"p{n // 2}" for n in range(10)}
    folds = folds_by_patient(patient_of, 0.2, 7)
    write_json(tmp_path / "splits_final.json", folds_to_nnunet(folds))
    assert read_folds(tmp_path / "splits_final.json", patient_of) == folds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["a"]}, "expected a list of"),
        ([{"train": ["a"], "validation": ["b"]}], "split 0 is .* expected lists of case names as train and val"),
        ([{"train": ["a"], "val": ["x"]}], "split 0 names the case 'x', which is not in the data set"),
        (
            [{"train": ["a"], "val": ["c"]}, {"train": ["b"], "val": ["a"]}],
            "split 1: patient 'P' has cases in training",
        ),
    ],
)
def test_splits_that_make_no_sense(tmp_path, content, message):
    write_json(tmp_path / "splits.json", content)
    with pytest.raises(ConfigError, match=message):
        read_folds(tmp_path / "splits.json", {"a": "P", "b": "P", "c": "Q"})
