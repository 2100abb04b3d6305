"""One line of a comparison: a run or a model file, evaluated, with what it cost to train and costs to use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from MambaSegmentLib.models.counts import count

from ..cost import measure_cost
from ..evaluation.run import Evaluation
from ..evaluation.subject import Subject
from ..journal import read_records
from ..storage import read_json

CONTROL = "resenc_unet"
PLAIN_LOSS = "dice_ce"


@dataclass(frozen=True, eq=False)
class Entry:
    """Attributes:
    records: of metrics.jsonl, one an epoch; of the first fold where there are several; empty for a model file.
    cost: what `measure_cost` found on the median case; empty where it was not measured.
    """

    name: str
    evaluation: Evaluation
    parameters: int
    multiply_adds: int | None
    activation_memory_bytes: Mapping[str, int]
    cost: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]

    @property
    def subject(self) -> Subject:
        return self.evaluation.subject

    @property
    def network(self) -> str:
        return self.subject.manifest.architecture_name

    @property
    def loss(self) -> str:
        if self.subject.folds:
            return self.subject.folds[0].record.config.loss.name
        return str(self.subject.manifest.training.get("loss", ""))

    @property
    def is_control(self) -> bool:
        """The same kind of U-Net without Mamba, trained with the plain loss."""
        return self.network == CONTROL and self.loss == PLAIN_LOSS

    @property
    def settings(self) -> dict[str, Any]:
        """What the training was told, flat; empty for a model file that does not say."""
        if self.subject.folds:
            content = self.subject.folds[0].record.config.to_json()
        else:
            content = dict(self.subject.manifest.training.get("recipe", {}))
        content.pop("card", None)
        return flat(content)

    @property
    def epochs(self) -> int | None:
        if self.records:
            return int(self.records[-1]["epoch"])
        return self.subject.manifest.training.get("epochs")

    @property
    def best_epoch(self) -> Any:
        if self.subject.folds:
            found = [fold.facts.get("epoch") for fold in self.subject.folds]
            return found[0] if len(found) == 1 else found
        return self.subject.manifest.training.get("best_epoch")

    @property
    def training_s(self) -> float | None:
        return float(self.records[-1]["elapsed_s"]) if self.records else None


def make_entry(name: str, evaluation: Evaluation, *, device: str, with_cost: bool) -> Entry:
    """Count and measure.

    Raises:
        BundleError, ConfigError: a network that cannot be built.
    """
    subject = evaluation.subject
    manifest = subject.manifest
    network = subject.parts[0].bundle.build_networks()[0]
    shape = (1, len(manifest.channels), *manifest.patch_size)
    counted = count(network, shape)
    cost: Mapping[str, Any] = {}
    if with_cost:
        cost = _measured(subject, device)
    return Entry(
        name,
        evaluation,
        counted.parameters,
        counted.operations.multiply_adds,
        {"inference": counted.inference_memory_bytes, "training": counted.training_memory_bytes},
        cost,
        read_records(subject.folds[0].run / "metrics.jsonl") if subject.folds else (),
    )


def _measured(subject: Subject, device: str) -> Mapping[str, Any]:
    """Seconds and memory of one pass over the median case, in a process of its own."""
    path = subject.folds[0].run if subject.folds else subject.path
    found = measure_cost(path, device, [_median_size(subject)])
    return {} if not found else {"device": next(iter(found)), **next(iter(found.values()))[0]}


def _median_size(subject: Subject) -> tuple[int, ...]:
    """Of the prepared cases, and no smaller than the patch."""
    patch = subject.manifest.patch_size
    patch = patch if len(patch) == 3 else (1, *patch)
    facts = subject.data.folder / "dataset.json"
    content = read_json(facts, "run `mambatrain prepare` again") if facts.is_file() else {}
    entries = content.get("cases", []) if isinstance(content, dict) else []
    shapes = sorted(
        (entry["prepared_shape"] for entry in entries if "prepared_shape" in entry),
        key=lambda shape: (shape[0] * shape[1] * shape[2], shape),
    )
    if not shapes:
        return tuple(patch)
    median = shapes[len(shapes) // 2]
    return tuple(max(sizes) for sizes in zip(patch, median, strict=True))


def differing_settings(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Key -> the value of each entry, of all settings that are not the same everywhere."""
    settings = [entry.settings for entry in entries]
    keys = sorted(set().union(*settings)) if settings else []
    rows = {key: [one.get(key) for one in settings] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def common_settings(entries: Sequence[Entry], keys: Sequence[str]) -> dict[str, Any]:
    """Those of `keys` that all entries share."""
    settings = [entry.settings for entry in entries]
    return {key: settings[0][key] for key in keys if all(key in s and s[key] == settings[0].get(key) for s in settings)}


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result
