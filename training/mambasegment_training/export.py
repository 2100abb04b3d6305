"""From runs to a model file: the best weights of each fold, the card, and what the training was."""

import datetime
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from MambaSegmentLib.bundle import Manifest, read_bundle, write_bundle
from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.quality import QUALITIES, mirrorings_for, step_for

from . import parity
from .calibration import Answers, calibration_of, gather_answers, together
from .card import Card, card_from_table, channels_of, read_card, segments_of
from .cost import measure_cost
from .data import CaseStore
from .network import network_options, planned_patch_size
from .parity import Parity
from .run_folder import software_versions
from .trained_fold import TrainedFold, mirror_axes_of, read_folds
from .validate import lowest_per_label, mean_per_label, overall, validate

# not the file's name: it is a path of somebody's computer, and the checksum says which file it was
_TOLD_OF_PRETRAINED = ("sha256", "model", "encoder_only", "freeze_epochs", "parameters_loaded", "parameters_total")
_ONE_RUN = "the validation cases, which also chose the best weights"
_FOLDS = (
    "each fold's own validation cases, which also chose its best weights; what averaging the folds adds is not in it"
)

_SEEN = 'cases that it also trained on (fold "all"), so this tells nothing about others'

Scores = Mapping[str, Mapping[int, float | None]]


@dataclass(frozen=True, eq=False)
class Draft:
    """A model that was measured and is ready to be written, in whatever layout.

    Attributes:
        manifest: with all that was measured.
        folds: the runs it is made of.
    """

    manifest: Manifest
    folds: tuple[TrainedFold, ...]


def export(
    runs: Path | Sequence[Path],
    output: Path,
    *,
    half: bool = False,
    card_file: Path | None = None,
    date: str | None = None,
    device: str = "auto",
    with_cost: bool = True,
) -> Manifest:
    """Write the weights of the best validation of one run, or of several that are folds of one model.

    The model is written to a temporary file first and read back: what it computes is compared with the checkpoints, and
    its Dice on the validation cases of each run measured, so the card tells what this very file does, 16-bit weights
    included.

    Args:
        output: ends in .safetensors; its name is the model's unless the card has one.
        half: store the weights in 16 bits.
        card_file: TOML whose `[card]` table replaces the one the first run was started with.
        date: of the training, YYYY-MM-DD; None takes the day the last run noted.
        device: for measuring.
        with_cost: measure seconds and memory as well, in a process of its own.
    Returns:
        The description as written, with its checksum.
    Raises:
        ConfigError: no run, no validated weights yet, runs that do not belong together, a card that does not fit the
            data, or no date.
        BundleError: the file cannot be written, or would not compute what the checkpoints do.
    """
    check_target(output)
    draft = make_draft(runs, output.stem, half, card_file, date, device, with_cost)
    return write_bundle(output, draft.manifest, [fold.state_dict() for fold in draft.folds], half=half)


def make_draft(
    runs: Path | Sequence[Path],
    default_name: str,
    half: bool = False,
    card_file: Path | None = None,
    date: str | None = None,
    device: str = "auto",
    with_cost: bool = True,
) -> Draft:
    """All of `export` but the writing."""
    if date is not None:
        _check_date(date)
    folds = read_folds([runs] if isinstance(runs, Path) else list(runs))
    card = card_from_table(folds[0].record.config.card) if card_file is None else read_card(card_file)
    date = _check_date(date or _latest_date(folds))
    manifest = _describe(card, folds[0], default_name)
    chosen = choose_device(device)
    with _written(manifest, folds, half=half) as path:
        networks = [network.to(chosen) for network in read_bundle(path).build_networks()]
        parities = _parities(manifest, folds, networks, chosen)
        parity.check(parities, half=half)
        scores = [_scores(manifest, fold, network, chosen) for fold, network in zip(folds, networks, strict=True)]
        calibration = calibration_of(_answers(manifest, folds, networks, chosen))
        measured = measure_cost(path, device, _sizes(manifest, folds)) if with_cost else {}
    dice = {quality: _summary(manifest, _pooled(scores, quality)) for quality in QUALITIES}
    training = _training_facts(card, folds, dice[QUALITIES[0]], date)
    training["metrics"] |= _metrics_of_folds(manifest, scores, parities)
    modes = _quality_modes(dice)
    described = replace(manifest, quality_modes=modes, calibration=calibration, measured=measured, training=training)
    return Draft(described, folds)


