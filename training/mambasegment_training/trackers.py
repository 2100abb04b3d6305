"""MLflow and Weights & Biases, through their own libraries; neither is needed unless the configuration asks for it."""

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from MambaSegmentLib.errors import ConfigError

from .config import TrainingConfig


class Tracker(Protocol):
    """Somebody who keeps the numbers of many runs."""

    def log(self, scalars: Mapping[str, float], epoch: int) -> None: ...

    def close(self, *, failed: bool) -> None: ...


def trackers_of(config: TrainingConfig, run: Path) -> list[Tracker]:
    """Those that the configuration asks for.

    Raises:
        ConfigError: a library that is not installed.
    """
    kinds = [kind for kind, wanted in ((_Mlflow, config.watch.mlflow), (_Wandb, config.watch.wandb)) if wanted]
    return [kind(config, run) for kind in kinds]


def check_trackers(config: TrainingConfig) -> None:
    """Raises: ConfigError, when a library that the configuration asks for is not installed."""
    for wanted, name in ((config.watch.mlflow, "mlflow"), (config.watch.wandb, "wandb")):
        if wanted:
            _library(name)


class _Mlflow:
    """An experiment of MLflow; where its server is, MLFLOW_TRACKING_URI says."""

    def __init__(self, config: TrainingConfig, run: Path) -> None:
        self._mlflow = _library("mlflow")
        self._mlflow.set_experiment(config.watch.project)
        note = run / "mlflow.txt"  # a run that goes on keeps its page
        known = note.read_text(encoding="utf-8").strip() if note.is_file() else None
        started = self._mlflow.start_run(run_id=known, run_name=run.name)
        note.write_text(started.info.run_id + "\n", encoding="utf-8")
        self._mlflow.log_params({name: str(value)[:500] for name, value in _flat(config.to_json()).items()})

    def log(self, scalars: Mapping[str, float], epoch: int) -> None:
        self._mlflow.log_metrics({name.replace("/", "."): value for name, value in scalars.items()}, step=epoch)

    def close(self, *, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class _Wandb:
    """A project of Weights & Biases; a run that goes on keeps its page, whose id follows from its folder."""

    def __init__(self, config: TrainingConfig, run: Path) -> None:
        wandb = _library("wandb")
        self._run = wandb.init(
            project=config.watch.project,
            name=run.name,
            id=hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16],
            dir=str(run),
            config=config.to_json(),
            resume="allow",
        )

    def log(self, scalars: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(scalars), step=epoch)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise ConfigError(f"watch.{name}=true needs the package {name}: `pip install {name}` ({problem})") from problem


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
