"""The scan along several directions of a feature map on a GPU: one set of passes a direction, on the tokens in place.

A direction is an order of tokens (token_order.py) that the kernels turn into addresses, so nothing is reordered in
memory. The directions follow each other on the stream, and each adds its result to what is there: every token of a
channel is written by one thread of one launch, so the sum needs no atomic operations and has one order. With
half-precision input it is kept in float32 until the last direction is in.

A small map keeps a GPU busy only with all directions at once. There each direction is a group of one scan, whose groups
share u and have orders of their own, and the results, a map for each direction, are added up afterwards.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .arguments import ScanArguments
from .directions import Direction, DirectionalArguments, composed
from .gpu_autograd import processors_of
from .gpu_passes import Bind, ScanTask, backward, forward, laid_out_like, make_task
from .gpu_plan import LANES, SHORTEST_CHUNK
from .token_order import TokenOrder

SMALL_MAP_WARPS = 16  # a multiprocessor: with fewer, directions go side by side; not yet measured
_MOST_AXES = 3  # of a TokenOrder
_MOST_AT_ONCE = 8  # MOST_ORDERS of the kernels


def directional_with(bind: Bind, arguments: DirectionalArguments) -> Tensor:
    """y (B, D, *spatial) in the dtype of u by a backend's kernels, differentiable in all tensors."""
    if arguments.u.dim() - 2 > _MOST_AXES or arguments.u.numel() == 0:
        return composed(arguments, bind.backend)
    needed = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in arguments.tensors())
    if needed:
        y = _DirectionalScan.apply(bind, arguments.delta_softplus, arguments.directions, *arguments.tensors())
    else:
        y, _ = _forward(bind, arguments)
    return y.unflatten(2, arguments.u.shape[2:])


class _DirectionalScan(torch.autograd.Function):
    """Forward keeps the states before each direction's chunks."""

    @staticmethod
    def forward(
        ctx: Any, bind: Bind, softplus: bool, directions: tuple[Direction, ...], *tensors: Tensor | None
    ) -> Tensor:
        y, carries = _forward(bind, _arguments_of(tensors, softplus, directions))
        ctx.bind, ctx.softplus, ctx.directions = bind, softplus, directions
        ctx.save_for_backward(*tensors, *carries)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        tensors, carries = ctx.saved_tensors[:7], ctx.saved_tensors[7:]
        arguments = _arguments_of(tensors, ctx.softplus, ctx.directions)
        found = _backward(ctx.bind, arguments, carries, dy)
        return (None, None, None, *(
            None if tensor is None or gradient is None else gradient.to(tensor.dtype)
            for tensor, gradient in zip(tensors, found, strict=True)
        ))  # fmt: skip


def _forward(bind: Bind, arguments: DirectionalArguments) -> tuple[Tensor, list[Tensor | None]]:
    """y (B, D, L) and what each direction keeps."""
    if _at_once(bind, arguments):
        task = _joint_task(arguments)
        parts = _maps(arguments)
        _, _, carries = forward(bind, task, parts)
        return _sum_of(parts).to(arguments.u.dtype), [carries]
    total: Tensor | None = None
    kept: list[Tensor | None] = []
    for k in range(len(arguments.directions)):
        task = _task(arguments, k)
        if total is None:
            total = laid_out_like(_present(task.inputs["u"]), _sum_dtype(arguments))
        _, _, carries = forward(bind, task, total, add=k > 0)
        kept.append(carries)
    assert total is not None
    return total.to(arguments.u.dtype), kept


