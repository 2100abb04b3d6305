"""Small scans with everything in them, by which a backend is compared with `chunked` before it is used."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .arguments import ScanArguments
from .directions import DirectionalArguments, all_directions
from .dispatch import needs_gradients

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}  # of the largest value
_BATCH, _CHANNELS, _LENGTH = 2, 35, 150  # more than one block of channels, of steps and of chunks, none of them full
_ROWS, _COLUMNS = 9, 17

Results = Mapping[str, Tensor]


def compare_scans(
    scan: Callable[[ScanArguments], tuple[Tensor, Tensor]],
    judge: Callable[[ScanArguments], tuple[Tensor, Tensor]],
    like: ScanArguments,
) -> str | None:
    """What differs between two ways to compute a scan of the dtype, device and number of states of `like`, or None."""
    small = _small_scan(like.u.device, like.u.dtype, like.A.shape[1])
    gradients = needs_gradients(*like.tensors())

    def results(function: Callable[[ScanArguments], tuple[Tensor, Tensor]]) -> Results:
        def call(u, delta, A, B, C, D, z, bias, initial):  # type: ignore[no-untyped-def]
            return function(ScanArguments(u, delta, A, B, C, D, z, bias, small.delta_softplus, initial))

        return _results(call, small.tensors(), gradients)

    return _difference(results(scan), results(judge), like.u.dtype)


def compare_directional(
    scan: Callable[[DirectionalArguments], Tensor],
    judge: Callable[[DirectionalArguments], Tensor],
    like: DirectionalArguments,
) -> str | None:
    """The same for scans along all directions of an image."""
    small = _small_directional(like.u.device, like.u.dtype, like.A.shape[1])
    gradients = needs_gradients(*like.tensors())

    def results(function: Callable[[DirectionalArguments], Tensor]) -> Results:
        def call(*tensors):  # type: ignore[no-untyped-def]
            return (function(DirectionalArguments(*tensors, small.delta_softplus, small.directions)),)

        return _results(call, small.tensors(), gradients)

    return _difference(results(scan), results(judge), like.u.dtype)


def _small_scan(device: torch.device, dtype: torch.dtype, states: int) -> ScanArguments:
    """The same numbers at each run."""
    normal = _numbers(device, dtype)

    def sequence(width: int) -> Tensor:
        return normal(_BATCH, _LENGTH, width).transpose(1, 2)

    return ScanArguments(
        u=sequence(_CHANNELS), delta=0.5 * sequence(_CHANNELS) - 1, A=_rates(_CHANNELS, states, device),
        B=sequence(states)[:, None], C=sequence(states)[:, None], D=normal(_CHANNELS), z=sequence(_CHANNELS),
        delta_bias=normal(_CHANNELS), delta_softplus=True, initial_state=normal(_BATCH, _CHANNELS, states),
    )  # fmt: skip


def _small_directional(device: torch.device, dtype: torch.dtype, states: int) -> DirectionalArguments:
    directions = all_directions(2)
    count = len(directions)
    normal = _numbers(device, dtype)

    def image(*before: int) -> Tensor:  # channels last, (1, *before, H, W)
        return normal(1, _ROWS, _COLUMNS, *before).movedim((1, 2), (-2, -1))

    return DirectionalArguments(
        u=image(_CHANNELS), delta=0.5 * image(count * _CHANNELS) - 1, A=_rates(count * _CHANNELS, states, device),
        B=image(count, states), C=image(count, states), D=normal(count * _CHANNELS),
        delta_bias=normal(count * _CHANNELS), delta_softplus=True, directions=directions,
    )  # fmt: skip


def _numbers(device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator).to(device, dtype)


def _rates(channels: int, states: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return -(torch.rand(channels, states, generator=generator) * 4 + 0.1).to(device)


def _results(
    call: Callable[..., tuple[Tensor, ...]], tensors: tuple[Tensor | None, ...], with_gradients: bool
) -> dict[str, Tensor]:
    with torch.inference_mode(False), torch.set_grad_enabled(with_gradients):
        inputs = [None if t is None else t.clone().requires_grad_(with_gradients) for t in tensors]
        outputs = call(*inputs)
        found = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
        if with_gradients:
            leaves = [leaf for leaf in inputs if leaf is not None]
            upstream = [torch.linspace(-1, 1, y.numel(), device=y.device).reshape(y.shape).to(y.dtype) for y in outputs]
            gradients = torch.autograd.grad(outputs, leaves, upstream)
            found.update({f"gradient {i}": gradient for i, gradient in enumerate(gradients)})
    return found


def _difference(results: Results, expected: Results, dtype: torch.dtype) -> str | None:
    for name, wanted in expected.items():
        scale = wanted.double().abs().max().item()
        error = (results[name].double() - wanted.double()).abs().max().item() / scale
        if not error <= _TOLERANCE[dtype]:  # also when it is not a number
            return f"its {name} differs from that of 'chunked' by {error:.1e} of the largest value"
    return None
