"""The processes of a training that runs on several devices or nodes, as `torchrun` starts them.

Each takes its part of every batch; sums over all of them are sent as numbers, never as pickled objects.
"""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from MambaSegmentLib.devices import choose_device


@dataclass(frozen=True)
class Ranks:
    """This process among those of the training.

    Attributes:
        rank: of this process, 0 to size - 1; rank 0 writes files and talks to the user.
        local_rank: among those of this node: the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def totals(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes, in float64; every process gets it, and all wait for each other."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        self.totals([0.0])

    def device(self, name: str) -> torch.device:
        """The device of that name; of GPUs that of the local rank, where the name has no number of its own."""
        device = choose_device(name)
        if self.size > 1 and device.type == "cuda" and device.index is None:
            return choose_device(f"cuda:{self.local_rank}")
        return device


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Within, this process belongs to those that `torchrun` started with it; alone where it did not."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    _import_what_would_keep_the_group()
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")  # NCCL for gradients, gloo for numbers
    try:
        yield Ranks(dist.get_rank(), size, int(os.environ["LOCAL_RANK"]))
    finally:
        _end_group()


def _import_what_would_keep_the_group() -> None:
    """These make the group that is there when they are imported a default of their functions (PyTorch 2.13)."""
    import torch.distributed.nn.functional
    import torch.distributed.optim.zero_redundancy_optimizer  # noqa: F401  # two seconds, so not for a single process


def _end_group() -> None:
    """Leave the group and wait for its threads: one that still lets go of a tensor as Python ends aborts the process.

    For that they need Python's lock. The last reference must therefore be this one, which PyTorch drops without the
    lock; a DistributedDataParallel would drop it with the lock and wait for good, so such are collected first.
    """
    group = dist.group.WORLD
    dist.destroy_process_group()
    gc.collect()
    del group
