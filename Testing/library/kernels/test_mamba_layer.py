"""The residual Mamba layer in one walk against the layer put together from its parts."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from MambaSegmentLib.kernels import is_one_step, residual_mamba_layer
from MambaSegmentLib.models.streamed_mixer import tokens_of
from MambaSegmentLib.models.token_mixers import RVMLayer, TokenMixer

pytest.importorskip("numba")

TOLERANCE = 2e-6  # of values around one, summed over at most 256 products in another order


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def layer_of(width: int, answer: int, seed: int = 0, **switches: bool) -> RVMLayer:
    torch.manual_seed(seed)
    layer = RVMLayer(width, answer, **switches).eval()
    with torch.no_grad():  # values that a training would lead to: none is one or zero
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


def image(batch: int, width: int, *spatial: int) -> torch.Tensor:
    return torch.randn(batch, *spatial, width).movedim(-1, 1)


def by_parts(layer: RVMLayer, x: torch.Tensor) -> torch.Tensor:
    """In float64, layer by layer."""
    double = copy.deepcopy(layer).double()
    return TokenMixer.transform(double, x.double(), double.start(x.double()))[0]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("width", "answer", "spatial"),
    [
        (8, 8, (4, 8, 16)),  # half a vector of channels
        (8, 16, (3, 5, 7)),  # a length that is no multiple of a tile
        (16, 32, (1, 1, 1)),  # a single token
        (24, 24, (1, 1, 2)),  # fewer tokens than the convolution has taps
        (64, 40, (2, 3, 11)),
        (128, 128, (33,)),
    ],
)
def test_the_layer_in_one_walk_answers_as_its_parts_do(width, answer, spatial):
    layer, x = layer_of(width, answer), image(2, width, *spatial)
    assert layer.in_one_walk(x)
    assert (layer(x).double() - by_parts(layer, x)).abs().max() < TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("switches", [{"adjustment": False}, {"skip": False}])
def test_a_residual_that_is_switched_off_stays_so(switches):
    layer, x = layer_of(16, 16, **switches), image(1, 16, 40)
    assert (layer(x).double() - by_parts(layer, x)).abs().max() < TOLERANCE


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=4), seed=st.integers(0, 2**16))
def test_pieces_of_any_length_give_what_the_whole_sequence_gives(lengths, seed):
    with torch.inference_mode():
        layer = layer_of(8, 8, seed)
        x = image(1, 8, sum(lengths))
        whole = layer(x)
        states, pieces = layer.start(x), []
        for piece in x.split(lengths, dim=2):
            answer, states = layer.transform(piece, states)
            pieces.append(answer)
    assert torch.allclose(torch.cat(pieces, dim=2), whole, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_sequences_shared_out_among_threads_are_the_same_to_the_bit():
    layer, x = layer_of(16, 16), image(3, 16, 100)
    alone = layer(x)
    torch.set_num_threads(3)
    assert torch.equal(layer(x), alone)


@torch.inference_mode()
def test_channels_first_memory_is_read_as_well():
    layer, x = layer_of(16, 16), image(2, 16, 4, 5, 6)
    assert torch.equal(layer(x.contiguous()), layer(x))


@torch.inference_mode()
def test_what_is_not_a_number_reaches_all_later_tokens_and_none_before():
    layer, x = layer_of(8, 8), image(1, 8, 50)
    x[0, 3, 20] = torch.nan
    answer = layer(x)
    assert answer[..., :20].isfinite().all()
    assert answer[..., 20:].isnan().all()


@torch.inference_mode()
def test_the_state_given_is_not_written_to():
    layer, x = layer_of(8, 8), image(1, 8, 10)
    (state,) = layer.start(x)
    residual_mamba_layer(tokens_of(x), layer._weights(), state.tail, state.scan)
    assert not state.tail.any()
    assert not state.scan.any()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("width", "spatial"),
    [(8, (5, 7, 9)), (24, (3, 4, 5)), (40, (2, 3, 3)), (64, (4, 4, 4)), (16, (1,)), (16, (2000,))],
)
def test_norm_before_and_residual_after_are_done_on_the_way(width, spatial):
    layer, norm = layer_of(width, width), torch.nn.GroupNorm(8, width)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, residual = 3.0 + 2.0 * image(2, width, *spatial), image(2, width, *spatial)
    rectified = torch.relu(copy.deepcopy(norm).double()(x.double()))
    double = copy.deepcopy(layer).double()
    expected = TokenMixer.transform(double, rectified, double.start(rectified))[0] + residual.double()
    before = x.clone()
    answer = layer.after_norm(norm, x, residual)
    assert torch.equal(x, before)
    assert (answer.double() - expected).abs().max() < 10 * TOLERANCE  # values up to ten come out of such a norm
    in_place = layer.after_norm(norm, x, residual, in_place=True)
    assert torch.equal(in_place, answer)
    assert in_place.data_ptr() == x.data_ptr()


@torch.inference_mode()
def test_a_norm_far_from_zero_loses_nothing():
    """The variance is a thousandth of the mean: sums of squares alone would leave three digits of it."""
    layer, norm = layer_of(16, 16), torch.nn.GroupNorm(8, 16)
    x = 1000.0 + image(1, 16, 900)
    rectified = torch.relu(copy.deepcopy(norm).double()(x.double()))
    double = copy.deepcopy(layer).double()
    expected = TokenMixer.transform(double, rectified, double.start(rectified))[0]
    assert (layer.after_norm(norm, x).double() - expected).abs().max() < 2e-3  # float32 keeps 6e-5 of such a value


@torch.inference_mode()
def test_what_is_not_a_number_makes_the_whole_norm_so():
    layer, norm = layer_of(8, 8), torch.nn.GroupNorm(8, 8)
    x = image(1, 8, 50)
    x[0, 3, 20] = torch.nan
    assert layer.after_norm(norm, x).isnan().all()


def test_layers_that_are_not_made_for_it_are_left_to_their_parts():
    layer, x = layer_of(16, 16), image(1, 16, 10)
    weights, tokens = layer._weights(), tokens_of(x)
    assert not is_one_step(tokens, weights)  # gradients are wanted
    with torch.inference_mode():
        assert is_one_step(tokens, weights)
        assert not is_one_step(tokens.double(), weights)
        assert not is_one_step(tokens.to("meta"), weights)
        assert not is_one_step(image(1, 136, 10).transpose(1, 2), layer_of(136, 8)._weights())  # wide
        assert not is_one_step(image(1, 4, 10).transpose(1, 2), layer_of(4, 8)._weights())  # half a vector inside
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not is_one_step(tokens, weights)
        torch.set_num_threads(3)  # more than one sequence can use
        assert not is_one_step(tokens, weights)


@torch.inference_mode()
def test_who_watches_operators_sees_the_parts():
    layer, x = layer_of(16, 16), image(1, 16, 10)
    with FlopCounterMode(display=False) as counter:
        assert not layer.in_one_walk(x)
        layer(x)
    assert counter.get_total_flops() > 0


def test_the_backend_that_was_asked_for_is_taken(monkeypatch):
    monkeypatch.setenv("MAMBASEGMENT_BACKEND", "chunked")
    layer, x = layer_of(16, 16), image(1, 16, 10)
    with torch.inference_mode():
        assert not layer.in_one_walk(x)
