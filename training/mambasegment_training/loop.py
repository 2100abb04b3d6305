"""The training loop.

A run folder holds config.json and run.json (how it began), last.safetensors and previous.safetensors (the whole state:
after every epoch, every few minutes and on interruption), best.safetensors (the weights of the best validation),
metrics.jsonl, tensorboard/, curve.png, status.txt and, where the training started from a published file,
pretrained.json. Every batch is a function of the step's number, so a run that is killed and resumed ends with the very
weights of one that was not.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from MambaSegmentLib.errors import Cancelled, ConfigError, ResourceError
from MambaSegmentLib.progress import CancelToken

from .card import card_from_table, check_card
from .checkpoint import has_state, load_newest, load_weights, save_newest, save_weights, set_damaged_aside
from .config import TrainingConfig
from .fine_tune import with_network_of_bundle
from .journal import SilentJournal, journal_of
from .optimizer import gathered
from .prepare import open_work
from .pretrained import check_same_file, with_absolute_files
from .ranks import Ranks, joined
from .run_folder import BEST, change_epochs, check_unused, locked, read_pretrained, read_run, start_run
from .run_parts import RunParts, build_parts
from .sampler import feed
from .schedule import learning_rate
from .seeds import deterministic, seed_network
from .surroundings import describe_surroundings
from .trackers import check_trackers
from .validate import mean_per_label, overall


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
    """Train a network on a work folder; started by `torchrun`, as one of its processes.

    Args:
        run: made by this call; a folder that already holds a run is refused.
        device: "auto" (CUDA, then MPS, then CPU) or what torch.device takes.
        time_budget_s: train for this long instead of `config.epochs`. The rate then follows the clock, so such a run
            resumes, but not to the very same weights.
        cancel: ends the run after the step under way, with its state saved.
    Raises:
        ConfigError: settings that do not fit each other or the data. ResourceError: no such device, or out of memory.
        ShapeError: a patch that the network cannot take. BundleError: a file to start from that cannot be used.
        Cancelled: on request, after saving; `resume` goes on.
    """
    with joined() as ranks, ExitStack() as stack:
        if ranks.first:
            check_unused(run)
        dataset = open_work(work)
        check_card(card_from_table(config.card), dataset.channels, dataset.labels)
        check_trackers(config)
        config = with_network_of_bundle(with_absolute_files(config))
        parts = build_parts(dataset, config, device, ranks)
        if ranks.first:  # not before everything fits: a wrong setting leaves no folder behind
            stack.enter_context(locked(run))
            check_unused(run)
            start_run(run, work, config, parts.start_record(), describe_surroundings(parts.device, config.seed, ranks))
        ranks.wait()
        return _Trainer(run, config, parts, time_budget_s).train(cancel)


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
    with joined() as ranks, ExitStack() as stack:
        record = read_run(run)
        if ranks.first:
            stack.enter_context(locked(run))
            if epochs is not None:
                record = change_epochs(run, record, epochs)
        ranks.wait()
        config = read_run(run).config
        begun = has_state(run)
        dataset = open_work(record.work)
        parts = build_parts(dataset, config, device, ranks, fresh=not begun)
        trainer = _Trainer(run, config, parts, time_budget_s)
        if begun:
            trainer.restore()
        elif parts.start is not None:
            check_same_file(parts.start, read_pretrained(run))
        return trainer.train(cancel)


class _Trainer:
    """A run: its parts, its journal and its clock; `train` is the loop."""

    def __init__(self, run: Path, config: TrainingConfig, parts: RunParts, budget_s: float | None) -> None:
        self.run, self.config, self.parts, self.budget_s = run, config, parts, budget_s
        self.ranks: Ranks = parts.ranks
        self.state = parts.state
        self.remarks = [] if parts.start is None else [parts.start.summary()]
        self.rate: float | None = None  # of the last step of this sitting
        self.validation_s = 0.0  # the time the last validation took, kept back from a time budget
        self.saved_at = time.monotonic()

    def restore(self) -> None:
        """Go on from the newest state that is whole."""
        remark = load_newest(self.run, self.state)
        if remark is not None:
            self.remarks.append(remark)
            if self.ranks.first:
                set_damaged_aside(self.run)
        if self.state.best_dice is not None:
            try:
                load_weights(self.run / BEST)
            except ConfigError as problem:
                self.remarks.append(f"{problem}; the next validation writes the best weights anew")
                self.state.best_dice = self.state.best_epoch = None

    def train(self, cancel: CancelToken | None) -> FitResult:
        """Train from `self.state` to the end."""
        state, config, parts = self.state, self.config, self.parts
        if config.cpu_threads is not None:
            torch.set_num_threads(config.cpu_threads)
        if self._finished(0.0) and not self._epoch_is_due():
            return self._result()
        cancel = cancel or CancelToken()
        finished_epochs = (state.step - self._epoch_is_due()) // config.steps_per_epoch
        epochs = None if self.budget_s is not None else config.epochs
        with ExitStack() as stack:
            stack.callback(parts.stepper.close)
            journal = stack.enter_context(journal_of(self.ranks, self.run, finished_epochs, epochs, config))
            stack.enter_context(deterministic(config.deterministic))
            try:
                for remark in self.remarks:
                    journal.say(remark)
                if self._epoch_is_due():  # stopped within the validation
                    self._end_epoch(journal, _Clock(), cancel)
                if not self._finished(0.0):
                    batches = feed(parts.sampler, state.step, parts.device, config.data.workers)
                    self._steps(stack.enter_context(closing(batches)), journal, cancel)
            except torch.OutOfMemoryError as error:
                advice = "choose a smaller data.batch_size or data.patch_size, or set activation_checkpointing=true"
                raise ResourceError(f"not enough memory on {parts.device} for a step: {advice}") from error
        return self._result()

    def _steps(self, batches: Any, journal: SilentJournal, cancel: CancelToken) -> None:
        """The loop proper, to the end of the training or until it is asked to stop."""
        state, config, parts, clock = self.state, self.config, self.parts, _Clock()
        for batch in batches:
            self.rate = self._rate_at(state.step)
            batch = parts.sampler.finished(batch, state.step, parts.device)
            seed_network(parts.device, config.seed, state.step, self.ranks.rank)
            parts.stepper.take(batch, self.rate, journal.say)
            step_s = clock.lap_s()
            state.elapsed_s += step_s
            journal.step(state, self._seconds_left())
            finished = self._finished(step_s)
            ends_epoch = finished or state.step % config.steps_per_epoch == 0
            if ends_epoch:
                self._end_epoch(journal, clock, cancel, finished=finished)
                if self._patience_is_over():
                    journal.say(f"no better validation in {state.worse_validations}: the training ends here")
                    finished = True
            if finished:
                break
            stop, save = self.ranks.totals([cancel.cancelled, self._save_is_due()])  # looked at once a step
            if (stop or save) and not ends_epoch:
                self._save()
            if stop:
                self._stop()

    def _end_epoch(
        self, journal: SilentJournal, clock: "_Clock", cancel: CancelToken, *, finished: bool = False
    ) -> None:
        """Validate if it is time, record, save."""
        state = self.state
        epoch = -(-state.step // self.config.steps_per_epoch)
        finished = finished or self._finished(0.0)
        loss = state.loss_sum / state.loss_steps if state.loss_steps else None
        rate = self._rate_at(state.step - 1) if self.rate is None else self.rate
        entry: dict[str, Any] = {"epoch": epoch, "step": state.step, "loss": loss, "learning_rate": rate}
        if state.left_out:
            entry["steps_left_out"] = state.left_out
        if finished or epoch % self.config.validation.every_epochs == 0:
            try:
                entry["dice"] = self._validate(epoch, cancel)
            except Cancelled:  # the epoch is still open, so that resuming validates
                self._save()
                self._stop()
            self.validation_s = clock.lap_s()
            state.elapsed_s += self.validation_s
        state.loss_sum, state.loss_steps, state.open_steps = 0.0, 0, 0
        entry["elapsed_s"] = round(state.elapsed_s, 3)
        journal.record(entry, state, self._seconds_left())  # before the state: a record of lost work is dropped again
        self._save()

    def _validate(self, epoch: int, cancel: CancelToken) -> dict[str, float | None]:
        """Dice per label and their mean with the averaged weights, which are kept when they are the best so far."""
        state, parts = self.state, self.parts
        with state.average.applied_to(state.network) if state.average is not None else nullcontext():
            scores = parts.validate(cancel)
            means = mean_per_label(scores)
            mean = overall(means)
            if self.config.fold == "all" or state.best_dice is None or mean > state.best_dice:
                state.best_dice, state.best_epoch, state.worse_validations = mean, epoch, 0
                facts = {"epoch": epoch, "step": state.step, "mean_dice": mean, "scores": _with_text_keys(scores)}
                if self.ranks.first:
                    save_weights(self.run / BEST, state.network.state_dict(), facts)
            else:
                state.worse_validations += 1
        return {**{parts.names[label]: value for label, value in means.items()}, "mean": mean}

    def _save(self) -> None:
        gathered(self.state.optimizer)
        if self.ranks.first:
            save_newest(self.run, self.state)
        self.saved_at = time.monotonic()

    def _save_is_due(self) -> bool:
        return time.monotonic() - self.saved_at > 60 * self.config.save_every_minutes

    def _stop(self) -> None:
        raise Cancelled(f"stopped after step {self.state.step}; --resume goes on from there")

    def _rate_at(self, step: int) -> float:
        schedule = self.config.schedule
        return learning_rate(schedule, self.config.optimizer.learning_rate, step, self._fraction(step))

    def _fraction(self, step: int) -> float:
        if self.budget_s is not None:
            return self.state.elapsed_s / self.budget_s
        return step / ((self.config.schedule.epochs or self.config.epochs) * self.config.steps_per_epoch)

    def _finished(self, step_s: float) -> bool:
        """Nothing more to train; `step_s` is what another step would take of a time budget."""
        if self.budget_s is not None:
            over = self.state.elapsed_s + step_s + self.validation_s >= self.budget_s
            return self.ranks.totals([over])[0] > 0 or self._patience_is_over()  # clocks differ, the end must not
        return self.state.step >= self.config.epochs * self.config.steps_per_epoch or self._patience_is_over()

    def _patience_is_over(self) -> bool:
        patience = self.config.validation.patience
        return patience is not None and self.state.worse_validations >= patience

    def _epoch_is_due(self) -> bool:
        """The run was stopped between the last step of an epoch and its record."""
        state = self.state
        ended = state.step % self.config.steps_per_epoch == 0 or self._finished(0.0)
        return state.open_steps > 0 and ended

    def _seconds_left(self) -> float:
        """As long as the steps so far took, validations included; with a time budget what is left of it."""
        state = self.state
        if self.budget_s is not None:
            return max(0.0, self.budget_s - state.elapsed_s)
        return state.elapsed_s / state.step * (self.config.epochs * self.config.steps_per_epoch - state.step)

    def _result(self) -> FitResult:
        epochs = -(-self.state.step // self.config.steps_per_epoch)
        return FitResult(self.run, epochs, self.state.best_dice, self.state.best_epoch)


class _Clock:
    """The seconds since the last look at it."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap_s(self) -> float:
        now = time.monotonic()
        lap, self._last = now - self._last, now
        return lap


def _with_text_keys(scores: Mapping[str, Mapping[int, float | None]]) -> dict[str, dict[str, float | None]]:
    return {case: {str(label): value for label, value in labels.items()} for case, labels in scores.items()}
