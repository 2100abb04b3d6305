"""Runs and model files on the same cases: evaluated, counted, tested against each other."""

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.review.agreement import LOWER_IS_BETTER, Rules
from MambaSegmentLib.review.comparison_files import summary_document

from ..evaluation.report import write_report
from ..evaluation.run import evaluate_cases
from ..evaluation.subject import Subject, read_subject
from ..run_folder import software_versions
from .entry import CONTROL, Entry, common_settings, differing_settings, make_entry
from .paired import PairedTest, compare_all

TESTED = ("dice", "hd95_mm", "nsd")  # for each structure
_COMMON = ("epochs", "steps_per_epoch", "data.batch_size", "data.patch_size", "cpu_threads", "precision", "seed")


@dataclass(frozen=True, eq=False)
class Study:
    """Attributes:
    control: the entry that all are held against: the plain U-Net, or the first where there is none.
    warnings: what a reader must know before the figures.
    """

    folder: Path
    entries: tuple[Entry, ...]
    control: Entry
    tests: tuple[PairedTest, ...]
    warnings: tuple[str, ...]

    def test_against_control(self, entry: Entry, metric: str, structure: str = "") -> PairedTest | None:
        """None for the control itself."""
        names = {entry.name, self.control.name}
        found = (
            t for t in self.tests if (t.metric, t.structure) == (metric, structure) and {t.first, t.second} == names
        )
        return next(found, None)


