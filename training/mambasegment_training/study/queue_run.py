"""Trains the runs of a queue one after the other, each in a process of its own, and compares them at the end."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from MambaSegmentLib.errors import ConfigError, MambaSegmentError

from ..config import TrainingConfig
from ..journal import read_records
from ..prepare import PreparedDataset, open_work
from ..run_folder import CONFIG, read_run
from .queue_file import Queue, QueuedRun

DONE, TRAINED, FAILED = "was finished", "trained", "failed"
_LAST_LINES = 3
Teller = Callable[[str], None]


@dataclass(frozen=True)
class QueueResult:
    """Attributes:
    runs: folders of the runs that have all their folds, in the queue's order.
    failed: name of a run and fold -> the last lines it said.
    """

    runs: tuple[Path, ...]
    failed: dict[str, str] = field(default_factory=dict)


def run_queue(
    queue: Queue,
    work: Path,
    folder: Path,
    *,
    device: str = "auto",
    further: Sequence[str] = (),
    tell: Teller = lambda _: None,
) -> QueueResult:
    """Train what is not finished yet; a second call goes on where the first was ended, at whatever moment.

    A run that fails does not stop the others.

    Args:
        folder: runs/NAME/fold_N of each.
        further: settings of all runs, after those of the queue.
        tell: gets a line at the beginning and end of each run.
    Raises:
        ConfigError: a fold that the data does not have, or a run begun with other settings; before the first begins.
    """
    dataset = open_work(work)
    _check_pretrained(queue)
    planned = [(run, fold, _place(folder, run, fold)) for run in queue.runs for fold in folds_of(queue, dataset)]
    for run, fold, place in planned:
        _check_same_settings(place, run.load([*further, f"fold={fold}"]), work)
    failed: dict[str, str] = {}
    for number, (run, fold, place) in enumerate(planned, start=1):
        title = f"{run.name}, fold {fold} ({number} of {len(planned)})"
        if is_finished(place):
            tell(f"{title}: {DONE}")
            continue
        tell(f"{title}: training")
        problem = _train(run, fold, work, place, device, further)
        if problem is not None:
            failed[f"{run.name}/fold_{fold}"] = problem
        tell(f"{title}: {TRAINED if problem is None else f'{FAILED}: {problem}'}")
    complete = [
        folder / "runs" / run.name for run in queue.runs if not any(key.split("/")[0] == run.name for key in failed)
    ]
    return QueueResult(tuple(complete), failed)


def folds_of(queue: Queue, dataset: PreparedDataset) -> tuple[int, ...]:
    """Raises: ConfigError, for a fold that the data does not have."""
    known = range(len(dataset.folds))
    wanted = tuple(known) if queue.folds == "all" else queue.folds
    unknown = [fold for fold in wanted if fold not in known]
    if unknown:
        raise ConfigError(f"the queue asks for fold {unknown[0]}; {dataset.folder} has the folds 0 to {len(known) - 1}")
    return wanted


def is_finished(run: Path) -> bool:
    """Whether all epochs were trained."""
    if not (run / CONFIG).is_file():
        return False
    records = read_records(run / "metrics.jsonl")
    return bool(records) and records[-1]["epoch"] >= read_run(run).config.epochs


def _check_pretrained(queue: Queue) -> None:
    for run in queue.runs:
        if run.pretrained is not None and not run.pretrained.is_file():
            raise ConfigError(
                f"run {run.name!r} starts from {run.pretrained}, which does not exist; name the file with --pretrained"
            )


def _place(folder: Path, run: QueuedRun, fold: int) -> Path:
    return folder / "runs" / run.name / f"fold_{fold}"


def _check_same_settings(run: Path, config: TrainingConfig, work: Path) -> None:
    if not (run / CONFIG).is_file():
        return
    record = read_run(run)
    before, now = record.config.to_json(), config.to_json()
    for settings in (before, now):
        settings.get("pretrained", {}).pop("file", None)  # the run holds an absolute path
    if before != now or record.work != work.resolve():
        raise ConfigError(
            f"{run} was begun with other settings or data than the queue has now; put the queue back, or choose "
            "another folder for the new study"
        )


def _train(run: QueuedRun, fold: int, work: Path, place: Path, device: str, further: Sequence[str]) -> str | None:
    """None, or the last that the process said before it failed."""
    command = [sys.executable, "-m", "mambasegment_training", "fit", str(work), "-o", str(place), "--device", device]
    if (place / CONFIG).is_file():
        command.append("--resume")
    else:
        if run.config is not None:
            command += ["--config", str(run.config)]
        for text in (*run.assignments, *further, f"fold={fold}"):
            command += ["--set", text]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        log = place.parent / f"{place.name}.log"
        with log.open("a", encoding="utf-8") as stream:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
            try:
                code = process.wait()
            except BaseException:  # asked to end: the run saves its state and ends as well
                process.terminate()
                process.wait()
                raise
    except OSError as problem:
        raise MambaSegmentError(f"cannot start the training of {place}: {problem}") from problem
    if code == 0:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(lines[-_LAST_LINES:]) or f"exit code {code}"
