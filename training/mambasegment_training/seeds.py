"""Random numbers of the network, and sums in a fixed order: what makes two runs of one seed equal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_STEP = 3  # purpose of random numbers; data.py has 0 and 1, network.py 2


def seed_network(device: torch.device, seed: int, step: int, rank: int = 0) -> None:
    """Give dropout and the like their own random numbers for each step, on the device that computes."""
    key = (seed, _STEP, step) if rank == 0 else (seed, _STEP, step, rank)
    word = int(np.random.SeedSequence(key).generate_state(1)[0])
    if device.type == "cuda":
        torch.cuda.manual_seed(word)
    elif device.type == "mps":
        torch.mps.manual_seed(word)
    else:
        torch.default_generator.manual_seed(word)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Within, PyTorch adds in a fixed order wherever it can, and warns where it cannot."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; read at its first use
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory = torch.utils.deterministic
    fill_before = memory.fill_uninitialized_memory  # type: ignore[attr-defined]  # set through the module's class
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # writing NaN into every new tensor only takes time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill_before  # type: ignore[attr-defined]
