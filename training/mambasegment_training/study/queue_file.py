"""A queue: a TOML file that lists the runs of a study, and what each of them differs in.

description = "…"
config = "../configs/hippocampus.toml"      # of all runs; relative to the queue's file; may be left out
set = ["epochs=200", "data.batch_size=2"]   # of all runs, as `fit --set`
folds = [0]                                 # or "all": each fold of the prepared data, one after the other

[[runs]]
name = "lightm_rvm"                         # the folder's name
config = "…"                                # instead of that of all
set = ["network.name=lightm_unet"]          # after those of all
pretrained = "vssmtiny.pth"                 # as `fit --pretrained`; relative to the queue's file, or another that
                                            # `mambatrain queue --pretrained` names
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from MambaSegmentLib.errors import ConfigError

from ..config import TrainingConfig, load_config, read_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OF_ALL = {"description": str, "config": str, "set": list, "folds": (list, str), "runs": list}
_OF_RUN = {"name": str, "config": str, "set": list, "pretrained": str}


@dataclass(frozen=True)
class QueuedRun:
    """Attributes:
    settings: key=value texts, in the order in which they count.
    pretrained: the file it starts from, if any.
    """

    name: str
    config: Path | None
    settings: tuple[str, ...]
    pretrained: Path | None = None

    @property
    def assignments(self) -> list[str]:
        """All settings, the pretrained file among them."""
        if self.pretrained is None:
            return list(self.settings)
        return [*self.settings, f"pretrained.file={json.dumps(str(self.pretrained), ensure_ascii=False)}"]

    def load(self, further: Sequence[str] = ()) -> TrainingConfig:
        """The settings, changed by further key=value texts.

        Raises:
            ConfigError: a recipe that cannot be read, or a setting that makes no sense.
        """
        return load_config(self.config, [*self.assignments, *further])


@dataclass(frozen=True)
class Queue:
    """Attributes:
    folds: numbers, or "all" of those that the data has.
    """

    description: str
    folds: tuple[int, ...] | Literal["all"]
    runs: tuple[QueuedRun, ...]

    def with_changes(self, folds: tuple[int, ...] | str | None, pretrained: Path | None) -> "Queue":
        """Other folds, and another file for the runs that start from one; None leaves things as they are."""
        runs = self.runs
        if pretrained is not None:
            file = pretrained.resolve()
            runs = tuple(run if run.pretrained is None else replace(run, pretrained=file) for run in runs)
        wanted: Any = self.folds if folds is None else folds
        return Queue(self.description, wanted, runs)


def read_queue(path: Path) -> Queue:
    """Read a queue, and check every run's settings before the first begins.

    Raises:
        ConfigError: no such file, or an entry that makes no sense; the message names it.
    """
    content = read_toml(path)
    _check(content, _OF_ALL, str(path))
    entries = content.get("runs", [])
    if not entries:
        raise ConfigError(f"{path} lists no [[runs]]; there is nothing to train")
    runs = tuple(_run(entry, content, path, number) for number, entry in enumerate(entries, start=1))
    names = [run.name for run in runs]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ConfigError(f"{path}: two runs are named {doubled!r}; give each a name of its own")
    for run in runs:
        try:
            run.load()
        except ConfigError as problem:
            raise ConfigError(f"{path}: run {run.name!r}: {problem}") from problem
    return Queue(content.get("description", ""), _folds(content.get("folds", [0]), path), runs)


def _run(entry: Any, of_all: Mapping[str, Any], path: Path, number: int) -> QueuedRun:
    where = f"{path}: run {number}"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} is {entry!r}; expected a table [[runs]]")
    _check(entry, _OF_RUN, where)
    name = entry.get("name", "")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where} is named {name!r}; expected letters, digits, . _ or -, since it names a folder")
    config = entry.get("config", of_all.get("config"))
    assignments = [*of_all.get("set", []), *entry.get("set", [])]
    if not all(isinstance(text, str) for text in assignments):
        raise ConfigError(f"{where}: set holds {assignments!r}; expected texts such as 'epochs=200'")
    pretrained = (path.parent / entry["pretrained"]).resolve() if "pretrained" in entry else None
    return QueuedRun(name, None if config is None else path.parent / config, tuple(assignments), pretrained)


def _folds(value: Any, path: Path) -> tuple[int, ...] | Literal["all"]:
    if value == "all":
        return "all"
    if not isinstance(value, list) or not value or not all(type(fold) is int and fold >= 0 for fold in value):
        raise ConfigError(f'{path}: folds is {value!r}; expected numbers such as [0, 1], or "all"')
    return tuple(dict.fromkeys(value))


def _check(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown entry {key!r}; known: {', '.join(known)}")
        if not isinstance(value, known[key]):
            raise ConfigError(f"{where}: {key} is {value!r}, which is of the wrong kind")
