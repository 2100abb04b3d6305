import numpy as np
import pytest

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.normalization import Normalization


def test_zscore_by_hand():
    channel = np.array([1, 3], dtype=np.uint8).reshape(2, 1, 1)  # mean 2, standard deviation 1
    assert Normalization("zscore").apply(channel).ravel().tolist() == [-1, 1]


def test_zscore_keeps_its_digits_where_the_mean_is_large():
    channel = np.array([1e9, 1e9 + 2], dtype=np.float64).reshape(2, 1, 1)  # float32 cannot tell these two apart
    assert Normalization("zscore").apply(channel).ravel().tolist() == [-1, 1]


def test_zscore_of_the_object_leaves_the_rest_at_zero():
    channel = np.array([0, 5, 7, 0], dtype=np.int16).reshape(1, 1, 4)
    result = Normalization("zscore_nonzero").apply(channel, channel != 0)
    assert result.ravel().tolist() == [0, -1, 1, 0]


def test_ct_clips_and_uses_the_training_sets_numbers():
    channel = np.array([-5000, 10, 5000], dtype=np.int16).reshape(1, 1, 3)
    result = Normalization("ct", lower=-100, upper=200, mean=50, std=50).apply(channel)
    np.testing.assert_allclose(result.ravel(), [-3, -0.8, 3])


def test_rescale_and_none():
    channel = np.array([10, 15, 20], dtype=np.uint8).reshape(3, 1, 1)
    assert Normalization("rescale_0_1").apply(channel).ravel().tolist() == [0, 0.5, 1]
    result = Normalization("none").apply(channel)
    assert result.dtype == np.float32
    assert result.ravel().tolist() == [10, 15, 20]


def test_colours_are_divided_by_255_and_nothing_else_is_taken_for_one():
    channel = np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1)
    np.testing.assert_allclose(Normalization("rgb").apply(channel).ravel(), [0, 0.2, 1])
    with pytest.raises(ImageError, match="ranges from 0 to 256"):
        Normalization("rgb").apply(np.array([0, 256], np.int16).reshape(2, 1, 1))


@pytest.mark.parametrize("kind", ["zscore", "zscore_nonzero", "rescale_0_1", "rgb", "none", "ct"])
def test_the_input_is_never_changed_nor_shared(kind):
    numbers = {"lower": 0.0, "upper": 1.0, "mean": 0.5, "std": 1.0} if kind == "ct" else {}
    channel = np.random.default_rng(0).random((2, 3, 4), dtype=np.float32)
    before = channel.copy()
    result = Normalization(kind, **numbers).apply(channel, np.ones(channel.shape, bool))
    np.testing.assert_array_equal(channel, before)
    assert not np.shares_memory(result, channel)


def test_json_both_ways():
    ct = Normalization("ct", lower=-1, upper=2, mean=0.5, std=3)
    assert Normalization.from_json(ct.to_json()) == ct
    assert Normalization.from_json("zscore") == Normalization.from_json({"kind": "zscore", "since": "2031"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zscroe",), "zscroe"),
        (("ct", 0.0, 1.0), "needs the numbers"),
        (("zscore", 0.0), "takes no lower"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Normalization(*arguments)
