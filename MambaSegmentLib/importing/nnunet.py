"""A training of nnU-Net or of one of its forks: the plan, the data set's description, and a checkpoint of each fold."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..progress import CancelToken, Progress, ProgressCallback
from .dataset_json import DatasetFacts, read_dataset
from .json_file import entry, read_json_object
from .model import ORIENTATION_NOTE, ForeignModel, plain_name
from .networks import architecture_of, options_of, own_network
from .plans import Plan, resolve
from .preparation import preparation_of
from .reading import Checkpoint, read_checkpoint, sha256_of
from .results_folder import ResultsFolder, find_checkpoints, folds_without


def read_results(
    results: ResultsFolder,
    *,
    which: str = "final",
    folds: Sequence[str] = (),
    configuration: str | None = None,
    architecture: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ForeignModel:
    """A results folder, each fold a set of weights.

    Args:
        configuration: must be that of the checkpoints, if given.
        architecture: instead of what the trainer's name says.
    Raises:
        BundleError: files that are missing, foreign, damaged, or that do not belong together.
    """
    found = find_checkpoints(results, which, folds)
    plans = read_json_object(results.path / "plans.json")
    dataset = read_json_object(results.path / "dataset.json")
    configurations = (configuration, results.named_configuration)
    _look_ahead(plans, dataset, configuration or results.named_configuration)
    checkpoints: dict[str, Checkpoint] = {}
    for number, (fold, path) in enumerate(found):
        if progress is not None:
            progress(Progress("read", number, len(found)))
        checkpoints[fold] = read_checkpoint(path, cancel=cancel)
    model = model_of(plans, dataset, checkpoints, configurations=configurations, architecture=architecture)
    files = [
        {"name": path.relative_to(results.path).as_posix(), "sha256": checkpoints[fold].sha256} for fold, path in found
    ]
    files += [{"name": name, "sha256": sha256_of(results.path / name)} for name in ("plans.json", "dataset.json")]
    scores = {fold: _validation(results.validation(fold)) for fold, _ in found}
    notes = [f"fold {fold} has no checkpoint_{which}.pth and is left out" for fold in folds_without(results, found)]
    return _with_facts(model, files, scores, [] if folds else notes)


def read_single_checkpoint(checkpoint: Checkpoint, *, architecture: str | None = None) -> ForeignModel | None:
    """A checkpoint of nnU-Net alone, which holds its plan and data set; None where it does not."""
    arguments = checkpoint.facts.get("init_args")
    if not isinstance(arguments, Mapping):
        return None
    plans, dataset = arguments.get("plans"), arguments.get("dataset_json")
    if not isinstance(plans, Mapping) or not isinstance(dataset, Mapping) or not plans or not dataset:
        return None
    fold = str(arguments.get("fold", "0"))
    model = model_of(plans, dataset, {fold: checkpoint}, architecture=architecture)
    return _with_facts(model, [{"name": checkpoint.path.name, "sha256": checkpoint.sha256}], {}, [])


def model_of(
    plans: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    checkpoints: Mapping[str, Checkpoint],
    *,
    configurations: tuple[str | None, str | None] = (None, None),
    architecture: str | None = None,
) -> ForeignModel:
    """Everything but where it came from.

    Args:
        configurations: the one asked for, and the one to take where neither that nor the checkpoint says any.
    Raises:
        BundleError: checkpoints of different trainings, or facts that make no model.
    """
    first = next(iter(checkpoints.values()))
    trainer = first.facts.get("trainer_name")
    asked, fallback = configurations
    name = _configuration_of(first) or asked or fallback
    if name is None:
        raise BundleError(f"{first.path} does not say its configuration; give it with --configuration")
    if asked not in (None, name):
        raise BundleError(f"{first.path} is of the configuration {name!r}, not of {asked!r}")
    for checkpoint in checkpoints.values():
        if (checkpoint.facts.get("trainer_name"), _configuration_of(checkpoint) or name) != (trainer, name):
            raise BundleError(f"{checkpoint.path} is of another training than {first.path}; import them apart")
    plan, dataset = resolve(plans, name), read_dataset(dataset_json)
    _refuse_cascade(plan)
    ours = own_network(plan)
    chosen = architecture or (ours.name if ours else architecture_of(trainer, first.weights))
    if ours is not None and chosen != ours.name:
        raise BundleError(f"{plan.where} names the network {ours.name!r}, which is none of {chosen!r}")
    options: Mapping[str, Any]
    if ours is not None:
        options = {**ours.options, "in_channels": len(dataset.channels), "num_classes": dataset.outputs}
    else:
        options = options_of(
            chosen,
            in_channels=len(dataset.channels),
            num_classes=dataset.outputs,
            patch_size=plan.patch_size,
            weights=first.weights,
            plan=plan,
        )
    dataset_name = str(plans.get("dataset_name", ""))
    return ForeignModel(
        name=plain_name(dataset_name, chosen, name),
        architecture=chosen,
        options=options,
        dataset=dataset,
        preprocessing=preparation_of(plan, len(dataset.channels)),
        patch_size=plan.patch_size,
        folds={fold: checkpoint.weights for fold, checkpoint in checkpoints.items()},
        authors_names=ours is None,
        mirror_axes=_mirror_axes(first, len(plan.patch_size)),
        description=f"{dataset_name or 'A model'} ({name}), trained by {trainer or 'an unknown trainer'}, imported.",
        training={
            "dataset": dataset_name,
            "imported": {
                "trainer": trainer,
                "plans": plans.get("plans_name"),
                "configuration": name,
                "image_reader": plans.get("image_reader_writer"),
                "folds": {fold: _progress_of(checkpoint) for fold, checkpoint in checkpoints.items()},
            },
        },
        notes=tuple(_notes(plan, first, dataset)),
    )


def _look_ahead(plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str | None) -> None:
    """Find what is wrong with the small files before the large ones are read."""
    dataset = read_dataset(dataset_json)
    if configuration in entry(plans, "configurations", Mapping, "plans.json"):
        plan = resolve(plans, str(configuration))
        _refuse_cascade(plan)
        preparation_of(plan, len(dataset.channels))


def _refuse_cascade(plan: Plan) -> None:
    if plan.content.get("previous_stage"):
        raise BundleError(
            f"{plan.where} is the second stage of a cascade: it takes the labels of {plan.content['previous_stage']!r} "
            "as further channels, which this version cannot give; import that stage, or a configuration of its own"
        )


def _configuration_of(checkpoint: Checkpoint) -> str | None:
    arguments = checkpoint.facts.get("init_args")
    name = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    return name if isinstance(name, str) else None


def _mirror_axes(checkpoint: Checkpoint, dims: int) -> tuple[int, ...]:
    axes = checkpoint.facts.get("inference_allowed_mirroring_axes") or []
    if not isinstance(axes, list) or not all(type(axis) is int and 0 <= axis < dims for axis in axes):
        raise BundleError(f"{checkpoint.path}: mirroring axes are {axes!r:.100}; expected numbers below {dims}")
    return tuple(axes)


def _progress_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Epochs and nnU-Net's running Dice of patches (pseudo Dice), as far as the file says."""
    facts = checkpoint.facts
    found = {
        "epochs": facts.get("current_epoch"),
        "best_ema_pseudo_dice": facts.get("_best_ema"),
        "last_pseudo_dice": facts.get("last_mean_fg_dice"),
    }
    return {key: value for key, value in found.items() if isinstance(value, int | float)}


