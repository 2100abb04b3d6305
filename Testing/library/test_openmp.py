"""What the programs ask of OpenMP, and that the user's own choice stays."""

import os

import pytest

from MambaSegmentLib.openmp import let_waiting_threads_sleep


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("active", "active")])
def test_threads_sleep_unless_the_user_wants_otherwise(before, after, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    let_waiting_threads_sleep()

    assert os.environ["OMP_WAIT_POLICY"] == after
