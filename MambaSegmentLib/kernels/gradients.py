"""The derivatives of a scan by way of autograd, wherever they are asked for."""

import contextlib
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from .arguments import ScanArguments


def gradients_by_autograd(
    scan: Callable[[ScanArguments], tuple[Tensor, Tensor]], arguments: ScanArguments, dy: Tensor, d_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Run `scan` again and differentiate it; in the order of `arguments.tensors()`, None for what is absent.

    On a thread of its own: the body of an operator runs with autograd switched off in its thread in a way that cannot
    be undone there by public means, and a new thread starts afresh.
    """
    found: list[tuple[Tensor | None, ...]] = []
    errors: list[Exception] = []
    stream = torch.cuda.current_stream(arguments.u.device) if arguments.u.is_cuda else None

    def work() -> None:
        try:
            with contextlib.nullcontext() if stream is None else torch.cuda.stream(stream):
                found.append(_differentiated(scan, arguments, dy, d_last))
        except Exception as error:  # handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name="mambasegment-gradients")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


def _differentiated(
    scan: Callable[[ScanArguments], tuple[Tensor, Tensor]], arguments: ScanArguments, dy: Tensor, d_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    leaves = [None if t is None else t.detach().requires_grad_() for t in arguments.tensors()]
    u, delta, A, B, C, D, z, bias, initial = leaves
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    y, last = scan(ScanArguments(u, delta, A, B, C, D, z, bias, arguments.delta_softplus, initial))
    outputs, upstream = ((y,), (dy,)) if d_last is None else ((y, last), (dy, d_last))
    present = [leaf for leaf in leaves if leaf is not None]
    gradients = iter(torch.autograd.grad(outputs, present, upstream, allow_unused=True, materialize_grads=True))
    return tuple(None if leaf is None else next(gradients) for leaf in leaves)
