"""Several directions at once: every backend against the recurrence in double precision, walked token by token."""

import pytest
import torch

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.kernels import Direction, all_directions, directional_scan, row_major

BACKENDS = ["reference", "chunked", "numba"]
ORDERS = {
    "four": all_directions(2),
    "six": all_directions(3),
    "row-major": row_major(3),
    "back": (Direction((1, 0), True),),
}


def inputs_for(directions, channels=5, states=3, batch=2, layout="channels_last", seed=0, spatial=(3, 7, 5)):
    """float64 arguments of a small map with an odd number of tokens along each axis."""
    generator = torch.Generator().manual_seed(seed)
    spatial, count = spatial[: len(directions[0].axes)], len(directions)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def image(*width):
        if layout == "channels_last":
            return normal(batch, *spatial, *width).permute(0, *range(-len(width), 0), *range(1, 1 + len(spatial)))
        return normal(batch, *width, *spatial)

    return {
        "u": image(channels),
        "delta": 0.5 * image(count * channels) - 1,
        "A": -torch.rand(count * channels, states, dtype=torch.float64, generator=generator) * 4 - 0.1,
        "B": image(count, states),
        "C": image(count, states),
        "D": normal(count * channels),
        "delta_bias": normal(count * channels),
    }


def run(inputs, directions, backend, dtype, softplus=True):
    """y and every gradient under a fixed random upstream gradient."""
    leaves = {name: tensor.to(dtype).detach().requires_grad_() for name, tensor in inputs.items()}
    y = directional_scan(**leaves, delta_softplus=softplus, directions=directions, backend=backend)
    upstream = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), upstream)
    return {"y": y, **{f"d_{name}": g for name, g in zip(leaves, gradients, strict=True)}}


def walked(inputs, directions):
    """The definition: visit the tokens one by one and add what each direction says of a token."""
    u, spatial, channels = inputs["u"], inputs["u"].shape[2:], inputs["u"].shape[1]
    total = torch.zeros_like(u)
    for k, direction in enumerate(directions):
        rows = slice(k * channels, (k + 1) * channels)
        state = u.new_zeros(u.shape[0], channels, inputs["A"].shape[1])
        order = torch.cartesian_prod(*(torch.arange(spatial[axis]) for axis in direction.axes)).tolist()
        for visit in reversed(order) if direction.reverse else order:
            at = tuple(visit[direction.axes.index(axis)] for axis in range(len(spatial)))
            step = torch.nn.functional.softplus(inputs["delta"][:, rows][(..., *at)] + inputs["delta_bias"][rows])
            b, c = (inputs[name][:, k][(..., *at)][:, None] for name in ("B", "C"))
            state = torch.exp(step[..., None] * inputs["A"][rows]) * state + (step * u[(..., *at)])[..., None] * b
            total[(..., *at)] += (state * c).sum(-1) + inputs["D"][rows] * u[(..., *at)]
    return total


@pytest.mark.parametrize("name", ORDERS)
def test_tokens_and_image_undo_each_other(name):
    for direction in ORDERS[name]:
        image = torch.randn(2, 3, *(2, 3, 4)[: len(direction.axes)])
        assert torch.equal(direction.image(direction.tokens(image), image.shape[2:]), image)


def test_the_four_orders_of_an_image():
    """The tokens of a 2 x 3 image numbered row by row."""
    image = torch.arange(6).reshape(2, 3)
    expected = [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]
    assert [direction.tokens(image).tolist() for direction in all_directions(2)] == expected


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("name", ORDERS)
def test_composed_of_reference_is_the_definition(name, layout):
    inputs = inputs_for(ORDERS[name], layout=layout)
    y = directional_scan(**inputs, directions=ORDERS[name], backend="reference")
    torch.testing.assert_close(y, walked(inputs, ORDERS[name]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["chunked", "numba"])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("channels", [5, 16, 33])
def test_values_and_gradients(name, layout, backend, channels):
    inputs = inputs_for(ORDERS[name], channels=channels, layout=layout)
    expected = run(inputs, ORDERS[name], "reference", torch.float64)
    actual = run(inputs, ORDERS[name], backend, torch.float32)
    for key, wanted in expected.items():
        error = (actual[key].double() - wanted).abs().max() / wanted.abs().max()
        assert error < 1e-5, f"{key}: relative error {error:.2e}"


def test_optional_arguments_may_be_absent():
    directions = all_directions(2)
    inputs = {n: t for n, t in inputs_for(directions).items() if n not in ("D", "delta_bias")}
    inputs["delta"] = inputs["delta"].abs()
    expected = run(inputs, directions, "reference", torch.float64, softplus=False)
    for backend in ("chunked", "numba"):
        actual = run(inputs, directions, backend, torch.float32, softplus=False)
        for key, wanted in expected.items():
            torch.testing.assert_close(
                actual[key].double(), wanted, rtol=0, atol=1e-5 * float(wanted.detach().abs().max())
            )


@pytest.mark.parametrize("name", ["delta", "A", "B", "C", "D", "delta_bias"])
def test_a_wrong_shape_is_named(name):
    inputs = inputs_for(all_directions(2))
    inputs[name] = inputs[name][:-1]
    with pytest.raises(ShapeError, match=f"{name} has shape"):
        directional_scan(**inputs, directions=all_directions(2))


@pytest.mark.parametrize("directions", [(), all_directions(3), (Direction((0, 0)),) * 4])
def test_directions_must_visit_each_axis_once(directions):
    with pytest.raises(ConfigError, match="direction"):
        directional_scan(**inputs_for(all_directions(2)), directions=directions)
