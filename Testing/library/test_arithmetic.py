"""bfloat16 and transfers, as far as a CPU can show them; a GPU decides and copies by the same code."""

import numpy as np
import pytest
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.inference.arithmetic import Arithmetic
from MambaSegmentLib.inference.feeding import FetchedRows, TileFeeder
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.inference.sliding import SlidingWindow
from Testing.library.test_predictor import a_volume, expected_labels

CPU = torch.device("cpu")


class Product(nn.Module):
    """Two classes, by a product that bfloat16 rounds: 0 and x w - 1."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([0.0, weight]).reshape(2, 1, 1, 1, 1))
            self.layer.bias.copy_(torch.tensor([0.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def undecided(**how) -> Arithmetic:
    """As on a GPU that has bfloat16."""
    arithmetic = Arithmetic("auto", CPU, **how)
    arithmetic.half = None
    return arithmetic


def test_a_cpu_takes_float32_unless_told():
    assert (Arithmetic("auto", CPU).name, Arithmetic("bfloat16", CPU).name) == ("float32", "bfloat16")
    with pytest.raises(ConfigError, match="'half' is unknown; expected auto, float32 or bfloat16"):
        Arithmetic("half", CPU)


@pytest.mark.parametrize("regions", [False, True])
def test_bfloat16_is_taken_where_it_decides_alike(regions):
    far, near = torch.linspace(-4, 4, 64).reshape(1, 1, 4, 4, 4), 1 + torch.linspace(-1e-3, 1e-3, 64)
    arithmetic = undecided(regions=regions)
    first = arithmetic.logits(Product(1.0), far)
    assert arithmetic.name == "bfloat16"
    assert first.dtype == torch.float32
    torch.testing.assert_close(first[:, 1], far[:, 0] - 1)  # of the first tile the answer is that of float32
    second = arithmetic.logits(Product(1.0), far + 0.01)
    assert second.dtype == torch.float32
    assert not torch.equal(second[:, 1], far[:, 0] + 0.01 - 1)
    arithmetic = undecided(regions=regions)
    arithmetic.logits(Product(1.0), near.reshape(1, 1, 4, 4, 4))
    assert arithmetic.name == "float32"


def test_noise_for_warming_up_decides_nothing():
    arithmetic = undecided()
    with arithmetic.undecided():
        arithmetic.logits(Product(1.0), torch.randn(1, 1, 4, 4, 4))
    assert arithmetic.name == "undecided"


def test_a_prediction_in_bfloat16(a_tiny_bundle):
    predictor = Predictor(a_tiny_bundle(), "cpu", precision="bfloat16")
    volume = a_volume((20, 9, 9))
    assert np.mean(predictor.segment([volume]).labels.array == expected_labels(volume.array)) > 0.98
    assert predictor.precision == "bfloat16"


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_slabs_under_way_come_in_order_and_all(ahead):
    """On a GPU one slab is under way while the next is computed."""
    array = np.random.default_rng(0).standard_normal((1, 30, 9, 10)).astype(np.float32)
    windows = [SlidingWindow([Product(1.0)], 2, (8, 8, 8), device=CPU, slabs_ahead=n) for n in (0, ahead)]
    np.testing.assert_array_equal(*(window.scores(array) for window in windows))


def test_several_tiles_at_once_give_what_one_gives():
    array = np.random.default_rng(0).standard_normal((1, 12, 20, 20)).astype(np.float32)
    windows = [SlidingWindow([Product(1.0)], 2, (8, 8, 8), device=CPU, batch=batch) for batch in (1, 4)]
    np.testing.assert_allclose(*(window.scores(array) for window in windows), atol=1e-6)


def test_rows_may_be_overwritten_once_they_are_fetched():
    rows = torch.ones(2, 3)
    fetched = FetchedRows(rows, lambda finished: finished.mul_(2))
    rows.zero_()
    assert fetched.wait().tolist() == [[2.0] * 3] * 2
    assert TileFeeder(CPU).send([torch.ones(1, 2), torch.zeros(1, 2)]).tolist() == [[[1, 1]], [[0, 0]]]


def test_nan_is_found_wherever_it_comes_from():
    with pytest.raises(BundleError, match="NaN or infinity"):
        SlidingWindow([Product(float("nan"))], 2, (8, 8, 8), device=CPU).scores(np.ones((1, 9, 9, 9), np.float32))
