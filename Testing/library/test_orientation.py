import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.orientation import Turn, check_orientation, orientation_of, turn_towards
from MambaSegmentLib.volume import Volume

CODES = ["LPS", "RAS", "PIR", "SAL", "IRP", "ASL"]


def a_rotation(seed: int) -> np.ndarray:
    """A random orthonormal matrix; half of them mirror, as permuted axes do."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return matrix


@pytest.mark.parametrize("code", CODES)
@given(seed=st.integers(0, 10_000))
def test_turning_agrees_with_simpleitk(code, seed):
    rng = np.random.default_rng(seed)
    volume = Volume(rng.random((2, 3, 4)), direction=tuple(a_rotation(seed).ravel()))
    turn = turn_towards(volume.direction, code)
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(volume.to_sitk(), code))
    np.testing.assert_array_equal(turn.apply(volume.array), expected)
    np.testing.assert_array_equal(turn.undo(turn.apply(volume.array)), volume.array)


def test_the_identity_is_lps_and_one_flip_by_hand():
    identity = np.eye(3).ravel()
    assert orientation_of(identity) == "LPS"
    assert turn_towards(identity, "RPS") == Turn((0, 1, 2), (2,))  # only I, the last array axis, runs backwards
    assert turn_towards(identity, "SPL") == Turn((2, 1, 0), ())  # I and K change places


def test_a_volume_between_two_orientations_still_gets_three_different_axes():
    diagonal = np.full((3, 3), 1 / np.sqrt(3))
    assert {"LR".find(x) >= 0 for x in orientation_of(diagonal.ravel())} == {True, False}
    assert (
        len({frozenset(pair) for pair in ("LR", "PA", "SI") for x in orientation_of(diagonal.ravel()) if x in pair})
        == 3
    )


def test_axis_order_comes_after_the_orientation():
    array = np.arange(24).reshape(2, 3, 4)
    turn = turn_towards(np.eye(3).ravel(), "LPI", axis_order=(1, 0, 2))
    np.testing.assert_array_equal(turn.apply(array), array[::-1].transpose(1, 0, 2))
    np.testing.assert_array_equal(turn.undo(turn.apply(array)), array)
    assert turn.permute((5.0, 6.0, 7.0)) == (6.0, 5.0, 7.0)


@pytest.mark.parametrize("code", ["", "LP", "LLS", "XYZ", "LPSI", "lps", "LRS"])
def test_codes_that_mean_nothing_are_refused(code):
    with pytest.raises(ConfigError, match="orientation"):
        check_orientation(code)
