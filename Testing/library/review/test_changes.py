"""Voxels that a reviewer changed, against hand-made answers and against the slower measure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from MambaSegmentLib.errors import ShapeError
from MambaSegmentLib.review.changes import LabelChange, label_changes
from MambaSegmentLib.review.measure import dice_per_label

LABELS = arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 4))


def test_by_hand():
    before, after = np.zeros((2, 2, 2, 3), np.uint8)
    before[0, 0] = 1, 1, 5
    after[0, 0] = 1, 0, 5
    after[1, 1] = 0, 0, 1
    changes = label_changes(before, after, [1, 5, 300])
    assert changes == {1: LabelChange(2, 2, 1), 5: LabelChange(1, 1, 1), 300: LabelChange(0, 0, 0)}
    assert changes[1].is_changed and changes[1].dice == 0.5
    assert not changes[5].is_changed and changes[5].dice == 1.0
    assert not changes[300].is_changed and changes[300].dice is None


@given(LABELS, LABELS)
def test_as_the_measure_that_reports_use(before, after):
    changes = label_changes(before, after, range(1, 5))
    assert {value: change.dice for value, change in changes.items()} == dice_per_label(after, before, range(1, 5))
    assert [change.is_changed for change in changes.values()] == [
        bool(np.any((before == value) != (after == value))) for value in changes
    ]


def test_arrays_of_other_shapes_or_kinds_are_refused():
    labels = np.zeros((1, 2, 3), np.uint8)
    with pytest.raises(ShapeError, match="cannot be compared"):
        label_changes(labels, labels[:, :1], [1])
    with pytest.raises(ShapeError, match="unsigned"):
        label_changes(labels, labels.astype(np.float32), [1])
