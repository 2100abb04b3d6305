"""Each kind of fault, made on purpose in a data set that has none otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from mambasegment_training.case_files import RawCase
from mambasegment_training.dataset import RawDataset
from mambasegment_training.findings import find_faults
from mambasegment_training.fingerprint import CaseFacts, IntensityFacts
from mambasegment_training.split import Split

LABELS = {1: "grey", 2: "white"}
CASES = [f"subject{'abcdefghij'[n]}" for n in range(10)]
FOLD = Split(tuple(CASES[:8]), tuple(CASES[8:]))


@pytest.fixture
def facts():
    """Ten cases that differ a little, as cases do."""
    straight = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return {
        case: CaseFacts(
            (10, 10, 10), (1.0, 1.0, 1.0), straight, {0: 900, 1: 60 + n, 2: 40 - n}, [np.ones(3)], 0.0,
            image_sha256=case, intensity_facts=(IntensityFacts(50.0 + n, 10.0, 80.0 + n + n % 3, 110.0 + n + n % 2),),
        )
        for n, case in enumerate(CASES)
    }  # fmt: skip


def faults(facts, channel="T1", folds=(FOLD,), patients=None, labels=LABELS):
    cases = tuple(RawCase(case, (patients or {}).get(case, case), (), None) for case in facts)
    return find_faults(RawDataset("set", (channel,), None, None, cases), facts, labels, folds)


def only(found, kind):
    (finding,) = found
    assert finding.kind == kind
    return finding


def test_nothing_is_found_where_nothing_is_wrong(facts):
    assert faults(facts) == []


def test_a_label_that_no_case_has(facts):
    finding = only(faults(facts, labels={**LABELS, 3: "lesion"}), "missing label")
    assert (finding.severity, finding.cases) == ("error", ())
    assert "label 3 (lesion) is declared, and no case has a voxel of it" in finding.message


def test_a_label_that_training_lacks(facts):
    for case in CASES[:8]:
        facts[case] = replace(facts[case], label_voxels={0: 900, 1: 60})
    finding = only(faults(facts), "label missing from a side")
    assert finding.severity == "error"
    assert "label 2 (white) is not in the training cases; choose another seed" in finding.message


def test_a_label_that_validation_lacks_is_a_warning(facts):
    for case in CASES[8:]:
        facts[case] = replace(facts[case], label_voxels={0: 900, 1: 60})
    assert only(faults(facts), "label missing from a side").severity == "warning"


def test_the_same_image_twice(facts):
    facts[CASES[9]] = replace(facts[CASES[9]], image_sha256=CASES[0])
    finding = only(faults(facts), "duplicate image")
    assert finding.cases == (CASES[0], CASES[9])
    assert "under different patients; they are in training and in validation" in finding.message
    facts[CASES[1]] = replace(facts[CASES[1]], image_sha256=CASES[2])
    one_side = faults(facts)[1]
    assert one_side.cases == (CASES[1], CASES[2])
    assert "validation" not in one_side.message


def test_names_that_look_like_several_images_of_a_patient(facts):
    renamed = {f"p{n // 2:02}_frame{n % 2:02}": seen for n, seen in enumerate(facts.values())}
    fold = Split(tuple(list(renamed)[:8]), tuple(list(renamed)[8:]))
    finding = only(faults(renamed, folds=(fold,)), "patients may cross the split")
    assert "5 groups of names look like several images of one patient, such as p00_frame00, p00_frame01 of 'p00'" in (
        finding.message
    )
    patients = {case: case[:3] for case in renamed}
    assert faults(renamed, folds=(fold,), patients=patients) == []  # somebody said who they are


def test_numbered_cases_are_no_patients(facts):
    renamed = {f"hippocampus_{n:03}": seen for n, seen in enumerate(facts.values())}
    fold = Split(tuple(list(renamed)[:8]), tuple(list(renamed)[8:]))
    assert faults(renamed, folds=(fold,)) == []


def test_empty_labels(facts):
    facts[CASES[3]] = replace(facts[CASES[3]], label_voxels={0: 1000})
    assert only(faults(facts), "empty labels").cases == (CASES[3],)


def test_tiny_structures(facts):
    facts[CASES[2]] = replace(facts[CASES[2]], label_voxels={0: 900, 1: 3, 2: 40})
    finding = only(faults(facts), "tiny structure")
    assert finding.cases == (CASES[2],)
    assert (
        f"label 1 (grey) is tiny in {CASES[2]}: 3 voxels in {CASES[2]}, against a median of 64.5 mm³" in finding.message
    )


def test_other_geometry(facts):
    facts[CASES[4]] = replace(facts[CASES[4]], spacing_mm=(1.0, 1.0, 4.0), label_voxels={0: 900, 1: 15, 2: 10})
    assert only(faults(facts), "unusual spacing").cases == (CASES[4],)
    facts[CASES[4]] = replace(facts[CASES[5]], direction=(-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0), image_sha256="other")
    finding = only(faults(facts), "unusual orientation")
    assert "are stored as RAS, most others as LPS" in finding.message


def test_unusual_intensities_of_ct_are_those_of_the_scale(facts):
    scaled = IntensityFacts(mean=1050.0, deviation=10.0, labelled_mean=1080.0, highest=1112.0)
    facts[CASES[5]] = replace(facts[CASES[5]], intensity_facts=(scaled,))
    assert faults(facts) == []  # each MR image has a scale of its own
    found = faults(facts, channel="CT")
    assert {finding.kind for finding in found} == {"unusual intensities"}
    assert all(finding.cases == (CASES[5],) for finding in found)


def test_an_inverted_image_stands_out(facts):
    facts[CASES[5]] = replace(facts[CASES[5]], intensity_facts=(IntensityFacts(50.0, 10.0, 20.0, 112.0),))
    finding = only(faults(facts), "unusual intensities")
    assert f"the mean of the labelled voxels in channel 'T1' is -3 in {CASES[5]}" in finding.message


def test_labels_are_not_missed_while_cases_cannot_be_read(facts):
    """The one that cannot be read may have them; what is wrong with the others is said all the same."""
    cases = tuple(RawCase(case, case, (), None) for case in (*facts, "unreadable"))
    facts[CASES[3]] = replace(facts[CASES[3]], label_voxels={0: 1000})
    found = find_faults(RawDataset("set", ("T1",), None, None, cases), facts, {**LABELS, 3: "lesion"}, (FOLD,))
    assert only(found, "empty labels").cases == (CASES[3],)