def _backward(
    bind: Bind, arguments: DirectionalArguments, kept: tuple[Tensor | None, ...], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """In the order of `arguments.tensors()`."""
    if _at_once(bind, arguments):
        return _backward_at_once(bind, arguments, kept[0], dy)
    channels = arguments.u.shape[1]
    du: Tensor | None = None
    d_delta: Tensor | None = None
    parts = []
    for k, carries in enumerate(kept):
        task = _task(arguments, k)
        u, delta = _present(task.inputs["u"]), _present(task.inputs["delta"])
        if du is None or d_delta is None:
            du = laid_out_like(u, _sum_dtype(arguments))
            d_delta = laid_out_like(delta, channels=len(kept) * channels)
        rows = slice(k * channels, (k + 1) * channels)
        parts.append(backward(bind, task, carries, dy, None, du, d_delta[:, rows], add=k > 0))
    assert du is not None and d_delta is not None
    spatial = arguments.u.shape[2:]
    return (
        du.unflatten(2, spatial), d_delta.unflatten(2, spatial), torch.cat([part.A for part in parts]),
        torch.cat([part.B for part in parts], 1).unflatten(3, spatial),
        torch.cat([part.C for part in parts], 1).unflatten(3, spatial),
        None if arguments.D is None else torch.cat([_present(part.D) for part in parts]),
        None if arguments.delta_bias is None else torch.cat([_present(part.delta_bias) for part in parts]),
    )  # fmt: skip


def _at_once(bind: Bind, a: DirectionalArguments) -> bool:
    """Whether one direction, cut as finely as it may be, leaves the GPU half empty."""
    if not bind.many_orders or not 1 < len(a.directions) <= _MOST_AT_ONCE:
        return False
    batch, channels = a.u.shape[:2]
    warps = batch * math.ceil(channels / LANES) * math.ceil(math.prod(a.u.shape[2:]) / SHORTEST_CHUNK)
    return warps < SMALL_MAP_WARPS * processors_of(a.u.device)


def _joint_task(a: DirectionalArguments) -> ScanTask:
    """All directions as the groups of one scan."""
    count, spatial = len(a.directions), tuple(a.u.shape[2:])
    u = a.u.flatten(2)[:, None].expand(-1, count, -1, -1)
    arguments = ScanArguments(
        u, a.delta.flatten(2), a.A, a.B.flatten(3), a.C.flatten(3), a.D, None, a.delta_bias, a.delta_softplus, None
    )
    orders = tuple(order_of(direction, spatial) for direction in a.directions)
    return make_task(arguments, processors_of(a.u.device), orders)


def _maps(a: DirectionalArguments) -> Tensor:
    """An uninitialised (B, K, D, L), channels last where u is."""
    batch, channels, length = a.u.shape[0], a.u.shape[1], math.prod(a.u.shape[2:])
    if a.u.stride(1) == 1 and channels > 1:
        return a.u.new_empty(batch, len(a.directions), length, channels, dtype=_sum_dtype(a)).transpose(2, 3)
    return a.u.new_empty(batch, len(a.directions), channels, length, dtype=_sum_dtype(a))


def _sum_of(maps: Tensor) -> Tensor:
    """(B, K, D, L) -> (B, D, L), laid out as they are."""
    return maps.sum(1) if maps.is_contiguous() else maps.transpose(2, 3).sum(1).transpose(1, 2)


def _backward_at_once(
    bind: Bind, a: DirectionalArguments, carries: Tensor | None, dy: Tensor
) -> tuple[Tensor | None, ...]:
    task, spatial, parts = _joint_task(a), a.u.shape[2:], _maps(a)
    shared = dy[:, None].expand(-1, len(a.directions), -1, -1)
    found = backward(bind, task, carries, shared, None, parts)
    return (
        _sum_of(parts).unflatten(2, spatial), found.delta.unflatten(2, spatial), found.A, found.B.unflatten(3, spatial),
        found.C.unflatten(3, spatial), found.D, found.delta_bias,
    )  # fmt: skip


def _task(a: DirectionalArguments, k: int) -> ScanTask:
    """One direction; a tensor is copied only if its spatial axes do not lie in memory as those of an image."""
    channels, spatial = a.u.shape[1], a.u.shape[2:]
    rows = slice(k * channels, (k + 1) * channels)
    B, C = (tensor[:, k : k + 1].flatten(3) for tensor in (a.B, a.C))
    arguments = ScanArguments(
        a.u.flatten(2), a.delta[:, rows].flatten(2), a.A[rows], B, C, None if a.D is None else a.D[rows], None,
        None if a.delta_bias is None else a.delta_bias[rows], a.delta_softplus, None,
    )  # fmt: skip
    return make_task(arguments, processors_of(a.u.device), (order_of(a.directions[k], tuple(spatial)),))


def order_of(direction: Direction, spatial: tuple[int, ...]) -> TokenOrder:
    """The direction on a map of this size, whose tokens are numbered row by row."""
    strides = [1] * len(spatial)
    for axis in reversed(range(len(spatial) - 1)):
        strides[axis] = strides[axis + 1] * spatial[axis + 1]
    missing = _MOST_AXES - len(spatial)
    sizes = (*[1] * missing, *(spatial[axis] for axis in direction.axes))
    steps = (*[0] * missing, *(strides[axis] for axis in direction.axes))
    return TokenOrder(sizes, steps, direction.reverse)  # type: ignore[arg-type]  # of three entries each


def _sum_dtype(arguments: DirectionalArguments) -> torch.dtype:
    """Of y and du while directions are added up."""
    return torch.float32 if len(arguments.directions) > 1 else arguments.u.dtype


def _arguments_of(
    tensors: tuple[Tensor | None, ...], softplus: bool, directions: tuple[Direction, ...]
) -> DirectionalArguments:
    u, delta, A, B, C, D, bias = tensors
    return DirectionalArguments(
        _present(u), _present(delta), _present(A), _present(B), _present(C), D, bias, softplus, directions
    )


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
