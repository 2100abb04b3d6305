"""From a run to a model file: the best weights, the card, and what the training was."""

import datetime
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from MambaSegmentLib.bundle import Manifest, read_bundle, write_bundle
from MambaSegmentLib.devices import choose_device
from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.quality import QUALITIES, mirrorings_for, step_for

from .calibration import calibration_of, gather_answers
from .card import Card, card_from_table, channels_of, read_card, segments_of
from .checkpoint import load_weights
from .data import CaseStore
from .network import network_options, planned_patch_size
from .prepare import PreparedDataset, open_work
from .run_folder import BEST, RunRecord, read_pretrained, read_run, software_versions
from .validate import lowest_per_label, mean_per_label, overall, validate

# not the file's name: it is a path of somebody's computer, and the checksum says which file it was
_TOLD_OF_PRETRAINED = ("sha256", "encoder_only", "freeze_epochs", "parameters_loaded", "parameters_total")


def export(
    run: Path,
    output: Path,
    *,
    half: bool = False,
    card_file: Path | None = None,
    date: str | None = None,
    device: str = "auto",
) -> Manifest:
    """Write the weights of a run's best validation as a model file.

    The file is read back and its Dice on the run's validation cases measured, so the card tells what this very file
    does, 16-bit weights included.

    Args:
        output: ends in .safetensors; its name is the model's unless the card has one.
        half: store the weights in 16 bits.
        card_file: TOML whose `[card]` table replaces the one the run was started with.
        date: of the training, YYYY-MM-DD; None takes the day the run noted.
        device: for measuring.
    Returns:
        The description as written, with its checksum.
    Raises:
        ConfigError: no run, no validated weights yet, a card that does not fit the data, or no date.
        BundleError: the file cannot be written.
    """
    _check_target(output)
    record = read_run(run)
    dataset = open_work(record.work)
    card = card_from_table(record.config.card) if card_file is None else read_card(card_file)
    date = _check_date(date or record.date)
    if not (run / BEST).is_file():
        raise ConfigError(f"{run} has no validated weights yet; let it train until its first validation")
    weights, facts = load_weights(run / BEST)
    pretrained = None if record.config.pretrained.file is None else read_pretrained(run)
    manifest = _describe(card, record, dataset, output.stem)
    dice, calibration = _measure(manifest, weights, record, dataset, half=half, device=device)
    described = replace(
        manifest,
        calibration=calibration,
        quality_modes=_quality_modes(dice),
        training=_training_facts(card, record, dataset, facts, dice[QUALITIES[0]], date, pretrained),
    )
    return write_bundle(output, described, [weights], half=half)


def _describe(card: Card, record: RunRecord, dataset: PreparedDataset, default_name: str) -> Manifest:
    """All but the facts of the training."""
    config = record.config
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
        mirror_axes=config.augment.mirror_axes if config.augment.enabled else (),
        ignore_label=dataset.ignore_label,
        license=card.license,
        citation=card.citation,
        intended_use=card.intended_use,
        limitations=card.limitations,
    )


def _measure(
    manifest: Manifest,
    weights: Mapping[str, Tensor],
    record: RunRecord,
    dataset: PreparedDataset,
    *,
    half: bool,
    device: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Of the model as it is read from a file, on the run's validation cases: Dice at each quality, and calibration."""
    with tempfile.TemporaryDirectory(prefix="mambatrain-") as folder:
        path = Path(folder) / "model.safetensors"
        write_bundle(path, manifest, [weights], half=half)
        (network,) = read_bundle(path).build_networks()
    chosen = choose_device(device)
    network = network.to(chosen)
    limit_bytes = record.config.data.memory_limit_gib * 2**30
    store = CaseStore(dataset.folder / "cases", dataset.split.validation, limit_bytes)
    dice = {
        quality: _summary(
            manifest,
            validate(
                network,
                store,
                list(dataset.labels),
                manifest.patch_size,
                chosen,
                ignore_label=dataset.ignore_label,
                tile_step=step_for(quality, manifest.step),
                mirrorings=mirrorings_for(quality, manifest.mirror_axes),
            ),
        )
        for quality in QUALITIES
    }
    answers = gather_answers(
        [network],
        store,
        list(dataset.labels),
        manifest.patch_size,
        chosen,
        ignore_label=dataset.ignore_label,
        tile_step=manifest.step,
        mirrorings=mirrorings_for(QUALITIES[0], manifest.mirror_axes),
    )
    return dice, calibration_of(answers)


def _summary(manifest: Manifest, scores: Mapping[str, Mapping[int, float | None]]) -> dict[str, Any]:
    means, lowest = mean_per_label(scores), lowest_per_label(scores)
    names = {segment.value: segment.name for segment in manifest.segments}
    return {
        "mean": overall(means),
        "labels": [{"name": names[label], "mean": means[label], "lowest": lowest[label]} for label in means],
        "cases": len(scores),
    }


def _quality_modes(dice: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What each quality costs in mean Dice against the best."""
    best = dice[QUALITIES[0]]["mean"]
    return {quality: {"dice_difference": measured["mean"] - best} for quality, measured in dice.items()}


def _training_facts(
    card: Card,
    record: RunRecord,
    dataset: PreparedDataset,
    best: Mapping[str, Any],
    dice: Mapping[str, Any],
    date: str,
    pretrained: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The `training` object: no case names and no paths, since either can name a patient or a person."""
    config = record.config
    recipe = {key: value for key, value in config.to_json().items() if key not in ("card", "pretrained")}
    if pretrained is not None:
        recipe["pretrained"] = {key: pretrained[key] for key in _TOLD_OF_PRETRAINED}
    return {
        "dataset": card.dataset or dataset.name,
        "cases": {
            "training": len(dataset.split.train),
            "validation": len(dataset.split.validation),
            "split_seed": dataset.split_seed,
        },
        "loss": config.loss.name,
        "epochs": config.epochs,
        "best_epoch": best["epoch"],
        "best_step": best["step"],
        "metrics": {"dice": dict(dice), "measured_on": "the validation cases, which also chose the best weights"},
        "recipe": recipe,
        "software": dict(record.software) or software_versions(),
        "date": date,
    }


def _check_target(output: Path) -> None:
    """Refuse a target before minutes of measuring."""
    if output.suffix != ".safetensors":
        raise BundleError(f"a model is written to {output.name}, but its name must end in .safetensors")
    if not output.parent.is_dir():
        raise BundleError(f"cannot write {output}: the folder {output.parent} does not exist; create it first")


def _check_date(text: str | None) -> str:
    if text is None:
        raise ConfigError("the run did not note its date; give it as --date YYYY-MM-DD")
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigError(f"the date is {text!r}; expected YYYY-MM-DD") from error
