"""The scan on the CPU: compiled vector kernels, shared out among threads, with a backward pass of its own.

Importing this file imports numba and compiles the kernels (seconds the first time, then read from disk).
A single scan is taken as one direction over a map with one spatial axis.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import numba_scan_backward, numba_scan_kernels
from .arguments import ScanArguments
from .directions import Direction, DirectionalArguments, composed
from .huge_pages import on_huge_pages
from .numba_maps import AXES, COLUMNS, KINDS, merged_axes, view_of
from .numba_scan_backward import backward_workspace_floats
from .numba_scan_tiles import D_DELTA, DELTA, DU, DY, DZ, VIEWS, B, C, U, Y, Z, padded_states, workspace_floats
from .numba_simd import LANES
from .numba_tiles import TILE
from .threads import count_shares, in_shares

FORWARD = (Direction((0,)),)
MOST_TOGETHER = 4  # blocks of channels in one job
CHUNK_TILES = 16  # a chunk of the sequence is not worth less
_LINE_BYTES = 64  # of the processor's caches
CORRECTION = 1.6  # a chunk's walks over one: 1.02 to 1.1 where states fade within a chunk, at most 2 where they last


def scan(arguments: ScanArguments) -> tuple[Tensor, Tensor]:
    """y (B, D, L) in the dtype of u and the last state (B, D, N) in float32; both differentiable.

    Computes in float32. float32, bfloat16 and float16 inputs are read where they lie, any strides.
    """
    a = arguments
    y, last_state = _NumbaScan.apply(
        FORWARD, a.delta_softplus, *map(_readable, (a.u, a.delta)), a.A, *map(_readable, (a.B, a.C)),
        a.D, _readable(a.z), a.delta_bias, a.initial_state,
    )  # fmt: skip
    return y.to(a.u.dtype), last_state


def directional_scan(arguments: DirectionalArguments) -> Tensor:
    """The sum of several directions' scans, y (B, D, *spatial) in the dtype of u; differentiable."""
    a = arguments
    if a.u.dim() - 2 > AXES:
        return composed(arguments, "numba")
    y, _ = _NumbaScan.apply(
        a.directions, a.delta_softplus, *map(_readable, (a.u, a.delta)), a.A, *map(_readable, (a.B, a.C)),
        a.D, None, a.delta_bias, None,
    )  # fmt: skip
    return y.to(a.u.dtype)