def _validation(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Mean Dice over the fold's validation cases."""
    overall = summary.get("foreground_mean")
    dice = overall.get("Dice") if isinstance(overall, Mapping) else None
    return {"validation_dice": dice} if isinstance(dice, int | float) and dice == dice else {}


def _notes(plan: Plan, checkpoint: Checkpoint, dataset: DatasetFacts) -> list[str]:
    notes = [ORIENTATION_NOTE]
    reader = str(plan.plans.get("image_reader_writer", ""))
    if reader.endswith("WithReorient"):
        notes = [f"images are turned to RAS, as {reader} does"]
    if "2DIO" in reader or "Tiff" in reader:
        notes.append(f"it was trained on files read by {reader}: give each colour or channel as an image of its own")
    if "inference_allowed_mirroring_axes" not in checkpoint.facts:
        notes.append("the checkpoint names no mirroring axes, so that best and fast quality are the same")
    if len(dataset.regions) > 1:
        notes.append("its outputs are regions that overlap; each label is what later regions left of an earlier one")
    return notes


def _with_facts(
    model: ForeignModel,
    files: list[dict[str, str]],
    scores: Mapping[str, Mapping[str, Any]],
    notes: list[str],
) -> ForeignModel:
    imported = dict(model.training["imported"])
    imported["folds"] = {fold: {**facts, **scores.get(fold, {})} for fold, facts in imported["folds"].items()}
    training = {**model.training, "imported": {**imported, "files": files}}
    return replace(model, training=training, notes=(*model.notes, *notes))


def plan_file(path: Path, configuration: str | None) -> Plan:
    """A plans.json that was given by itself, with the one configuration that is meant."""
    plans = read_json_object(path)
    if configuration is None:
        known = ", ".join(map(str, plans.get("configurations") or ())) or "none"
        raise BundleError(f"{path} has the configurations {known}; name one with --configuration")
    return resolve(plans, configuration)