def _describe(card: Card, fold: TrainedFold, default_name: str) -> Manifest:
    """All but the facts of the training."""
    config, dataset = fold.record.config, fold.dataset
    return Manifest(
        name=card.name or default_name,
        version=card.version,
        description=card.description,
        architecture_name=config.network.name,
        architecture_options=network_options(dataset, config),
        channels=channels_of(card, dataset.channels),
        segments=segments_of(card, dataset.labels),
        preprocessing=dataset.preprocessing,
        patch_size=planned_patch_size(dataset, config),
        step=config.validation.tile_step,
        mirror_axes=mirror_axes_of(fold),
        regions=dataset.regions,
        ignore_label=dataset.ignore_label,
        license=card.license,
        citation=card.citation,
        intended_use=card.intended_use,
        limitations=card.limitations,
    )


@contextmanager
def _written(manifest: Manifest, folds: Sequence[TrainedFold], *, half: bool) -> Iterator[Path]:
    """The model as a file that goes away again."""
    with tempfile.TemporaryDirectory(prefix="mambatrain-") as folder:
        path = Path(folder) / "model.safetensors"
        write_bundle(path, manifest, [fold.state_dict() for fold in folds], half=half)
        yield path


def _parities(
    manifest: Manifest, folds: Sequence[TrainedFold], networks: Sequence[nn.Module], device: torch.device
) -> dict[str, Parity]:
    """Of each fold on its smallest validation case."""
    parities = {}
    for number, (fold, network) in enumerate(zip(folds, networks, strict=True)):
        store = _validation_store(fold)
        smallest = min(store.identifiers, key=lambda name: store[name].labels.size)
        parities[f"fold {number}"] = parity.compare(
            network,
            fold.network,
            store[smallest].image,
            outputs=len(manifest.class_values),
            patch_size=manifest.patch_size,
            step=manifest.step,
            device=device,
            overlapping=bool(manifest.regions),
        )
    return parities


def _scores(manifest: Manifest, fold: TrainedFold, network: nn.Module, device: torch.device) -> dict[str, Scores]:
    """Dice of a fold on its validation cases, by quality."""
    return {
        quality: validate(
            network,
            _validation_store(fold),
            list(fold.dataset.labels),
            manifest.patch_size,
            device,
            ignore_label=fold.dataset.ignore_label,
            regions=fold.dataset.regions,
            tile_step=step_for(quality, manifest.step),
            mirrorings=mirrorings_for(quality, manifest.mirror_axes),
        )
        for quality in QUALITIES
    }


def _answers(
    manifest: Manifest, folds: Sequence[TrainedFold], networks: Sequence[nn.Module], device: torch.device
) -> Answers:
    """What each fold says of its own validation cases, as it says it at the best quality."""
    return together(
        [
            gather_answers(
                [network],
                _validation_store(fold),
                list(fold.dataset.labels),
                manifest.patch_size,
                device,
                regions=[region.labels for region in manifest.regions],
                ignore_label=manifest.ignore_label,
                tile_step=manifest.step,
                mirrorings=mirrorings_for(QUALITIES[0], manifest.mirror_axes),
            )
            for fold, network in zip(folds, networks, strict=True)
        ]
    )


def _validation_store(fold: TrainedFold) -> CaseStore:
    limit_bytes = fold.record.config.data.memory_limit_gib * 2**30
    return CaseStore(fold.dataset.folder / "cases", fold.split.validation, limit_bytes)