def _readable(tensor: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or tensor.dtype in KINDS else tensor.float()


@dataclass(frozen=True)
class _Plan:
    """How one call is cut into jobs.

    Attributes:
        directions: K of them. groups: G of each. channels: D of each. states: N, padded: N as the kernels count.
        blocks: pieces of up to LANES channels, all batch entries and groups together.
        together: neighbouring blocks that the forward pass takes as one job.
        chunks: pieces of the sequence. tiles: TILE tokens each, of the whole sequence.
    """

    directions: tuple[Direction, ...]
    batch: int
    groups: int
    channels: int
    states: int
    padded: int
    blocks: int
    together: int
    chunks: int
    tiles: int
    softplus: bool

    def jobs(self, together: int) -> int:
        sequences = self.batch * self.groups
        return sequences * math.ceil(self.blocks // sequences / together) * self.chunks

    def ends(self) -> Tensor:
        chunks = self.chunks if self.chunks > 1 else 0  # one chunk has no neighbours to tell
        return torch.empty(len(self.directions), self.blocks, chunks, self.padded + 1, LANES)


def _plan(directions: tuple[Direction, ...], softplus: bool, u: Tensor, A: Tensor, B: Tensor) -> _Plan:
    batch, channels, *spatial = u.shape
    groups = B.shape[1] // len(directions)
    in_group = math.ceil(channels // groups / LANES)
    blocks = batch * groups * in_group
    tiles = math.ceil(math.prod(spatial) / TILE)
    chunks = count_chunks(blocks, tiles, torch.get_num_threads())
    states = A.shape[1]
    padded = padded_states(states)
    together = count_together(batch * groups, in_group, torch.get_num_threads()) if chunks == 1 else 1
    return _Plan(directions, batch, groups, channels, states, padded, blocks, together, chunks, tiles, softplus)


def count_together(sequences: int, blocks: int, threads: int) -> int:
    """Blocks of channels that one job takes through the sequence side by side, as long as no thread has more to do.

    The blocks of a token lie in neighbouring cache lines: taken one after the other over a long sequence, they come
    from memory at half the speed.
    """
    rounds = math.ceil(sequences * blocks / threads)
    fitting = [
        count
        for count in range(1, MOST_TOGETHER + 1)
        if math.ceil(sequences * math.ceil(blocks / count) / threads) * count <= rounds
    ]
    return max(fitting)


def count_chunks(blocks: int, tiles: int, threads: int) -> int:
    """Pieces of the sequence that make the most of the threads: one, unless channels leave threads idle for long.

    Each chunk is walked a second time as far as the state of its start lasts, so chunks must save more than that.
    """
    limit = min(threads, tiles // CHUNK_TILES)
    times = {1: float(math.ceil(blocks / threads))}
    for chunks in range(2, limit + 1):
        times[chunks] = CORRECTION * math.ceil(blocks * chunks / threads) / chunks
    return min(times, key=lambda chunks: (times[chunks], chunks))


class _NumbaScan(torch.autograd.Function):
    """Forward keeps the state at each tile's start (N/64 of the size of u); backward replays the tiles from there."""

    @staticmethod
    def forward(
        ctx: Any, directions: tuple[Direction, ...], softplus: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u, _, A, B, _, _, _, _, initial_state = tensors
        assert u is not None and A is not None and B is not None
        plan = _plan(directions, softplus, u, A, B)
        rows = len(directions) * plan.channels
        # of several directions nobody asks for the last state: an empty tensor has the address 0
        kept_states = plan.states if len(directions) == 1 else 0
        last = torch.zeros(plan.batch, rows, kept_states) if initial_state is None else _owned(initial_state)
        added_to = len(directions) > 1 or plan.chunks > 1
        y = empty_map_like(u, torch.float32 if added_to else u.dtype)
        kept = any(ctx.needs_input_grad)
        checkpoints = torch.empty(len(directions) if kept else 0, plan.blocks, plan.tiles, plan.states, LANES)
        inputs = _KernelInputs(plan, tensors, {Y: y})
        ends = plan.ends()
        results = (last.data_ptr(), checkpoints.data_ptr() if kept else 0, ends.data_ptr())
        kernels = (numba_scan_kernels.forward, numba_scan_kernels.correct)
        floats = workspace_floats(plan.padded, plan.together)
        _run(plan, plan.together, kernels, floats, inputs, lambda _: results)
        ctx.plan = plan
        ctx.save_for_backward(*tensors, checkpoints)
        return y.to(u.dtype), last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        *tensors, checkpoints = ctx.saved_tensors
        u, delta, _, B, C, D, z, bias, initial_state = tensors
        assert d_last is not None  # PyTorch makes zeros of what has no derivative
        adjoints = _owned(d_last)
        chunked = plan.chunks > 1
        du = empty_map_like(u, torch.float32 if chunked or len(plan.directions) > 1 else u.dtype)
        d_delta = empty_map_like(delta, torch.float32 if chunked else delta.dtype)
        dz = None if z is None else empty_map_like(z, z.dtype)
        sums = _Sums(plan, count_shares(plan.jobs(together=1)), math.prod(u.shape[2:]))
        inputs = _KernelInputs(plan, tensors, {DY: _readable(dy), DU: du, D_DELTA: d_delta, DZ: dz})
        ends = plan.ends()
        results = (adjoints.data_ptr(), checkpoints.data_ptr(), ends.data_ptr())
        kernels = (numba_scan_backward.backward, numba_scan_backward.correct)
        floats = backward_workspace_floats(plan.padded)
        _run(plan, 1, kernels, floats, inputs, lambda share: (*results, *sums.of_share(share)))
        return (
            None, None, du, d_delta, _total(sums.A), sums.placed(sums.B, B), sums.placed(sums.C, C),
            None if D is None else _total(sums.D), dz, None if bias is None else _total(sums.bias),
            None if initial_state is None else adjoints,
        )  # fmt: skip


class _Sums:
    """Derivatives that many jobs add to: one set a share, summed in order, whichever thread was faster."""

    def __init__(self, plan: _Plan, shares: int, length: int) -> None:
        rows = len(plan.directions) * plan.channels
        padded_length = math.ceil(length / LANES) * LANES
        projected = (plan.batch, len(plan.directions) * plan.groups, plan.states, padded_length)
        self.plan, self.length = plan, length
        self.A = torch.zeros(shares, rows, plan.states)
        self.B, self.C = (torch.zeros(shares, *projected) for _ in range(2))
        self.D, self.bias = (torch.zeros(shares, rows) for _ in range(2))

    def of_share(self, share: int) -> tuple[int, ...]:
        """As the kernels take them: addresses, and the length of a row of B and C."""
        parts = (self.A, self.B, self.C, self.D, self.bias)
        return (*(part[share].data_ptr() for part in parts), self.B.shape[-1])

    def placed(self, part: Tensor, like: Tensor) -> Tensor:
        """The sum of the shares, each direction's tokens back from the order of visit: the shape of B and C."""
        total = _total(part)
        total = total[..., : self.length]
        if like.dim() == 4:
            return total
        spatial = like.shape[3:]
        by_direction = total.unflatten(1, (len(self.plan.directions), -1))
        # the kernels count tokens in the order of the axes, whether visited backwards or not
        images = [Direction(d.axes).image(by_direction[:, k], spatial) for k, d in enumerate(self.plan.directions)]
        return torch.cat(images, dim=1)


def _total(shares: Tensor) -> Tensor:
    """Over the first axis, without a copy of a single one."""
    return shares.sum(0) if len(shares) > 1 else shares[0]


class _KernelInputs:
    """What `numba_scan_tiles.Inputs` holds, and the tensors whose addresses it tells, kept alive."""

    def __init__(self, plan: _Plan, tensors: Sequence[Tensor | None], outputs: dict[int, Tensor | None]) -> None:
        u, delta, A, b, c, D, z, bias, _ = tensors
        assert u is not None and A is not None
        maps = {U: u, DELTA: delta, B: b, C: c, Z: z, **outputs}
        self.maps = {which: tensor for which, tensor in maps.items() if tensor is not None}
        self.views, self.extents = _tables(plan, self.maps)
        zeros = torch.zeros(len(plan.directions) * plan.channels)
        self.rows = [zeros if tensor is None else tensor.detach().float().contiguous() for tensor in (A, D, bias)]
        self.arguments = (
            self.views.data_ptr(), self.extents.data_ptr(), *(tensor.data_ptr() for tensor in self.rows),
            int(plan.softplus), plan.states, plan.padded, plan.channels, plan.groups, len(plan.directions), plan.tiles,
        )  # fmt: skip


def _tables(plan: _Plan, maps: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """Views (K, VIEWS, COLUMNS) and extents (K, EXTENTS) as int64, the axes in each direction's order."""
    views, extents = [], []
    for k, direction in enumerate(plan.directions):
        first = maps[U].dim() - len(direction.axes)
        strides = [
            [tensor.stride(tensor.dim() - len(direction.axes) + axis) for axis in direction.axes]
            for tensor in maps.values()
        ]
        merged, steps = merged_axes([maps[U].shape[first + axis] for axis in direction.axes], strides)
        extents.append([*merged, int(direction.reverse)])
        table = [[0] * COLUMNS for _ in range(VIEWS)]
        for (which, tensor), axis_strides in zip(maps.items(), steps, strict=True):
            grouped, per_direction = which in (B, C), which in (DELTA, D_DELTA)
            skipped = k * plan.groups if grouped else k * plan.channels if per_direction else 0
            table[which] = view_of(tensor, grouped, skipped, axis_strides)
        views.append(table)
    return torch.tensor(views), torch.tensor(extents)


def _run(
    plan: _Plan,
    together: int,
    kernels: tuple[Any, Any],
    floats: int,
    inputs: _KernelInputs,
    results: Callable[[int], tuple[int, ...]],
) -> None:
    """All jobs of a pass. Without chunks a job takes all directions in turn: no two threads add to one place.

    Args:
        together: blocks in a job.
        kernels: the walk through the jobs, and the second one that adds what comes from other chunks.
        floats: of the workspace that each share needs.
        results: further arguments of the kernels, by share.
    """
    walk, correct = kernels
    jobs, count = plan.jobs(together), len(plan.directions)

    def share(kernel: Any, from_k: int, to_k: int) -> None:
        def work(first: int, shares: int) -> None:
            workspace = np.zeros(floats + LANES, np.float32)
            on_a_line = workspace.ctypes.data + -workspace.ctypes.data % _LINE_BYTES
            numbers = (first, shares, jobs, from_k, to_k, plan.chunks, together, plan.blocks)
            kernel(*numbers, on_a_line, *inputs.arguments, *results(first))

        in_shares(jobs, work)

    if plan.chunks == 1:
        share(walk, 0, count)
        return
    for k in range(count):
        share(walk, k, k + 1)
        share(correct, k, k + 1)


def _owned(state: Tensor) -> Tensor:
    return state.detach().float().clone(memory_format=torch.contiguous_format)


def empty_map_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor of the shape (B, D, *spatial) of `tensor`, channels last in memory where that one is."""
    batch, channels, *spatial = tensor.shape
    if tensor.stride(1) == 1 and channels > 1:
        return on_huge_pages(torch.empty(batch, *spatial, channels, dtype=dtype)).movedim(-1, 1)
    return on_huge_pages(torch.empty(tensor.shape, dtype=dtype))
