"""Finished runs as the folds of one model: what each holds, and whether they belong together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.importing.reading import sha256_of

from .checkpoint import load_weights
from .network import build_network, network_options, planned_patch_size
from .prepare import PreparedDataset, open_work
from .run_folder import BEST, CONFIG, PRETRAINED, RunRecord, read_pretrained, read_run
from .run_parts import split_of
from .split import Split


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """A run with the weights of its best validation.

    Attributes:
        split: which cases it trained on, and which it was validated on.
        facts: epoch, step and Dice of the best validation.
        sha256: of the checkpoint's file.
        pretrained: the published file it started from, if any; as pretrained.json.
    """

    run: Path
    record: RunRecord
    dataset: PreparedDataset
    split: Split
    weights: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    sha256: str
    pretrained: Mapping[str, Any] | None

    @cached_property
    def network(self) -> nn.Module:
        """As the training built it, with these weights, in evaluation mode.

        Raises:
            ConfigError: weights of another network than the run's settings name.
        """
        network = build_network(self.dataset, self.record.config)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as problem:
            raise ConfigError(
                f"{self.run / BEST} is of another network than {self.run / CONFIG}: {problem}"
            ) from problem
        return network.eval()

    def state_dict(self) -> dict[str, Tensor]:
        """The weights, each piece of memory under all its names; read from a file, they would be copies."""
        return self.network.state_dict()


def read_folds(runs: Sequence[Path]) -> tuple[TrainedFold, ...]:
    """The runs, each a fold, in the order given.

    Args:
        runs: run folders; a folder of runs named fold_0, fold_1 and so on stands for all of them.
    Raises:
        ConfigError: no run, one without validated weights, a damaged checkpoint, or runs that make no one model.
    """
    folders = [folder for run in runs for folder in _runs_in(run)]
    repeated = [folder for folder in folders if [one.resolve() for one in folders].count(folder.resolve()) > 1]
    if repeated:
        raise ConfigError(f"{repeated[0]} is given twice; each run is one fold of the model")
    folds = tuple(_read_fold(folder) for folder in folders)
    for fold in folds[1:]:
        _check_same_model(folds[0], fold)
    _check_splits(folds)
    return folds


def _runs_in(folder: Path) -> list[Path]:
    if (folder / CONFIG).is_file():
        return [folder]
    numbered = {int(match[1]): one for one in folder.glob("fold_*") if (match := re.fullmatch(r"fold_(\d+)", one.name))}
    found = [numbered[number] for number in sorted(numbered) if (numbered[number] / CONFIG).is_file()]
    return found or [folder]  # of which reading says what it lacks


def _read_fold(run: Path) -> TrainedFold:
    record = read_run(run)
    dataset = open_work(record.work)
    if not (run / BEST).is_file():
        raise ConfigError(f"{run} has no validated weights yet; let it train until its first validation")
    weights, facts = load_weights(run / BEST)
    pretrained = read_pretrained(run) if (run / PRETRAINED).is_file() else None
    split = split_of(dataset, record.config.fold)
    return TrainedFold(run, record, dataset, split, weights, facts, sha256_of(run / BEST), pretrained)


def _check_same_model(first: TrainedFold, other: TrainedFold) -> None:
    """Raises ConfigError, naming the first thing in which two runs differ that one file can say only once."""
    for what, one, another in zip(_COMPARED, _compared(first), _compared(other), strict=True):
        if one != another:
            raise ConfigError(
                f"{other.run} is no fold of the same model as {first.run}: {what} differ ({another} against {one}); "
                "export them apart"
            )


_COMPARED = (
    "the networks",
    "the options of the network",
    "the patches",
    "the channels",
    "the labels",
    "the ignore labels",
    "the regions",
    "the steps of preprocessing",
    "the mirror axes",
    "the steps of tiles",
)


def _compared(fold: TrainedFold) -> tuple[Any, ...]:
    config, dataset = fold.record.config, fold.dataset
    return (
        config.network.name,
        network_options(dataset, config),
        planned_patch_size(dataset, config),
        dataset.channels,
        dataset.labels,
        dataset.ignore_label,
        dataset.regions,
        dataset.preprocessing.to_json(),
        mirror_axes_of(fold),
        config.validation.tile_step,
    )


def mirror_axes_of(fold: TrainedFold) -> tuple[int, ...]:
    """Axes along which the training mirrored, and a prediction may."""
    augment = fold.record.config.augment
    return augment.mirror_axes if augment.enabled else ()


def _check_splits(folds: Sequence[TrainedFold]) -> None:
    """Folds share the cases and validate on different ones, so that each case has a network that never saw it.

    Raises:
        ConfigError: two runs on the same validation cases, on overlapping ones, or on other cases.
    """
    for index, other in enumerate(folds):
        for first in folds[:index]:
            mine, theirs = set(first.split.validation), set(other.split.validation)
            if mine == theirs:
                raise ConfigError(
                    f"{first.run} and {other.run} were validated on the same cases: they are rivals for one fold, not "
                    "folds of one model; export the better one (`mambatrain compare` tells which)"
                )
            if mine & theirs:
                raise ConfigError(
                    f"{first.run} and {other.run} share {len(mine & theirs)} of their validation cases: they are of "
                    "different splits; export runs of one split together"
                )
            if mine | set(first.split.train) != theirs | set(other.split.train):
                raise ConfigError(
                    f"{first.run} and {other.run} know different cases, so they are folds of different data sets; "
                    "export them apart"
                )
