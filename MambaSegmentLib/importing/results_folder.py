"""Find trained models among nnU-Net's folders: DATASET/TRAINER__PLANS__CONFIGURATION/fold_N/checkpoint_*.pth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError, ConfigError
from .json_file import read_json_object

_LEVELS = 3  # results / dataset / trainer
_MOST_FOLDERS = 10_000
Choose = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class ResultsFolder:
    """A folder with plans.json, dataset.json and folds."""

    path: Path
    only_fold: str | None = None

    @property
    def named_configuration(self) -> str | None:
        """The third part of the name, where it has three."""
        parts = self.path.name.split("__")
        return parts[2] if len(parts) == 3 else None

    def validation(self, fold: str) -> dict[str, object]:
        """What nnU-Net measured on the fold's validation cases; empty where it did not."""
        path = self.path / f"fold_{fold}" / "validation" / "summary.json"
        return read_json_object(path) if path.is_file() else {}


def find_results(path: Path, configuration: str | None, choose: Choose | None = None) -> ResultsFolder | None:
    """The results folder at `path`, or the one below it.

    Args:
        configuration: takes those alone whose name ends with it.
        choose: asks which of several is meant; None refuses.
    Returns:
        None where there is no such folder.
    Raises:
        ConfigError: several, and nobody to ask.
    """
    path = path.resolve()
    if path.name.startswith("fold_") and _is_results(path.parent):
        return ResultsFolder(path.parent, path.name.removeprefix("fold_"))
    if _is_results(path):
        return ResultsFolder(path)
    found = [ResultsFolder(folder) for folder in _below(path)]
    wanted = [one for one in found if configuration in (None, one.named_configuration)]
    if found and not wanted:
        raise ConfigError(f"{path} has no model of the configuration {configuration!r}, but {_names(path, found)}")
    if len(wanted) > 1:
        if choose is None:
            raise ConfigError(f"{path} holds several models; give the folder of one: {_names(path, wanted)}")
        return wanted[choose([str(one.path.relative_to(path)) for one in wanted])]
    return wanted[0] if wanted else None


def find_checkpoints(results: ResultsFolder, which: str, folds: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """The checkpoint of each fold, in order.

    Args:
        which: final, best, latest or whatever stands between "checkpoint_" and ".pth".
        folds: of these names alone; all that have one where empty.
    Raises:
        BundleError: a fold without that checkpoint; the message says which there are.
    """
    if not folds and results.only_fold is not None:
        folds = [results.only_fold]
    names = list(folds) or sorted(one.name.removeprefix("fold_") for one in results.path.glob("fold_*") if one.is_dir())
    found = [(fold, results.path / f"fold_{fold}" / f"checkpoint_{which}.pth") for fold in names]
    there = [(fold, path) for fold, path in found if path.is_file()]
    missing = [fold for fold, path in found if not path.is_file()]
    if not there or (folds and missing):
        kinds = sorted({path.name for path in results.path.glob("fold_*/checkpoint_*.pth")})
        raise BundleError(
            f"{results.path} has no checkpoint_{which}.pth in fold {', '.join(missing) or '?'}; "
            f"there is {', '.join(kinds) or 'no checkpoint at all'}. Choose with --checkpoint and --folds"
        )
    return there


def folds_without(results: ResultsFolder, found: Sequence[tuple[str, Path]]) -> list[str]:
    """Folds that have a folder but not the checkpoint asked for: a training that was not finished."""
    have = {fold for fold, _ in found}
    every = (one.name.removeprefix("fold_") for one in results.path.glob("fold_*") if one.is_dir())
    return [] if results.only_fold is not None else sorted(fold for fold in every if fold not in have)


def _is_results(path: Path) -> bool:
    return (path / "plans.json").is_file() and (path / "dataset.json").is_file() and any(path.glob("fold_*/"))


def _below(path: Path) -> list[Path]:
    found: list[Path] = []
    level = [path]
    seen = 0
    for _ in range(_LEVELS):
        level = [entry for folder in level for entry in sorted(folder.iterdir()) if entry.is_dir()]
        seen += len(level)
        if seen > _MOST_FOLDERS:
            raise ConfigError(f"{path} holds more than {_MOST_FOLDERS} folders; give the folder of one trained model")
        found += [folder for folder in level if _is_results(folder)]
        level = [folder for folder in level if not _is_results(folder)]
    return found


def _names(path: Path, found: Sequence[ResultsFolder]) -> str:
    return ", ".join(str(one.path.relative_to(path)) for one in found)
