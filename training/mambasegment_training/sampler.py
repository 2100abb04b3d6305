"""Batches for each step, made in a background thread where the network runs elsewhere."""

import itertools
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .augment import Augmentation
from .config import TrainingConfig
from .data import CaseStore, case_at, cut_patch, sample_seed

_AHEAD = 3  # batches made before they are asked for

Batch = tuple[Tensor, Tensor]


class Sampler:
    """The batch of any step: a pure function of the configuration and the step's number.

    Args:
        patch_size: voxels (K, J, I); two of them for slices across K.
    """

    def __init__(self, store: CaseStore, config: TrainingConfig, patch_size: tuple[int, ...]) -> None:
        self._store = store
        self._config = config
        self._augmentation = Augmentation(config.augment, patch_size)
        self._slices = len(patch_size) == 2
        flat = (1,) if self._slices else ()
        self._cut_size, self._source_size = (*flat, *patch_size), (*flat, *self._augmentation.source_size)

    def batch(self, step: int) -> Batch:
        """Images float32 (B, C, *patch) and labels int64 (B, 1, *patch) of optimiser step `step`."""
        size = self._config.data.batch_size
        samples = [self._sample(step * size + place) for place in range(size)]
        images, labels = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(labels).long()

    def _sample(self, position: int) -> Batch:
        config = self._config
        epoch, index = divmod(position, config.steps_per_epoch * config.data.batch_size)
        cut_seed, augment_seed = sample_seed(config.seed, epoch, index).spawn(2)
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
        return self._augmentation(image, labels, augment_seed)


def batches(sampler: Sampler, first_step: int, *, in_background: bool) -> Generator[Batch, None, None]:
    """The batches of step `first_step` and all that follow.

    Args:
        in_background: make them ahead in one thread. Not while the network computes on the CPU: it would compete for
            the same cores, and augmentation and dropout would draw from the same generators in no fixed order.
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
