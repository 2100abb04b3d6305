"""What is evaluated: a run, the folds of a cross-validation, or a model file; and on which cases."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from MambaSegmentLib.bundle import ENDING, Bundle, read_bundle
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.manifest import Manifest
from MambaSegmentLib.review.structures import Structure, labels_and_regions
from MambaSegmentLib.volume import Volume

from ..card import card_from_table
from ..case_files import AS_STORED, RawCase, Reading, read_case
from ..dataset import find_dataset
from ..export import describe
from ..fingerprint import check_grids
from ..prepare import PreparedDataset, open_work
from ..storage import read_json
from ..trained_fold import TrainedFold, read_folds
from ..understand import understand


@dataclass(frozen=True)
class EvaluationData:
    """Labelled cases.

    Attributes:
        cases: by identifier. labels: value -> name.
        also: regions to measure besides. channels: of an image. reading: what the files' channels and labels mean.
        validation, train: the split of a work folder; both empty for a data set that was not prepared.
        folder: the work folder or the data set.
    """

    folder: Path
    name: str
    cases: Mapping[str, RawCase]
    labels: Mapping[int, str]
    regions: Mapping[str, tuple[int, ...]]
    ignore_label: int | None
    channels: int
    reading: Reading = AS_STORED
    also: tuple[Structure, ...] = ()
    validation: tuple[str, ...] = ()
    train: tuple[str, ...] = ()

    @property
    def structures(self) -> tuple[Structure, ...]:
        """What is measured: the labels, or the regions where the data asks for such; and what was asked for besides."""
        if self.regions:
            return (*(Structure(name, values) for name, values in self.regions.items()), *self.also)
        return (*labels_and_regions(self.labels), *self.also)

    def with_regions(self, regions: Mapping[str, Sequence[int]]) -> "EvaluationData":
        """The same, and further regions to measure.

        Raises:
            ConfigError: a name that is there already, or a value that is no label.
        """
        taken = {structure.name for structure in self.structures}
        for name, values in regions.items():
            unknown = sorted(set(values) - set(self.labels))
            if name in taken or unknown:
                reason = (
                    f"there is one already named {name!r}" if name in taken else f"no label has the value {unknown[0]}"
                )
                raise ConfigError(f"cannot measure the region {name}: {reason} in {self.folder}")
        return replace(self, also=tuple(Structure(name, tuple(values)) for name, values in regions.items()))

    def read(self, case: str) -> tuple[list[Volume], Volume]:
        """Channels and labels, all on the grid of the first channel, as `prepare` takes them.

        Raises:
            GeometryError: they lie on different grids. And as `read_case`.
        """
        images, labels = read_case(self.cases[case], self.reading)
        check_grids(self.cases[case], images, labels)
        grid = images[0]
        return [grid.with_array(i.array) for i in images], grid.with_array(np.rint(labels.array).astype(np.int32))

    @property
    def patients(self) -> dict[str, str]:
        return {name: case.patient for name, case in self.cases.items()}


@dataclass(frozen=True, eq=False)
class Part:
    """A network, or the folds of a bundle that answer together, and the cases that it did not learn from."""

    bundle: Bundle
    cases: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, eq=False)
class Subject:
    """Attributes:
    path: as given. parts: one, or one for each fold of a cross-validation.
    folds: the runs; empty for a model file.
    trained_on: cases that some part learned from and that are evaluated all the same; a number on them says little.
    """

    path: Path
    data: EvaluationData
    parts: tuple[Part, ...]
    folds: tuple[TrainedFold, ...]
    trained_on: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        return self.parts[0].bundle.manifest

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(case for part in self.parts for case in part.cases)


class RunBundle(Bundle):
    """The network of a run as its training built it, in the place of one read from a model file."""

    def __init__(self, fold: TrainedFold) -> None:
        manifest = describe(card_from_table(fold.record.config.card), fold, fold.run.resolve().name)
        super().__init__(manifest, (dict(fold.weights),))
        object.__setattr__(self, "_fold", fold)

    def build_networks(self, folds: Sequence[int] | None = None) -> list[nn.Module]:
        """The only one there is."""
        fold: TrainedFold = self.__dict__["_fold"]
        return [fold.network]


def read_subject(
    path: Path,
    *,
    data: Path | None = None,
    cases: str = "validation",
    regions: Mapping[str, Sequence[int]] | None = None,
) -> Subject:
    """Find out what is to be evaluated.

    Args:
        path: a run folder, a folder of runs named fold_0, fold_1, …, or a model file.
        data: a work folder of `prepare`, or a data set; a run knows its own.
        cases: "validation", "train", "all", or names separated by commas.
        regions: to measure besides: name -> label values.
    Raises:
        ConfigError: no such run or data, a model file without data, unknown cases, or labels that do not fit.
        BundleError: a model file that cannot be used.
    """
    found = _model_file if path.suffix == ENDING or path.is_file() else _run_folder
    subject = found(path, data, cases)
    return replace(subject, data=subject.data.with_regions(regions or {}))


def _run_folder(path: Path, data: Path | None, cases: str) -> Subject:
    folds = read_folds([path])
    of_run = from_work(folds[0].dataset)
    bundles = [RunBundle(fold) for fold in folds]
    source = of_run if data is None else _named_by(bundles[0].manifest, read_data(data))
    parts = []
    for fold, bundle in zip(folds, bundles, strict=True):
        held_out = fold.split.validation if data is None else source.validation
        chosen = _chosen(source, cases, held_out)
        parts.append(Part(bundle, chosen, fold.sha256))
    _check_labels(parts[0].bundle.manifest, source, path)
    learned = {case for fold, part in zip(folds, parts, strict=True) for case in set(fold.split.train) & {*part.cases}}
    same = data is None or source.folder.resolve() == of_run.folder.resolve()
    return Subject(path, source, tuple(parts), folds, tuple(sorted(learned)) if same else ())


def _model_file(path: Path, data: Path | None, cases: str) -> Subject:
    bundle = read_bundle(path)
    if data is None:
        raise ConfigError(f"{path} is a model file, which knows no cases; name a work folder or a data set with --data")
    source = _named_by(bundle.manifest, read_data(data))
    _check_labels(bundle.manifest, source, path)
    part = Part(bundle, _chosen(source, cases, source.validation), bundle.manifest.sha256 or "")
    return Subject(path, source, (part,), ())


def read_data(folder: Path) -> EvaluationData:
    """A work folder, or a data set as `prepare` takes it.

    Raises:
        ConfigError, ImageError: neither of them.
    """
    if (folder / "dataset.json").is_file() and (folder / "cases").is_dir():
        return from_work(open_work(folder))
    raw = understand(find_dataset(folder))
    return EvaluationData(
        folder=folder,
        name=raw.name,
        cases={case.identifier: case for case in raw.cases},
        labels=raw.label_names or {},
        regions={region.name: region.labels for region in raw.regions},
        ignore_label=raw.ignore_label,
        channels=len(raw.channels),
        reading=raw.reading,
    )


def from_work(dataset: PreparedDataset) -> EvaluationData:
    """The original files of a work folder's cases.

    Raises:
        ConfigError: dataset.json is damaged.
    """
    content = read_json(dataset.folder / "dataset.json", "run `mambatrain prepare` first")
    patients = {case["identifier"]: case.get("patient", case["identifier"]) for case in content["cases"]}
    cases = {
        name: RawCase(name, patients[name], tuple(files[:-1]), files[-1]) for name, files in dataset.sources.items()
    }
    return EvaluationData(
        folder=dataset.folder,
        name=dataset.name,
        cases=cases,
        labels=dataset.labels,
        regions={region.name: region.labels for region in dataset.regions},
        ignore_label=dataset.ignore_label,
        channels=len(dataset.channels),
        reading=dataset.reading,
        validation=dataset.split.validation,
        train=dataset.split.train,
    )


def _chosen(data: EvaluationData, cases: str, validation: Sequence[str]) -> tuple[str, ...]:
    if cases == "all" or (cases == "validation" and not validation):  # a data set without a split is taken whole
        return tuple(sorted(data.cases))
    if cases == "validation":
        return tuple(sorted(validation))
    if cases == "train":
        return tuple(sorted(data.train))
    names = tuple(dict.fromkeys(name.strip() for name in cases.split(",") if name.strip()))
    unknown = [name for name in names if name not in data.cases]
    if unknown or not names:
        raise ConfigError(
            f"case {unknown[0] if unknown else cases!r} is not in {data.folder}; expected validation, train, all, or "
            f"names such as {', '.join(sorted(data.cases)[:3])}"
        )
    return names


def _named_by(manifest: Manifest, data: EvaluationData) -> EvaluationData:
    """Data that does not name its labels takes the model's names."""
    if data.labels or data.regions:
        return data
    return replace(data, labels={segment.value: segment.name for segment in manifest.segments})


def _check_labels(manifest: Manifest, data: EvaluationData, path: Path) -> None:
    if manifest.regions:
        mine, theirs = sorted(r.name for r in manifest.regions), sorted(data.regions)
    else:
        mine, theirs = sorted(str(s.value) for s in manifest.segments), sorted(map(str, data.labels))
    if theirs and mine != theirs:
        raise ConfigError(
            f"{path} marks {_listed(mine)}, but the labels of {data.folder} are {_listed(theirs)}; evaluate it on data "
            "labelled alike"
        )
    if len(manifest.channels) != data.channels:
        raise ConfigError(
            f"{path} takes {len(manifest.channels)} channel(s), but images of {data.folder} have {data.channels}"
        )


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values) or "none"


def weights_key(part: Part, **how: object) -> str:
    """Changes when the weights or anything named in `how` does."""
    text = json.dumps([part.sha256, how, torch.__version__.split("+")[0]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
