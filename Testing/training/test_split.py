"""No patient on both sides, whatever the data set looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mambasegment_training.split import Split, split_by_list, split_by_patient

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
