"""Reference against predicted label maps: which files belong together, and the measures of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, MambaSegmentError
from ..progress import CancelToken, Progress, ProgressCallback
from .agreement import METRICS, CaseAgreement, Rules, measure_agreement
from .label_files import ENDINGS, read_label_map, renumbered, stem
from .structures import labels_and_regions
from .summary import Summary, summarise


@dataclass(frozen=True)
class Pair:
    """A case: the file of the reference and that of the prediction."""

    case: str
    reference: Path
    predicted: Path


@dataclass(frozen=True)
class Pairs:
    """Attributes:
    pairs: sorted by case.
    unused: predicted files that no reference belongs to.
    """

    pairs: tuple[Pair, ...]
    unused: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    Attributes:
        cases: case -> its measures. problems: case -> why it could not be compared.
    """

    cases: Mapping[str, CaseAgreement]
    problems: Mapping[str, MambaSegmentError] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each case and structure."""
        return [
            {"case": case, **structure.to_json()}
            for case, agreement in self.cases.items()
            for structure in agreement.structures
        ]


def find_pairs(reference: Path, predicted: Path) -> Pairs:
    """Two files, or the files of equal names in two folders; endings may differ.

    Raises:
        ConfigError: nothing there, a file against a folder, or references without a prediction.
    """
    for path in (reference, predicted):
        if not path.exists():
            raise ConfigError(f"{path} does not exist; check the path")
    if reference.is_dir() != predicted.is_dir():
        raise ConfigError(f"{reference} and {predicted} are a file and a folder; give two files or two folders")
    if reference.is_file():
        return Pairs((Pair(stem(reference), reference, predicted),))
    references, predictions = _files(reference), _files(predicted)
    missing = sorted(set(references) - set(predictions))
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ConfigError(f"{predicted} has no file for {', '.join(missing[:5])}{more}; names must be equal")
    pairs = tuple(Pair(case, references[case], predictions[case]) for case in sorted(references))
    return Pairs(pairs, tuple(path for case, path in sorted(predictions.items()) if case not in references))


def compare_pairs(
    pairs: Sequence[Pair],
    *,
    names: Mapping[int, str] | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    rules: Rules | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Compare each pair; one that cannot be compared does not stop the others.

    Args:
        names: the labels to compare; None takes those of a `.seg.nrrd`, or all values that occur.
    Raises:
        Cancelled: on request.
    """
    cases: dict[str, CaseAgreement] = {}
    problems: dict[str, MambaSegmentError] = {}
    for number, pair in enumerate(pairs):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if progress is not None:
            progress(Progress("compare", number, len(pairs)))
        try:
            cases[pair.case] = compare_pair(pair, names=names, regions=regions, rules=rules)
        except MambaSegmentError as problem:
            problems[pair.case] = problem
    if progress is not None:
        progress(Progress("compare", len(pairs), len(pairs), 0.0))
    return Comparison(cases, problems)


def compare_pair(
    pair: Pair,
    *,
    names: Mapping[int, str] | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    rules: Rules | None = None,
) -> CaseAgreement:
    """Compare two files.

    Raises:
        ImageError, GeometryError, ShapeError: files that cannot be read or compared. ConfigError: an unknown region.
    """
    reference = read_label_map(pair.reference)
    predicted = read_label_map(pair.predicted)
    if reference.names and predicted.names:
        predicted = renumbered(predicted, reference.names)
    rules = rules or Rules()
    if names is None:
        known = {**predicted.names, **reference.names}
        found = np.union1d(np.unique(reference.volume.array), np.unique(predicted.volume.array))
        values = (
            {int(value) for value in found} | set(known) | {v for region in (regions or {}).values() for v in region}
        )
        names = {v: known.get(v, f"label {v}") for v in sorted(values) if v not in (0, rules.ignore_label)}
    structures = labels_and_regions(names, regions)
    try:
        return measure_agreement(predicted.volume, reference.volume, structures, rules)
    except MambaSegmentError as problem:
        raise type(problem)(f"{pair.predicted} against {pair.reference}: {problem}") from problem


def summarise_cases(
    cases: Mapping[str, CaseAgreement], patients: Mapping[str, str] | None = None, *, seed: int = 0
) -> dict[str, dict[str, Summary]]:
    """Structure -> measure -> summary over the cases; measures that no case has are left out.

    Args:
        patients: case -> patient, see `summarise`.
    """
    owners = [case if patients is None else patients[case] for case in cases]
    by_name: dict[str, list[Any]] = {}
    for number, agreement in enumerate(cases.values()):
        for one in agreement.structures:
            by_name.setdefault(one.name, [None] * len(cases))[number] = one
    summaries: dict[str, dict[str, Summary]] = {}
    for name, found in by_name.items():
        columns = {m: [None if one is None else getattr(one, m) for one in found] for m in METRICS}
        summaries[name] = _present({m: summarise(column, owners, seed=seed) for m, column in columns.items()})
    return summaries


def summarise_wholes(
    cases: Mapping[str, CaseAgreement], patients: Mapping[str, str] | None = None, *, seed: int = 0
) -> dict[str, Summary]:
    """The same for what is measured of a case as a whole: accuracy, mean_dice and mean_iou (mIoU)."""
    owners = [case if patients is None else patients[case] for case in cases]
    columns = {m: [getattr(one, m) for one in cases.values()] for m in ("mean_dice", "mean_iou", "accuracy")}
    return _present({m: summarise(column, owners, seed=seed) for m, column in columns.items()})


def _present(summaries: Mapping[str, Summary | None]) -> dict[str, Summary]:
    return {name: summary for name, summary in summaries.items() if summary is not None}


def _files(folder: Path) -> dict[str, Path]:
    """Name without ending -> path.

    Raises:
        ConfigError: none, or one name twice.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(ENDINGS):
            continue
        if stem(path) in found:
            raise ConfigError(f"{found[stem(path)]} and {path} are the same case twice; remove one")
        found[stem(path)] = path
    if not found:
        raise ConfigError(f"{folder} holds no label map; expected files ending in {', '.join(ENDINGS)}")
    return found
