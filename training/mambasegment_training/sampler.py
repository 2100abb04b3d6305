"""Batches for each step, made ahead in processes or in a thread where the network runs elsewhere."""

import itertools
import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.util import Finalize

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from .augment import Augmentation
from .config import TrainingConfig
from .data import CaseStore, case_at, cut_patch, sample_seed
from .device_augment import DeviceAugmentation

_AHEAD = 3  # batches made before they are asked for
_AFTER_ALL_ELSE = -1000  # of what multiprocessing does at the end of a process

Batch = tuple[Tensor, Tensor]


class Sampler:
    """The batch of any step: a pure function of the configuration and the step's number.

    Args:
        patch_size: voxels (K, J, I); two of them for slices across K.
        rank, size: of several processes each gets its part of every batch.
    """

    def __init__(
        self, store: CaseStore, config: TrainingConfig, patch_size: tuple[int, ...], rank: int = 0, size: int = 1
    ) -> None:
        self._store = store
        self._config = config
        self._own = config.data.batch_size * config.data.accumulate
        self._all, self._first = self._own * size, self._own * rank
        self._augmentation = Augmentation(config.augment, patch_size)
        self._later = (
            DeviceAugmentation(config.augment, patch_size)
            if config.augment.enabled and config.augment.on_device
            else None
        )
        self._slices = len(patch_size) == 2
        flat = (1,) if self._slices else ()
        self._cut_size, self._source_size = (*flat, *patch_size), (*flat, *self._augmentation.source_size)

    def batch(self, step: int) -> Batch:
        """Images float32 (B, C, *patch) and labels int64 (B, 1, *patch) of optimiser step `step`, in this process.

        With `augment.on_device` they are larger, what `finished` takes.
        """
        samples = [self._sample(position) for position in self._positions(step)]
        images, labels = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(labels).long()

    def finished(self, batch: Batch, step: int, device: torch.device) -> Batch:
        """The batch on the device of the network, changed there where it was not before."""
        images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        if self._later is None:
            return images, labels
        seeds = [self._seeds(position)[1] for position in self._positions(step)]
        changed = [self._later(*sample) for sample in zip(images, labels, seeds, strict=True)]
        return torch.stack([image for image, _ in changed]), torch.stack([truth for _, truth in changed])

    def _positions(self, step: int) -> range:
        first = step * self._all + self._first
        return range(first, first + self._own)

    def _seeds(self, position: int) -> list[np.random.SeedSequence]:
        """Of the place of the patch, and of its changes."""
        epoch, index = divmod(position, self._config.steps_per_epoch * self._all)
        return sample_seed(self._config.seed, epoch, index).spawn(2)

    def _sample(self, position: int) -> Batch:
        config = self._config
        cut_seed, augment_seed = self._seeds(position)
        case = self._store[self._store.identifiers[case_at(position, len(self._store), config.seed)]]
        image, labels = cut_patch(
            case,
            self._cut_size,
            np.random.default_rng(cut_seed),
            config.data.foreground_fraction,
            self._source_size,
            config.data.small_cases,
        )
        if self._slices:
            image, labels = image[:, 0], labels[0]
        if self._later is not None:
            size = self._source_size[-labels.ndim :]
            return _padded(torch.from_numpy(image), size), _padded(torch.from_numpy(labels)[None], size)
        return self._augmentation(image, labels, augment_seed)


def _padded(array: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """With zeros to (C, *size); voxel n // 2 stays voxel n // 2."""
    margins: list[int] = []
    for extent, wanted in zip(reversed(array.shape[1:]), reversed(size), strict=True):
        before = wanted // 2 - extent // 2
        margins += [before, wanted - extent - before]
    return torch.nn.functional.pad(array, margins)


def feed(
    sampler: Sampler, first_step: int, device: torch.device, workers: int | None = None
) -> Generator[Batch, None, None]:
    """The batches of step `first_step` and all that follow, made ahead as suits the device.

    On a CPU they are made when they are asked for: anything ahead would compete for the same cores, and in one process
    augmentation and dropout would draw from the same generators in no fixed order.

    Args:
        workers: processes; None chooses.
    """
    if workers is None:
        workers = min(8, max(1, (os.cpu_count() or 1) - 1)) if device.type != "cpu" else 0
    if workers > 0:
        return _from_processes(sampler, first_step, workers, pinned=device.type == "cuda")
    return batches(sampler, first_step, in_background=device.type != "cpu")


def batches(sampler: Sampler, first_step: int, *, in_background: bool) -> Generator[Batch, None, None]:
    """The batches of step `first_step` and all that follow.

    Args:
        in_background: make them ahead in one thread. One is all: augmentation draws from generators that are global to
            the process.
    """
    if not in_background:
        yield from map(sampler.batch, itertools.count(first_step))
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    try:
        waiting: deque[Future[Batch]] = deque()
        for step in itertools.count(first_step):
            waiting.append(pool.submit(sampler.batch, step))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Steps(Dataset):
    """Batches by the number of their step; each process of a DataLoader has a copy."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def __getitem__(self, step: int) -> Batch:
        return self._sampler.batch(step)


class _Counting(TorchSampler[int]):
    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._first)


def _from_processes(sampler: Sampler, first_step: int, workers: int, *, pinned: bool) -> Generator[Batch, None, None]:
    """The same batches from several processes, in order; cases are mapped there, so that the system keeps them once."""
    loader = DataLoader(
        _Steps(sampler),
        batch_size=None,
        sampler=_Counting(first_step),
        num_workers=workers,
        multiprocessing_context="spawn",
        pin_memory=pinned,
        worker_init_fn=_begin_worker,
    )
    iterator = iter(loader)
    try:
        yield from iterator
    finally:
        del iterator  # ends the processes


def _begin_worker(_number: int) -> None:
    """Ctrl-C is for the main process, which ends its workers; a core each is enough.

    A worker ends while a thread of its queue may still be handing over a batch. Python would unwind that thread out of
    PyTorch's C++ code, where that aborts the process (seen in one of eight, with PyTorch 2.13 and any data set); so
    Python's own end is left out once all else is done.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    Finalize(None, _leave, exitpriority=_AFTER_ALL_ELSE)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what went wrong has gone to the main process through the queue