def compare(
    paths: Sequence[Path],
    folder: Path,
    *,
    data: Path | None = None,
    names: Sequence[str] = (),
    regions: Mapping[str, Sequence[int]] | None = None,
    rules: Rules | None = None,
    quality: str = "best",
    device: str = "auto",
    seed: int = 0,
    with_cost: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Study:
    """Evaluate each on the validation cases that all share, and hold them against each other.

    Args:
        paths: runs, folders of runs fold_0, fold_1, …, or model files.
        folder: evaluations/NAME of each; what is there already is taken over.
        data: a work folder, needed where only model files are compared.
        names: instead of the folders' names, one for each path.
        regions: to measure besides the labels: name -> label values.
        with_cost: measure seconds and memory in a process of its own for each.
    Raises:
        ConfigError: fewer than two, names twice, or runs on different splits or labels.
        Cancelled: on request; a later call goes on.
    """
    named = dict(zip(_names(paths, names), paths, strict=True))
    subjects = _subjects(named, data, regions)
    entries = []
    for number, (name, subject) in enumerate(subjects.items()):

        def tell(report: Progress, number: int = number, name: str = name) -> None:
            if progress is not None:
                stage = f"{name} ({number + 1} of {len(subjects)})"
                progress(Progress(stage, report.done, report.total, report.seconds_left))

        evaluation = evaluate_cases(
            subject,
            folder / "evaluations" / name,
            rules=rules,
            quality=quality,
            device=device,
            seed=seed,
            progress=tell,
            cancel=cancel,
        )
        write_report(evaluation)
        if progress is not None and with_cost:
            progress(Progress(f"{name}: cost", 0, 1))
        entries.append(make_entry(name, evaluation, device=device, with_cost=with_cost))
    control = next((entry for entry in entries if entry.is_control), entries[0])
    tests = _tests(entries, seed)
    return Study(folder, tuple(entries), control, tuple(tests), tuple(_warnings(entries, control)))


def study_document(study: Study) -> dict[str, Any]:
    """Everything, as plain JSON values."""
    first = study.entries[0].evaluation
    return {
        "format": 1,
        "notice": "For research use only: not a medical device.",
        "warnings": list(study.warnings),
        "data": first.subject.data.name,
        "cases": list(first.records),
        "patients": len(set(first.patients.values())),
        "control": study.control.name if study.control.is_control else None,
        "quality": first.quality,
        "common_settings": common_settings(study.entries, _COMMON),
        "differing_settings": differing_settings(study.entries),
        "entries": [entry_document(entry) for entry in study.entries],
        "tests": [test.to_json() for test in study.tests],
        "software": software_versions(),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    evaluation = entry.evaluation
    return {
        "name": entry.name,
        "network": entry.network,
        "loss": entry.loss,
        "is_control": entry.is_control,
        "folds": len(entry.subject.parts),
        "parameters": entry.parameters,
        "patch_size": list(entry.subject.manifest.patch_size),
        "multiply_adds": entry.multiply_adds,
        "activation_memory_bytes": dict(entry.activation_memory_bytes),
        "cost": dict(entry.cost),
        "seconds_per_case": evaluation.seconds_per_case,
        "epochs": entry.epochs,
        "best_epoch": entry.best_epoch,
        "training_s": entry.training_s,
        "summary": summary_document(evaluation.agreements, evaluation.patients, seed=evaluation.seed),
        "curve": [{key: r[key] for key in ("epoch", "loss", "dice", "elapsed_s") if key in r} for r in entry.records],
    }


def machine() -> dict[str, Any]:
    """Where the seconds were measured."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
    }


def _names(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Short and different: the folders' own, with those above them where they are the same."""
    if len(paths) < 2:
        raise ConfigError(f"{len(paths)} run was named; at least two are needed to compare")
    if names:
        if len(names) != len(paths) or len(set(names)) != len(names):
            raise ConfigError(f"the names are {', '.join(names)}; expected {len(paths)} different ones")
        return list(names)
    found = [path.resolve().name.removesuffix(".safetensors") for path in paths]
    if len(set(found)) < len(found):
        found = [f"{path.resolve().parent.name}-{name}" for path, name in zip(paths, found, strict=True)]
    if len(set(found)) < len(found):
        raise ConfigError(f"two of the runs are named {_doubled(found)}; give each a name with --name")
    return found


def _doubled(names: Sequence[str]) -> str:
    return next(name for name in names if list(names).count(name) > 1)


def _subjects(
    named: Mapping[str, Path], data: Path | None, regions: Mapping[str, Sequence[int]] | None
) -> dict[str, Subject]:
    """All of them on the same cases.

    Raises:
        ConfigError: runs that were not trained on the same split, or data of other labels.
    """
    runs = {name: read_subject(path, regions=regions) for name, path in named.items() if path.is_dir()}
    if not runs and data is None:
        raise ConfigError("model files know no cases; name a work folder or a data set with --data")
    first_name = next(iter(runs), "")
    for name, subject in runs.items():
        _check_same_split(first_name, runs[first_name], name, subject)
    shared = data if data is not None else runs[first_name].data.folder
    cases = "validation" if not runs else ",".join(runs[first_name].cases)
    return {
        name: runs[name] if name in runs else read_subject(path, data=shared, cases=cases, regions=regions)
        for name, path in named.items()
    }


def _check_same_split(first_name: str, first: Subject, name: str, other: Subject) -> None:
    for what, one, another in (
        ("validated", set(first.cases), set(other.cases)),
        ("trained", _trained(first), _trained(other)),
    ):
        if one != another:
            raise ConfigError(
                f"{name} was {what} on other cases than {first_name} ({len(another)} against {len(one)}; "
                f"{min(one ^ another)} is in one alone): their figures cannot be compared; train them on the same split"
            )
    if [s.name for s in first.data.structures] != [s.name for s in other.data.structures]:
        raise ConfigError(f"{name} and {first_name} were trained on different labels; they cannot be compared")


def _trained(subject: Subject) -> set[str]:
    """Which cases the folds learned from."""
    return {case for fold in subject.folds for case in fold.split.train}


def _tests(entries: Sequence[Entry], seed: int) -> list[PairedTest]:
    patients = entries[0].evaluation.patients
    wholes = {e.name: {case: a.mean_dice for case, a in e.evaluation.agreements.items()} for e in entries}
    tests = compare_all(wholes, patients, metric="mean_dice", seed=seed)
    for structure in entries[0].subject.data.structures:
        for metric in TESTED:
            values = {e.name: _of_structure(e, structure.name, metric) for e in entries}
            lower = metric in LOWER_IS_BETTER
            tests += compare_all(
                values, patients, metric=metric, structure=structure.name, lower_is_better=lower, seed=seed
            )
    return tests


def _of_structure(entry: Entry, structure: str, metric: str) -> dict[str, float | None]:
    return {
        case: getattr(one, metric)
        for case, agreement in entry.evaluation.agreements.items()
        for one in agreement.structures
        if one.name == structure
    }


def _warnings(entries: Sequence[Entry], control: Entry) -> list[str]:
    warnings = []
    if not control.is_control:
        warnings.append(
            f"NO PLAIN CONTROL: no {CONTROL} trained with dice_ce is among these runs. Without it nobody can tell "
            "whether Mamba or a special loss did any good (Isensee et al. 2024, nnU-Net Revisited, found the same "
            f"U-Net without Mamba as good); all are held against {control.name} instead."
        )
    few = len(set(entries[0].evaluation.patients.values()))
    smallest = 2.0 ** (1 - few) * len(entries) * (len(entries) - 1) / 2
    if smallest > 0.05:
        warnings.append(
            f"With {few} patients and {len(entries)} methods no difference can reach p < 0.05 after Holm's adjustment, "
            "however large it is."
        )
    budgets = {(e.settings.get("epochs"), e.settings.get("steps_per_epoch")) for e in entries if e.subject.folds}
    if len(budgets) > 1:
        texts = ", ".join(f"{epochs} × {steps}" for epochs, steps in sorted(budgets, key=str))
        warnings.append(f"The runs had different budgets (epochs × steps): {texts}.")
    unfinished = [e.name for e in entries if e.epochs is not None and e.epochs < (e.settings.get("epochs") or 0)]
    if unfinished:
        warnings.append(f"Not trained to their end: {', '.join(unfinished)}.")
    learned = [entry.name for entry in entries if not entry.subject.folds]
    if learned:
        warnings.append(f"Whether {', '.join(learned)} learned from these cases cannot be seen from a model file.")
    return warnings
