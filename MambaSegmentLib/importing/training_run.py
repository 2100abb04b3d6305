"""A run folder of `mambatrain fit`, read by what its files say; the training package is not needed.

`mambatrain export` measures the model on its validation cases and writes its card as well: it is the better way where
the prepared data is at hand. This one serves where the run and dataset.json of its work folder are all there is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import BundleError, ConfigError
from ..manifest import Channel, Region
from ..models import build_model
from ..models.planned_patch import enlarged_patch, planned_options, planned_patch, with_input_size
from ..preprocessing_spec import PreprocessingSpec
from ..segments import SegmentInfo
from .dataset_json import DatasetFacts, segments_of
from .json_file import entry, read_json_object
from .model import ForeignModel, plain_name
from .reading import read_checkpoint

_BEST, _CONFIG, _DATASET = "best.safetensors", "config.json", "dataset.json"
_WEIGHTS = "weights/"
_KEY = "mambatrain"


def is_run(path: Path) -> bool:
    return (path / _CONFIG).is_file() and any((path / name).is_file() for name in (_BEST, "last.safetensors"))


def read_run(path: Path, plans: Path | None = None) -> ForeignModel:
    """The weights of the best validation.

    Args:
        plans: dataset.json of the work folder, where the folder itself is not where the run says.
    Raises:
        BundleError: no validated weights yet, a missing work folder, files of another version.
    """
    record = read_json_object(path / _CONFIG)
    where = str(path / _CONFIG)
    config = entry(record, "config", Mapping, where)
    if not (path / _BEST).is_file():
        raise BundleError(f"{path} has no {_BEST} yet; let it train until its first validation")
    described = plans or Path(entry(record, "work", str, where)) / _DATASET
    if not described.is_file():
        raise BundleError(
            f"{path} was trained on the work folder {described.parent}, which is not there; copy its {_DATASET} here "
            f"and name it with --plans, or run `mambatrain export {path}` where the folder is"
        )
    work = read_json_object(described)
    checkpoint = read_checkpoint(path / _BEST)
    weights = {
        name.removeprefix(_WEIGHTS): tensor for name, tensor in checkpoint.weights.items() if name.startswith(_WEIGHTS)
    }
    metadata = checkpoint.facts.get("metadata")
    if not weights or not isinstance(metadata, Mapping) or _KEY not in metadata:
        raise BundleError(f"{path / _BEST} is no checkpoint of mambatrain")
    files = [{"name": _BEST, "sha256": checkpoint.sha256}]
    try:
        return _model(path, config, work, weights, files)
    except (KeyError, TypeError, AttributeError, IndexError, ConfigError) as problem:
        raise BundleError(f"{path} or {described} is damaged or of another version ({problem!r})") from problem


def _model(
    path: Path, config: Mapping[str, Any], work: Mapping[str, Any], weights: Mapping[str, Any], files: Any
) -> ForeignModel:
    network, card = config["network"], config.get("card") or {}
    segments = _segments(work["labels"], card)
    channels = tuple(
        Channel(**entry) for entry in card.get("channels") or [{"name": name} for name in work["channels"]]
    )
    augment = config.get("augment") or {}
    regions = tuple(Region.from_json(region) for region in work.get("regions") or ())
    dataset = DatasetFacts(channels, segments, regions, work.get("ignore_label"))
    given = {"in_channels": len(channels), "num_classes": dataset.outputs, **(network.get("options") or {})}
    options, patch_size = _for_its_patch(network["name"], given, config, work)
    return ForeignModel(
        name=plain_name(str(card.get("name") or path.name)),
        architecture=network["name"],
        options=options,
        dataset=dataset,
        preprocessing=PreprocessingSpec.from_json(work["preprocessing"]),
        patch_size=patch_size,
        folds={"0": weights},
        authors_names=False,
        mirror_axes=tuple(augment.get("mirror_axes") or ()) if augment.get("enabled", True) else (),
        step=(config.get("validation") or {}).get("tile_step", 0.5),
        training={"dataset": str(work.get("name", "")), "epochs": config.get("epochs"), "imported": {"files": files}},
        notes=("its Dice was not measured; `mambatrain export` does that",),
        description=_text(card.get("description", "")),
        license=_text(card.get("license", "")),
    )


def _for_its_patch(
    name: str, options: Mapping[str, Any], config: Mapping[str, Any], work: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """All options of the network, and the patch that it was trained on: chosen, or planned and enlarged."""
    plan, chosen = work["plan"], (config.get("data") or {}).get("patch_size")
    planned = planned_patch(name, options, plan)
    complete = with_input_size(name, planned_options(name, options, plan), planned, chosen)
    with torch.device("meta"):
        network = build_model(name, complete)
    return complete, tuple(chosen or enlarged_patch(network, planned))


def _segments(labels: Sequence[Mapping[str, Any]], card: Mapping[str, Any]) -> tuple[SegmentInfo, ...]:
    """The data set's labels, with the names, colours and codes of the card where it has them."""
    plain = segments_of({label["value"]: label["name"] for label in labels})
    told = {entry["value"]: entry for entry in card.get("labels") or []}
    return tuple(SegmentInfo.from_json({**segment.to_json(), **told.get(segment.value, {})}) for segment in plain)


def _text(value: str | Sequence[str]) -> str:
    return "\n".join(line.strip() for line in ([value] if isinstance(value, str) else value))
