"""The training loop.

A run folder holds config.json, last.safetensors (the whole state, after every epoch and on interruption),
best.safetensors (the weights of the best validation), metrics.jsonl, tensorboard/ and, where the training started from
a published file, pretrained.json. Every batch is a function of the
step's number, so a run that is killed and resumed ends with the very weights of one that was not.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import Cancelled, MambaSegmentError, ResourceError
from MambaSegmentLib.models import encoder_to_freeze
from MambaSegmentLib.progress import CancelToken

from .average import WeightAverage
from .card import card_from_table, check_card
from .checkpoint import TrainingState, load_state, save_state, save_weights
from .config import OptimizerConfig, TrainingConfig
from .data import CaseStore
from .journal import Journal
from .losses import build_loss
from .network import HeldStill, build_network, patch_size_of
from .prepare import PreparedDataset, open_work
from .pretrained import check_same_file, freeze_epochs_of, start_from, with_absolute_file
from .run_folder import BEST, LAST, change_epochs, check_unused, read_pretrained, read_run, start_run
from .sampler import Batch, Sampler, batches
from .schedule import learning_rate
from .validate import mean_per_label, overall, validate

_STEP = 3  # purpose of random numbers; data.py has 0 and 1, network.py 2


@dataclass(frozen=True)
class FitResult:
    """Where a run ended: epochs finished, best mean Dice and the epoch that had it (None before a validation)."""

    run: Path
    epochs: int
    best_dice: float | None
    best_epoch: int | None


def fit(
    work: Path,
    run: Path,
    config: TrainingConfig,
    *,
    device: str = "auto",
    time_budget_s: float | None = None,
    cancel: CancelToken | None = None,
) -> FitResult:
    """Train a network on a work folder.

    Args:
        run: made by this call; a folder that already holds a run is refused.
        device: "auto" (CUDA, then MPS, then CPU) or what torch.device takes.
        time_budget_s: train for this long instead of `config.epochs`. The rate then follows the clock, so such a run
            resumes, but not to the very same weights.
        cancel: ends the run after the step under way, with its state saved.
    Raises:
        ConfigError: settings that do not fit each other or the data. ResourceError: no such device, or out of memory.
        ShapeError: a patch that the network cannot take. BundleError: a pretrained file that cannot be used.
        Cancelled: on request, after saving; `resume` goes on.
    """
    check_unused(run)
    dataset = open_work(work)
    check_card(card_from_table(config.card), dataset.channels, dataset.labels)
    config = with_absolute_file(config)
    trainer = _Trainer(dataset, run, config, device, time_budget_s)
    pretrained = None if trainer.pretrained is None else trainer.pretrained.to_json()
    start_run(run, work, config, pretrained)  # not before everything fits: a wrong setting leaves no folder behind
    return trainer.train(cancel)


def resume(
    run: Path,
    *,
    epochs: int | None = None,
    device: str = "auto",
    time_budget_s: float | None = None,
    cancel: CancelToken | None = None,
) -> FitResult:
    """Go on with a run from its last checkpoint, or from the start if it was killed before the first.

    Args:
        epochs: a new end; the rate then follows the longer or shorter schedule from here on.
        device, time_budget_s, cancel: as for `fit`; the budget counts all sittings together.
    """
    record = read_run(run)
    if epochs is not None:
        record = change_epochs(run, record, epochs)
    begun = (run / LAST).exists()
    trainer = _Trainer(open_work(record.work), run, record.config, device, time_budget_s, fresh=not begun)
    if begun:
        load_state(run / LAST, trainer.state)
    elif trainer.pretrained is not None:
        check_same_file(trainer.pretrained, read_pretrained(run))
    return trainer.train(cancel)


class _Trainer:
    """The parts of a run, put together; `train` is the loop."""

    def __init__(
        self,
        dataset: PreparedDataset,
        run: Path,
        config: TrainingConfig,
        device: str,
        time_budget_s: float | None,
        *,
        fresh: bool = True,
    ) -> None:
        self.dataset, self.run, self.config, self.budget_s = dataset, run, config, time_budget_s
        self.device = choose_device(device)
        self.loss = build_loss(
            config.loss.name,
            regions_per_axis=config.loss.regions_per_axis,
            ignore_label=dataset.ignore_label,
            batch_dice=config.loss.batch_dice,
            deep_supervision_weights=config.loss.deep_supervision_weights,
        )
        network = build_network(dataset, config)
        self.patch_size = patch_size_of(network, dataset, config)
        # a checkpoint has all weights, so that a run under way needs the file no more
        self.pretrained = start_from(network, config.pretrained) if fresh else None
        network = network.to(self.device)
        self.held = _held_still(network, config)
        average = None if config.ema_decay is None else WeightAverage(network, config.ema_decay)
        self.state = TrainingState(network, build_optimizer(config.optimizer, network), average)
        limit = config.data.memory_limit_gib * 2**30
        self.training_cases = CaseStore(dataset.folder / "cases", dataset.split.train, limit)
        self.validation_cases = CaseStore(dataset.folder / "cases", dataset.split.validation, limit)
        self.validation_s = 0.0  # the time the last validation took, kept back from a time budget

    def train(self, cancel: CancelToken | None) -> FitResult:
        """Train from `self.state` to the end."""
        state, config = self.state, self.config
        finished_epochs = state.step // config.steps_per_epoch
        if self._finished(0.0):
            return self._result()
        if config.cpu_threads is not None:
            torch.set_num_threads(config.cpu_threads)
        journal = Journal(self.run, finished_epochs, None if self.budget_s is not None else config.epochs)
        if self.pretrained is not None:
            journal.say(self.pretrained.summary())
        sampler = Sampler(self.training_cases, config, self.patch_size)
        try:
            feed = batches(sampler, state.step, in_background=self.device.type != "cpu")
            with deterministic(config.deterministic), closing(feed):
                clock = _Clock()
                for batch in feed:
                    rate = self._step(batch)
                    step_s = clock.lap_s()
                    state.elapsed_s += step_s
                    finished = self._finished(step_s)
                    ends_epoch = finished or state.step % config.steps_per_epoch == 0
                    if ends_epoch:
                        journal.record(self._end_epoch(rate, finished, clock))
                    if finished:
                        break
                    if cancel is not None and cancel.cancelled:  # looked at once: it may be set at any moment
                        if not ends_epoch:
                            save_state(self.run / LAST, state)
                        raise Cancelled(f"stopped after step {state.step}; --resume goes on from there")
        except torch.OutOfMemoryError as error:
            advice = "choose a smaller data.batch_size or data.patch_size"
            raise ResourceError(f"not enough memory on {self.device} for a step: {advice}") from error
        finally:
            journal.close()
        return self._result()

    def _step(self, batch: Batch) -> float:
        """One optimiser step; the learning rate it used."""
        state, config = self.state, self.config
        rate = learning_rate(config.schedule, config.optimizer.learning_rate, state.step, self._fraction())
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        seed_network(self.device, config.seed, state.step)
        state.network.train()
        self.held.at(state.step)
        images, labels = (tensor.to(self.device) for tensor in batch)
        with self._autocast():
            logits = state.network(images)
        loss = self.loss(logits, labels)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.optimizer.gradient_clip is not None:
            nn.utils.clip_grad_norm_(state.network.parameters(), config.optimizer.gradient_clip)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MambaSegmentError(f"the loss became {value} at step {state.step}; lower optimizer.learning_rate")
        state.optimizer.step()
        state.step += 1
        state.loss_sum += value
        state.loss_steps += 1
        if state.average is not None:
            state.average.update(state.network)
        return rate

    def _end_epoch(self, rate: float, finished: bool, clock: "_Clock") -> dict[str, Any]:
        """Validate if it is time, and save."""
        state = self.state
        epoch = -(-state.step // self.config.steps_per_epoch)
        entry: dict[str, Any] = {"epoch": epoch, "step": state.step, "loss": state.loss_sum / state.loss_steps}
        entry |= {"learning_rate": rate}
        state.loss_sum, state.loss_steps = 0.0, 0
        if finished or epoch % self.config.validation.every_epochs == 0:
            entry["dice"] = self._validate(epoch)
            self.validation_s = clock.lap_s()
            state.elapsed_s += self.validation_s
        entry["elapsed_s"] = round(state.elapsed_s, 3)
        save_state(self.run / LAST, state)
        return entry

    def _validate(self, epoch: int) -> dict[str, float | None]:
        """Dice per label and their mean with the averaged weights, which are kept when they are the best so far."""
        state, dataset = self.state, self.dataset
        with state.average.applied_to(state.network) if state.average is not None else nullcontext():
            scores = validate(
                state.network,
                self.validation_cases,
                list(dataset.labels),
                self.patch_size,
                self.device,
                ignore_label=dataset.ignore_label,
                tile_step=self.config.validation.tile_step,
            )
            means = mean_per_label(scores)
            mean = overall(means)
            if state.best_dice is None or mean > state.best_dice:
                state.best_dice, state.best_epoch = mean, epoch
                facts = {"epoch": epoch, "step": state.step, "mean_dice": mean, "scores": _with_text_keys(scores)}
                save_weights(self.run / BEST, state.network.state_dict(), facts)
        return {**{dataset.labels[label]: value for label, value in means.items()}, "mean": mean}

    def _fraction(self) -> float:
        if self.budget_s is not None:
            return self.state.elapsed_s / self.budget_s
        return self.state.step / (self.config.epochs * self.config.steps_per_epoch)

    def _finished(self, step_s: float) -> bool:
        if self.budget_s is not None:
            return self.state.elapsed_s + step_s + self.validation_s >= self.budget_s
        return self.state.step >= self.config.epochs * self.config.steps_per_epoch

    def _autocast(self) -> Any:
        if self.config.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _result(self) -> FitResult:
        epochs = -(-self.state.step // self.config.steps_per_epoch)
        return FitResult(self.run, epochs, self.state.best_dice, self.state.best_epoch)


def _held_still(network: nn.Module, config: TrainingConfig) -> HeldStill:
    """The pretrained encoder in the first epochs; nothing where there is none."""
    epochs = freeze_epochs_of(network, config.pretrained)
    return HeldStill(network, encoder_to_freeze(network) if epochs else [], epochs * config.steps_per_epoch)


class _Clock:
    """The seconds since the last look at it."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap_s(self) -> float:
        now = time.monotonic()
        lap, self._last = now - self._last, now
        return lap


def build_optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    """AdamW or SGD; scales, biases and other vectors are not decayed, since they do not overfit by size."""
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(name, parameter) else kept).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (kept, 0.0))
        if parameters
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.betas[0], config.betas[1]))


def _decays(name: str, parameter: Tensor) -> bool:
    # A_log of a Mamba block is a matrix by shape, but shrinking it towards 0 would change the memory of its states
    return parameter.ndim > 1 and not name.endswith("A_log")


def seed_network(device: torch.device, seed: int, step: int) -> None:
    """Give dropout and the like their own random numbers for each step, on the device that computes."""
    word = int(np.random.SeedSequence((seed, _STEP, step)).generate_state(1)[0])
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


def _with_text_keys(scores: Mapping[str, Mapping[int, float | None]]) -> dict[str, dict[str, float | None]]:
    return {case: {str(label): value for label, value in labels.items()} for case, labels in scores.items()}
