"""What a run tells while it runs: metrics.jsonl, TensorBoard, curve.png, status.txt, trackers, and the user.

On a terminal the user sees a bar with loss, Dice and the time left, elsewhere plain lines.
"""

import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from MambaSegmentLib.errors import Cancelled, ConfigError, ResourceError
from MambaSegmentLib.files import atomic_path, disk_is_full

from .checkpoint import TrainingState
from .config import TrainingConfig
from .curve import draw_curve
from .ranks import Ranks
from .trackers import trackers_of

METRICS, CURVE, STATUS = "metrics.jsonl", "curve.png", "status.txt"


def journal_of(
    ranks: Ranks, run: Path, finished_epochs: int, epochs: int | None, config: TrainingConfig
) -> "SilentJournal":
    """The journal of a run; of several processes the first one's writes."""
    return Journal(run, finished_epochs, epochs, config) if ranks.first else SilentJournal()


class SilentJournal:
    """Tells nobody."""

    def __enter__(self) -> "SilentJournal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def step(self, state: TrainingState, seconds_left: float) -> None:
        """After each step."""

    def record(self, entry: Mapping[str, Any], state: TrainingState, seconds_left: float) -> None:
        """After each epoch."""

    def say(self, text: str) -> None:
        """A line for the user."""


class Journal(SilentJournal):
    """Records of a run folder, one for each finished epoch.

    Args:
        finished_epochs: of the state that the run goes on from; later records, of work that a crash undid, are dropped.
        epochs: in all; None while only the time is known.
    """

    def __init__(
        self,
        run: Path,
        finished_epochs: int,
        epochs: int | None,
        config: TrainingConfig,
        stream: TextIO | None = None,
    ) -> None:
        self._run, self._epochs, self._config = run, epochs, config
        self._stream = stream or sys.stderr
        self._records = _keep_records(run / METRICS, finished_epochs)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=finished_epochs + 1)
        self._trackers = trackers_of(config, run)
        self._bar = None
        if self._stream.isatty():
            steps = None if epochs is None else epochs * config.steps_per_epoch
            first = finished_epochs * config.steps_per_epoch
            layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}" if steps else None
            self._bar = tqdm(
                total=steps, initial=first, unit="step", file=self._stream, bar_format=layout, dynamic_ncols=True
            )
        self._dice = next((entry["dice"]["mean"] for entry in reversed(self._records) if "dice" in entry), None)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        words = "finished" if kind is None else "stopped" if kind in (Cancelled, KeyboardInterrupt) else "failed"
        reason = "" if error is None or words != "failed" else ": " + " ".join(str(error).split())[:200]
        try:
            self._write_status(f"{words}{reason}", self._last_words)
        finally:
            self._close(failed=words == "failed")

    _last_words = ""

    def step(self, state: TrainingState, seconds_left: float) -> None:
        """Move the bar, and once in a while the status file."""
        loss = state.loss_sum / state.loss_steps if state.loss_steps else None
        if self._bar is not None:
            self._bar.n = state.step
            self._bar.set_description_str(f"epoch {self._epoch(state)}", refresh=False)
            self._bar.set_postfix_str(_numbers(loss, self._dice, seconds_left))

    def record(self, entry: Mapping[str, Any], state: TrainingState, seconds_left: float) -> None:
        """Write one epoch: `epoch`, `loss`, `learning_rate`, `elapsed_s` and, after a validation, `dice`.

        Raises:
            ResourceError: the disk is full.
        """
        self._records.append(dict(entry))
        self._dice = entry.get("dice", {}).get("mean", self._dice)
        scalars = {name: entry[name] for name in ("loss", "learning_rate") if entry[name] is not None}
        scalars |= {f"dice/{label}": value for label, value in entry.get("dice", {}).items() if value is not None}
        try:
            with (self._run / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry, allow_nan=False) + "\n")
            for name, value in scalars.items():
                self._board.add_scalar(name, value, entry["epoch"])
            self._board.flush()
        except OSError as problem:
            if not disk_is_full(problem):
                raise
            raise ResourceError(
                f"cannot write to {self._run}: the disk is full; free some space and resume"
            ) from problem
        for tracker in self._trackers:
            tracker.log(scalars, entry["epoch"])
        draw_curve(self._records, self._run / CURVE)
        best = "" if state.best_dice is None else f", best {state.best_dice:.4f} in epoch {state.best_epoch}"
        self._last_words = f"epoch {self._epoch(state)} {_numbers(entry['loss'], self._dice, None)}{best}"
        self._write_status("running", f"{self._last_words}, {_duration(seconds_left)} left")
        if self._bar is None or "dice" in entry:
            self.say(_line(entry) + f", {_duration(seconds_left)} left")

    def say(self, text: str) -> None:
        """A line for the user."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _epoch(self, state: TrainingState) -> str:
        epoch = -(-state.step // self._config.steps_per_epoch)
        return str(epoch) if self._epochs is None else f"{epoch}/{self._epochs}"

    def _write_status(self, word: str, details: str) -> None:
        """One line for whoever watches many runs."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with atomic_path(self._run / STATUS, ConfigError) as temporary:
            temporary.write_text(f"{now} {word}{', ' if details else ''}{details}\n", encoding="utf-8")

    def _close(self, *, failed: bool) -> None:
        self._board.close()
        for tracker in self._trackers:
            tracker.close(failed=failed)
        if self._bar is not None:
            self._bar.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a last line that a crash cut short is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _keep_records(path: Path, finished_epochs: int) -> list[dict[str, Any]]:
    kept = [record for record in read_records(path) if record["epoch"] <= finished_epochs]
    with atomic_path(path, ConfigError) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    return kept


def _line(entry: Mapping[str, Any]) -> str:
    loss = "none, every step was left out" if entry["loss"] is None else f"{entry['loss']:.4f}"
    text = f"epoch {entry['epoch']}: loss {loss}, rate {entry['learning_rate']:.2e}, {entry['elapsed_s']:.0f} s"
    if "dice" in entry:
        scores = ", ".join(
            f"{label} {'-' if value is None else f'{value:.4f}'}" for label, value in entry["dice"].items()
        )
        text += f", Dice {scores}"
    return text


def _numbers(loss: float | None, dice: float | None, seconds_left: float | None) -> str:
    parts = [] if loss is None else [f"loss {loss:.4f}"]
    parts += [] if dice is None else [f"Dice {dice:.4f}"]
    parts += [] if seconds_left is None else [f"{_duration(seconds_left)} left"]
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes) % 60} min"
    return f"{minutes:.0f} min" if minutes >= 1 else f"{seconds:.0f} s"
