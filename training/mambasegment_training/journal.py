"""What a run tells while it runs: metrics.jsonl, TensorBoard, and a bar on a terminal or plain lines elsewhere."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path


class Journal:
    """Records of a run folder, one for each finished epoch.

    Args:
        finished_epochs: of the state that the run goes on from; later records, of work that a crash undid, are dropped.
        epochs: in all, for the bar; None while only the time is known.
    """

    def __init__(self, run: Path, finished_epochs: int, epochs: int | None, stream: TextIO | None = None) -> None:
        self._path = run / "metrics.jsonl"
        self._stream = stream or sys.stderr
        _keep_records(self._path, finished_epochs)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=finished_epochs + 1)
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(total=epochs, initial=finished_epochs, unit="epoch", file=self._stream)

    def record(self, entry: Mapping[str, Any]) -> None:
        """Write one epoch: `epoch`, `loss`, `learning_rate`, `elapsed_s` and, after a validation, `dice`."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, allow_nan=False) + "\n")
        for name in ("loss", "learning_rate"):
            self._board.add_scalar(name, entry[name], entry["epoch"])
        for label, value in entry.get("dice", {}).items():
            if value is not None:
                self._board.add_scalar(f"dice/{label}", value, entry["epoch"])
        self._board.flush()
        self._tell(_line(entry), entry)

    def say(self, text: str) -> None:
        """A line for the user."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def close(self) -> None:
        self._board.close()
        if self._bar is not None:
            self._bar.close()

    def _tell(self, line: str, entry: Mapping[str, Any]) -> None:
        if self._bar is None:
            self.say(line)
            return
        self._bar.update(1)
        self._bar.set_postfix_str(f"loss {entry['loss']:.3f}")
        if "dice" in entry:
            self.say(line)


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


def _keep_records(path: Path, finished_epochs: int) -> None:
    kept = [record for record in read_records(path) if record["epoch"] <= finished_epochs]
    with atomic_path(path, ConfigError) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def _line(entry: Mapping[str, Any]) -> str:
    text = f"epoch {entry['epoch']}: loss {entry['loss']:.4f}, rate {entry['learning_rate']:.2e}"
    text += f", {entry['elapsed_s']:.0f} s"
    if "dice" in entry:
        scores = ", ".join(
            f"{label} {'-' if value is None else f'{value:.4f}'}" for label, value in entry["dice"].items()
        )
        text += f", Dice {scores}"
    return text
