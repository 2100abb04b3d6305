"""What lies in a run folder, and its config.json: the work folder, the settings, and when and with what it began."""

import datetime
import importlib.metadata
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.locks import try_lock

from .config import TrainingConfig, config_from_json
from .storage import read_json, write_json

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
DAMAGED = "damaged.safetensors"  # a last state that could not be used
CONFIG, RUN, PRETRAINED, LOCK = "config.json", "run.json", "pretrained.json", "run.lock"
_DISTRIBUTIONS = ("mambasegment", "mambasegment-training", "torch", "numpy", "batchgeneratorsv2")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """The content of config.json.

    Attributes:
        work: absolute path of the prepared data.
        date: of the start, as YYYY-MM-DD in UTC; None in folders of versions that did not note it.
        software: distribution -> version at the start; empty where it was not noted.
    """

    work: Path
    config: TrainingConfig
    date: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)


def start_run(
    run: Path,
    work: Path,
    config: TrainingConfig,
    pretrained: Mapping[str, Any] | None = None,
    surroundings: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Note in its folder how a run began.

    Args:
        run: the folder, `locked`.
        pretrained: the file that the network started from, and what became of it; for pretrained.json.
        surroundings: hardware and code; for run.json, which people read and no part of the program does.
    Raises:
        ConfigError: the folder cannot be written.
    """
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = RunRecord(work.resolve(), config, date, software_versions())
    if pretrained is not None:
        write_json(run / PRETRAINED, dict(pretrained))
    write_json(run / RUN, {**_content(record), **(surroundings or {})})
    _write(run, record)  # last: a folder with it holds a run
    return record


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Within, this process alone trains in the folder; the system ends the lock with the process, however it ends.

    Raises:
        ConfigError: another one does, or the folder cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        stream = (run / LOCK).open("a+", encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"cannot make the run folder {run}: {problem.strerror or problem}") from problem
    with stream:
        try:
            free = try_lock(stream)
        except OSError as problem:  # some network file systems
            _log.warning("%s knows no locks (%s): see to it that no second run uses it", run, problem)
            free = True
        if not free:
            stream.seek(0)
            owner = stream.read(200).strip() or "another process"
            raise ConfigError(f"{owner} is training in {run}; wait for it, stop it, or choose another folder")
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}")
        stream.flush()
        yield


def check_unused(run: Path) -> None:
    """Raises: ConfigError, when the folder holds a run."""
    if any((run / name).exists() for name in (LAST, PREVIOUS, CONFIG)):
        raise ConfigError(f"{run} already holds a run; go on with --resume, or choose another folder")


def read_run(run: Path) -> RunRecord:
    """Raises: ConfigError, when the folder holds no run."""
    content = read_json(run / CONFIG, "start it with `mambatrain fit WORK -o RUN`")
    if not isinstance(content, dict) or not {"work", "config"} <= content.keys():
        raise ConfigError(f"{run / CONFIG} is not of a run of mambatrain")
    work, config = Path(content["work"]), config_from_json(content["config"])
    return RunRecord(work, config, content.get("date"), content.get("software", {}))


def read_pretrained(run: Path) -> dict[str, Any]:
    """What pretrained.json says: at least file, sha256, encoder_only, freeze_epochs and the numbers of parameters.

    Raises: ConfigError, when it is missing or damaged.
    """
    content = read_json(run / PRETRAINED, "start a new run")
    if not isinstance(content, dict) or "sha256" not in content:
        raise ConfigError(f"{run / PRETRAINED} is damaged; start a new run")
    return content


def change_epochs(run: Path, record: RunRecord, epochs: int) -> RunRecord:
    """Note a new end of the training."""
    changed = replace(record, config=replace(record.config, epochs=epochs))
    _write(run, changed)
    return changed


def software_versions() -> dict[str, str]:
    """Versions of what shapes a training, as installed here; what is not installed is left out."""
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _write(run: Path, record: RunRecord) -> None:
    write_json(run / CONFIG, _content(record))


def _content(record: RunRecord) -> dict[str, Any]:
    content: dict[str, Any] = {"work": str(record.work), "config": record.config.to_json()}
    if record.date is not None:
        content["date"] = record.date
    if record.software:
        content["software"] = dict(record.software)
    return content