def _sizes(manifest: Manifest, folds: Sequence[TrainedFold]) -> list[tuple[int, ...]]:
    """What the cost is measured on: one patch, and the validation case of median size."""
    patch = manifest.patch_size if len(manifest.patch_size) == 3 else (1, *manifest.patch_size)
    store = _validation_store(folds[0])
    shapes = sorted(
        (store[name].labels.shape for name in store.identifiers),
        key=lambda shape: (shape[0] * shape[1] * shape[2], shape),
    )
    median = shapes[len(shapes) // 2]
    return [patch, tuple(max(sizes) for sizes in zip(patch, median, strict=True))]


def _pooled(scores: Sequence[Mapping[str, Scores]], quality: str) -> Scores:
    """Of all folds together; each case has one, since folds validate on different cases."""
    return {case: labels for fold in scores for case, labels in fold[quality].items()}


def _summary(manifest: Manifest, scores: Scores) -> dict[str, Any]:
    means, lowest = mean_per_label(scores), lowest_per_label(scores)
    named = manifest.regions or manifest.segments
    names = {one.value: one.name for one in named}
    return {
        "mean": overall(means),
        "labels": [{"name": names[label], "mean": means[label], "lowest": lowest[label]} for label in means],
        "cases": len(scores),
    }


def _quality_modes(dice: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What each quality costs in mean Dice against the best."""
    best = dice[QUALITIES[0]]["mean"]
    return {quality: {"dice_difference": measured["mean"] - best} for quality, measured in dice.items()}


def _metrics_of_folds(
    manifest: Manifest, scores: Sequence[Mapping[str, Scores]], parities: Mapping[str, Parity]
) -> dict[str, Any]:
    """How far the file is from its checkpoints at most, and the mean Dice of each of several folds."""
    found = parities.values()
    worst = Parity(max(p.largest for p in found), max(p.rms for p in found), min(p.same_labels for p in found))
    by_fold = [_summary(manifest, fold[QUALITIES[0]])["mean"] for fold in scores]
    return {**({} if len(scores) == 1 else {"folds": by_fold}), "parity": worst.to_json()}


def _training_facts(card: Card, folds: Sequence[TrainedFold], dice: Mapping[str, Any], date: str) -> dict[str, Any]:
    """The `training` object: no case names and no paths, since either can name a patient or a person."""
    first = folds[0]
    config = first.record.config
    recipe = {key: value for key, value in config.to_json().items() if key not in ("card", "pretrained")}
    if first.pretrained is not None:
        recipe["pretrained"] = {key: first.pretrained[key] for key in _TOLD_OF_PRETRAINED if key in first.pretrained}
    best_epochs, best_steps = ([fold.facts[key] for fold in folds] for key in ("epoch", "step"))
    return {
        "dataset": card.dataset or first.dataset.name,
        "cases": _case_counts(folds),
        "loss": config.loss.name,
        "epochs": max(fold.record.config.epochs for fold in folds),
        "best_epoch": best_epochs[0] if len(folds) == 1 else best_epochs,
        "best_step": best_steps[0] if len(folds) == 1 else best_steps,
        "metrics": {"dice": dict(dice), "measured_on": _measured_on(folds)},
        "checkpoints": [fold.sha256 for fold in folds],
        "recipe": recipe,
        "software": dict(first.record.software) or software_versions(),
        "date": date,
    }


def _measured_on(folds: Sequence[TrainedFold]) -> str:
    if any(set(fold.split.train) & set(fold.split.validation) for fold in folds):
        return _SEEN
    return _ONE_RUN if len(folds) == 1 else _FOLDS


def _case_counts(folds: Sequence[TrainedFold]) -> dict[str, Any]:
    first = folds[0]
    if len(folds) == 1:
        return {
            "training": len(first.split.train),
            "validation": len(first.split.validation),
            "split_seed": first.dataset.split_seed,
        }
    return {
        "training": [len(fold.split.train) for fold in folds],
        "validation": [len(fold.split.validation) for fold in folds],
        "all": len({*first.split.train, *first.split.validation}),
        "split_seed": first.dataset.split_seed,
    }


def check_target(output: Path) -> None:
    """Refuse a target before minutes of measuring."""
    if output.suffix != ".safetensors":
        raise BundleError(f"a model is written to {output.name}, but its name must end in .safetensors")
    if not output.parent.is_dir():
        raise BundleError(f"cannot write {output}: the folder {output.parent} does not exist; create it first")


def _latest_date(folds: Sequence[TrainedFold]) -> str | None:
    """Of the runs; None where one did not note it."""
    dates = [fold.record.date for fold in folds]
    return None if None in dates else max(date for date in dates if date is not None)


def _check_date(text: str | None) -> str:
    if text is None:
        raise ConfigError("the run did not note its date; give it as --date YYYY-MM-DD")
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigError(f"the date is {text!r}; expected YYYY-MM-DD") from error
