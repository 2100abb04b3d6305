"""The scan on a GPU as a sequence of launches, the same for every backend that has the kernels.

Forward, where the sequence is cut into chunks:     scan_summary -> scan_combine -> scan_finish
backward:                 scan_back_summary -> scan_combine, from the end -> scan_back_finish
With one chunk there is nothing to combine. gpu_plan.py says when to cut, docs/scan.md has the equations. All sums run
in an order that the shapes alone decide, so results are the same at each run. Nothing here waits for the GPU.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .arguments import ScanArguments
from .gpu_plan import LANES, TILE, ChunkPlan, plan_chunks
from .token_order import TokenOrder, in_memory_order

MOST_STATES = 64  # they are kept in registers
LONGEST = 2**31 - 1  # steps; offsets in memory have 64 bits, step numbers must fit the kernels' 32
_FARTHEST = 2**29  # elements


@dataclass(frozen=True)
class ScanTask:
    """A scan as the kernels take it: `inputs` share dtypes as they need, `buffers` are theirs to write.

    Attributes:
        inputs: u, delta, z, dy (B, D, L) of one dtype, u and dy also (B, G, D / G, L) with groups that share memory;
            B, C (B, G, N, L) of one dtype; A (D, N), D, bias (D,) and initial (B, D, N) contiguous float32; what is
            absent is None.
        orders: of the tokens along L, one for all groups or one for each.
        plan: how L is cut.
        softplus: applied to delta + bias.
    """

    inputs: dict[str, Tensor | None]
    orders: tuple[TokenOrder, ...]
    plan: ChunkPlan
    softplus: bool

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(B, D, L, G, N)."""
        delta, B = self.inputs["delta"], self.inputs["B"]
        assert delta is not None and B is not None
        return (*delta.shape, B.shape[1], B.shape[2])

    @property
    def blocks_of_group(self) -> int:
        """P, blocks of 32 channels that make up a group."""
        _, channels, _, groups, _ = self.shape
        return math.ceil(channels // groups / LANES)

    @property
    def warps(self) -> int:
        """One for each block of channels and chunk."""
        return self.shape[0] * self.shape[3] * self.blocks_of_group * self.plan.chunks

    def empty(self, *shape: int) -> Tensor:
        """An uninitialised float32 tensor beside the inputs."""
        u = self.inputs["u"]
        assert u is not None
        return torch.empty(shape, device=u.device, dtype=torch.float32)


class Launcher(Protocol):
    """The kernels bound to one task."""

    def launch(self, kernel: str, **buffers: Tensor | bool | None) -> None:
        """Queue a kernel. `buffers` are set from now on: tensors that it reads or writes, and the flags `accumulate` (y
        and du are added to) and `backwards` (scan_combine starts from the last chunk). Keeps what it was given: the
        memory of a tensor that later kernels read must not be given to another."""


class Bind(Protocol):
    """A backend's class of launchers."""

    backend: str  # its name
    many_orders: bool  # whether each group may have an order of its own

    def __call__(self, task: ScanTask, out_dtype: torch.dtype) -> Launcher:
        """Bind the kernels to a task; y and du have `out_dtype`."""


def can_take(arguments: ScanArguments) -> bool:
    """Whether the kernels are made for these sizes and dtypes."""
    half_or_single = arguments.u.dtype != torch.float64
    return half_or_single and arguments.A.shape[1] <= MOST_STATES and arguments.u.shape[2] <= LONGEST


def make_task(arguments: ScanArguments, processors: int, orders: tuple[TokenOrder, ...] = ()) -> ScanTask:
    """Bring dtypes together: parameters to float32, sequences to one dtype of their own; no copy where they agree."""
    u, delta, z = map(_near, _one_dtype(arguments.u, arguments.delta, arguments.z))
    B, C = map(_near, _one_dtype(arguments.B, arguments.C))
    assert u is not None and delta is not None and B is not None and C is not None
    batch, channels, length = delta.shape
    parameters = {
        "A": arguments.A, "D": arguments.D, "bias": arguments.delta_bias, "initial": arguments.initial_state,
    }  # fmt: skip
    inputs: dict[str, Tensor | None] = {"u": u, "delta": delta, "z": z, "B": B, "C": C}
    inputs.update({name: None if p is None else p.float().contiguous() for name, p in parameters.items()})
    plan = plan_chunks(batch, channels, B.shape[1], length, processors)
    return ScanTask(inputs, orders or (in_memory_order(length),), plan, arguments.delta_softplus)


def forward(
    bind: Bind, task: ScanTask, y: Tensor | None = None, *, add: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y (B, D, L), the last state (B, D, N) and the state before each chunk (B, K, N, D), None for one chunk.

    Args:
        bind: of a backend.
        y: to be written, of any dtype; a new one of the dtype and layout of u if None.
        add: to what is in y.
    """
    batch, channels, _, _, states = task.shape
    u = task.inputs["u"]
    assert u is not None
    out = laid_out_like(u) if y is None else y
    last = task.empty(batch, channels, states)
    if u.numel() == 0:
        start = task.inputs["initial"]
        return out, last.zero_() if start is None else last.copy_(start), None
    launcher = bind(task, out.dtype)
    carries = None
    if task.plan.chunks > 1:
        carries = _states_before_chunks(launcher, task, last)
        launcher.launch("scan_finish", y=out, accumulate=add, last=None)
    else:
        launcher.launch("scan_finish", y=out, accumulate=add, last=last)
    return out, last, carries


def _states_before_chunks(launcher: Launcher, task: ScanTask, last: Tensor) -> Tensor:
    batch, channels, _, _, states = task.shape
    step_sums = task.empty(batch, task.plan.chunks, channels)
    carries = task.empty(batch, task.plan.chunks, states, channels)
    launcher.launch("scan_summary", step_sums=step_sums, carries=carries)
    launcher.launch("scan_combine", last=last, backwards=False)
    return carries


@dataclass(frozen=True)
class ScanGradients:
    """Derivatives of what ScanArguments holds; B and C (B, G, N, L), parameters float32, None for what is absent."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor


def backward(
    bind: Bind,
    task: ScanTask,
    carries: Tensor | None,
    dy: Tensor,
    d_last: Tensor | None,
    du: Tensor | None = None,
    d_delta: Tensor | None = None,
    *,
    add: bool = False,
) -> ScanGradients:
    """The derivatives by every input.

    Args:
        carries: from `forward`; computed again if None.
        dy, d_last: derivatives by y and by the last state, None for zeros.
        du, d_delta: to be written; new ones with the dtypes and layouts of u and delta if None. du may have any dtype.
        add: to what is in du.
    """
    batch, channels, length, groups, states = task.shape
    u, delta, z = (task.inputs[name] for name in ("u", "delta", "z"))
    assert u is not None and delta is not None
    if u.numel() == 0:
        return _gradients_of_nothing(task, d_last)
    task.inputs["dy"] = _near(dy.to(u.dtype))
    d_u = laid_out_like(u) if du is None else du
    d_delta = laid_out_like(delta) if d_delta is None else d_delta
    d_z = None if z is None else laid_out_like(z)
    launcher = bind(task, d_u.dtype)
    chunks, tiles = task.plan.chunks, math.ceil(length / TILE)
    leaving = task.empty(batch, channels, states)
    if chunks > 1 and carries is None:
        carries = _states_before_chunks(launcher, task, leaving)
    adjoints = task.empty(batch, chunks, states, channels) if chunks > 1 else None
    launcher.launch(
        "scan_back_summary", carries=carries, adjoints=adjoints, step_sums=task.empty(batch, chunks, channels),
        tile_states=task.empty(batch, tiles, states, channels),
    )  # fmt: skip
    entering = None if d_last is None else d_last.float().contiguous()
    if adjoints is not None:
        launcher.launch("scan_combine", carries=adjoints, initial=entering, last=leaving, backwards=True)
    d_B, d_C = (task.empty(task.blocks_of_group, batch, groups, length, states) for _ in range(2))
    d_A = task.empty(batch, chunks, states, channels)
    d_D, d_bias = (task.empty(batch, chunks, channels) for _ in range(2))
    launcher.launch(
        "scan_back_finish", initial=entering, last=None if chunks > 1 else leaving, du=d_u, ddelta=d_delta, dz=d_z,
        dB=d_B, dC=d_C, dA=d_A, dD=d_D, dbias=d_bias, accumulate=add,
    )  # fmt: skip
    return ScanGradients(
        d_u, d_delta, d_A.sum((0, 1)).T, _sum_of_blocks(d_B), _sum_of_blocks(d_C),
        None if task.inputs["D"] is None else d_D.sum((0, 1)), d_z,
        None if task.inputs["bias"] is None else d_bias.sum((0, 1)), leaving,
    )  # fmt: skip


def _sum_of_blocks(parts: Tensor) -> Tensor:
    """(P, B, G, L, N) -> (B, G, N, L)."""
    total = parts[0] if parts.shape[0] == 1 else parts.sum(0)
    return total.transpose(2, 3)


def _gradients_of_nothing(task: ScanTask, d_last: Tensor | None) -> ScanGradients:
    """Of a sequence without steps: the state passes unchanged."""
    batch, channels, _, _, states = task.shape
    zeros = {name: None if tensor is None else torch.zeros_like(tensor) for name, tensor in task.inputs.items()}
    u, delta, A, B, C = (zeros[name] for name in ("u", "delta", "A", "B", "C"))
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    leaving = task.empty(batch, channels, states).zero_() if d_last is None else d_last.float().clone()
    return ScanGradients(u, delta, A, B, C, zeros["D"], zeros["z"], zeros["bias"], leaving)


def laid_out_like(tensor: Tensor, dtype: torch.dtype | None = None, channels: int | None = None) -> Tensor:
    """An uninitialised tensor (B, D, L), channels last in memory where that one is; its dtype and D if not given."""
    batch, own_channels, length = tensor.shape
    width = own_channels if channels is None else channels
    if tensor.stride(1) == 1 and own_channels > 1:
        return tensor.new_empty(batch, length, width, dtype=dtype).transpose(1, 2)
    return tensor.new_empty(batch, width, length, dtype=dtype)


def _near(tensor: Tensor | None) -> Tensor | None:
    """As it is, or a copy if its channels, states or tokens are further apart than the kernels' 32 bits can say."""
    if tensor is None or max(tensor.stride()[-2:]) < _FARTHEST:
        return tensor
    return tensor.contiguous()


def _one_dtype(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """As they are if they agree; else all in float32."""
    if len({tensor.dtype for tensor in tensors if tensor is not None}) == 1:
        return tensors
    return tuple(None if tensor is None else tensor.float() for tensor in tensors)
