"""From a data set to a work folder: every case checked, preprocessed as at inference, split by patient, planned for.

A work folder holds dataset.json (names, labels, preprocessing, plan, folds, facts of each case), splits_final.json (the
folds once more, as nnU-Net reads them) and, for each case,
cases/CASE.image.npy (float32, C x K x J x I), CASE.labels.npy (uint8, K x J x I) and CASE.foreground.npy (int32, rows
of label, k, j, i: voxels to centre patches on).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.errors import ConfigError, ImageError
from MambaSegmentLib.label_maps import preprocess_labels
from MambaSegmentLib.manifest import Region
from MambaSegmentLib.preprocess import preprocess
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.progress import Progress, ProgressCallback
from MambaSegmentLib.volume import Volume

from .case_files import AS_STORED, RawCase, Reading, read_case
from .corrections import corrected_voxels
from .dataset import RawDataset, find_dataset
from .findings import Finding, find_faults
from .fingerprint import NO_WISHES, CaseFacts, Wishes, decide_preprocessing, look_at_cases
from .plan import Plan, plan_networks
from .profiles import profile_named
from .report import QualityReport
from .split import Split, folds_by_patient, folds_to_nnunet, read_folds, split_by_list
from .storage import read_json, write_array, write_json
from .understand import understand

FORMAT = 1
MESSAGES_SHOWN = 10  # of a refusal; the report has all
SPLITS = "splits_final.json"  # nnU-Net's name
FOREGROUND_VOXELS = 2_000  # kept per label and case; enough to reach every part of a structure


@dataclass(frozen=True)
class PreparedDataset:
    """What dataset.json of a work folder says.

    Attributes:
        labels: value -> name, 1 to the number of foreground classes.
        patch_size: planned, voxels (K, J, I) of the prepared grid; K is 1 where all cases are single slices.
        split: the first of `folds`.
        sources: case -> its image files and, last, its label file, as absolute paths.
        regions: outputs that overlap, where the data set asks for such; none of them is the background.
        plan: what networks follow that take their stages from the data.
        reading: what the source files' channels and labels mean.
        folds: the splits of a cross-validation, or the one that was asked for.
    """

    folder: Path
    name: str
    channels: tuple[str, ...]
    labels: dict[int, str]
    ignore_label: int | None
    preprocessing: PreprocessingSpec
    patch_size: tuple[int, int, int]
    split: Split
    split_seed: int | None
    sources: dict[str, tuple[Path, ...]]
    regions: tuple[Region, ...] = ()
    reading: Reading = AS_STORED
    plan: Plan = field(kw_only=True)
    folds: tuple[Split, ...] = field(kw_only=True)

    @property
    def class_count(self) -> int:
        """Foreground classes and background."""
        return len(self.labels) + 1

    @property
    def output_count(self) -> int:
        """Of a network: one for each region, or for each class."""
        return len(self.regions) or self.class_count

    def read_source(self, case: str) -> tuple[list[Volume], Volume]:
        """The channels and the labels of a case as they were before preparation, on their own grid."""
        *images, labels = self.sources[case]
        return read_case(RawCase(case, case, tuple(images), labels), self.reading)


def prepare(
    source: Path,
    work: Path,
    *,
    profile: str | None = None,
    patient_pattern: str | None = None,
    label_names: Mapping[int, str] | None = None,
    renumber: bool = False,
    ignore_other_segments: bool = False,
    validation_fraction: float = 0.2,
    validation_cases: Sequence[str] = (),
    splits_file: Path | None = None,
    seed: int = 20240917,
    wishes: Wishes = NO_WISHES,
    size_multiple: int = 8,
    patches: Mapping[int, Sequence[int]] | None = None,
    strict: bool = False,
    progress: ProgressCallback | None = None,
) -> PreparedDataset:
    """Make a work folder; a second call on the same folder starts over.

    Args:
        source: a data set as `find_dataset` knows it.
        profile: name of one of `PROFILES`, whose data set it is instead; it knows patients and labels itself.
        label_names: for a data set that does not name its labels; value -> name.
        renumber: close gaps between label values; names go with the stored values.
        ignore_other_segments: in files that name their segments, leave out those that `label_names` does not name.
        validation_fraction: of the first fold; a fraction of 0.2 makes five folds.
        validation_cases, splits_file: instead of drawn folds; the file is one as nnU-Net's splits_final.json. One that
            lies in the data set is taken where nothing else is said.
        wishes: of the preprocessing; the rest follows from the data.
        size_multiple: of networks with stages of their own, for the patch size.
        patches: dimensions -> patch instead of the planned one.
        strict: refuse what is otherwise a warning in the quality report.
    Raises:
        ConfigError, ImageError: the data set cannot be used; the message names every fault found, and report.html in
            the work folder shows them.
    """
    folds: tuple[Split, ...] | None = None
    if profile is None:
        dataset = understand(
            find_dataset(source, patient_pattern),
            label_names,
            renumber=renumber,
            ignore_other_segments=ignore_other_segments,
        )
        if splits_file is None and not validation_cases and (source / SPLITS).is_file():
            splits_file = source / SPLITS  # a data set that grows keeps its split
    else:
        if patient_pattern is not None or label_names is not None or renumber:
            raise ConfigError(
                f"the profile {profile!r} knows patients and labels itself; leave them out, or the profile"
            )
        known = profile_named(profile)
        dataset, wishes = known.dataset(profile, source, work / "labels"), wishes.over(known.wishes)
        folds = None if validation_cases or splits_file else known.folds(dataset.cases)
    drawn = not (validation_cases or splits_file or folds)
    folds = folds or _folds(dataset, validation_fraction, validation_cases, splits_file, seed)
    facts, problems = look_at_cases(dataset, progress)
    labels = _name_labels(dataset, facts)
    report = QualityReport(dataset, facts, _findings(dataset, facts, problems, labels, folds), labels, folds)
    _make_empty(work)
    _refuse_faults(report, work, strict)
    spec = decide_preprocessing(dataset, list(facts.values()), wishes)
    shapes = []
    for done, case in enumerate(dataset.cases, start=1):
        shapes.append(_prepare_case(case, dataset, spec, work / "cases", seed))
        if progress is not None:
            progress(Progress("preprocessing", done, len(dataset.cases)))
    outputs = len(dataset.regions) or len(labels) + 1
    plan = plan_networks(shapes, _planned_spacing(spec), outputs, size_multiple, patches)
    content = _describe_work(dataset, report, plan, spec)
    content["split"] = {"seed": seed if drawn else None} | folds[0].to_json()
    content["cases"] = [
        _describe(case, facts[case.identifier], shape) for case, shape in zip(dataset.cases, shapes, strict=True)
    ]
    replace(report, plan=plan).write(work)
    write_json(work / SPLITS, folds_to_nnunet(folds))
    write_json(work / "dataset.json", content)
    return open_work(work)


def open_work(work: Path) -> PreparedDataset:
    """Read a work folder's dataset.json.

    Raises:
        ConfigError: the folder was never prepared, or by another version.
    """
    path = work / "dataset.json"
    content = read_json(path, "run `mambatrain prepare` first")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{path} is not of format {FORMAT}; run `mambatrain prepare` again")
    try:
        return _from_json(work, content)
    except (KeyError, TypeError, AttributeError, IndexError, ConfigError) as problem:
        raise ConfigError(f"{path} is damaged ({problem!r}); run `mambatrain prepare` again") from problem


def _from_json(work: Path, content: Mapping[str, Any]) -> PreparedDataset:
    plan = Plan.from_json(content["plan"])
    split = Split.from_json(content["split"])
    return PreparedDataset(
        folder=work,
        name=content["name"],
        channels=tuple(content["channels"]),
        labels={entry["value"]: entry["name"] for entry in content["labels"]},
        ignore_label=content["ignore_label"],
        preprocessing=PreprocessingSpec.from_json(content["preprocessing"]),
        patch_size=plan.patch_size,
        split=split,
        split_seed=content["split"]["seed"],
        sources={case["identifier"]: tuple(Path(file) for file in case["files"]) for case in content["cases"]},
        regions=tuple(Region.from_json(entry) for entry in content.get("regions", ())),
        reading=Reading.from_json(content["reading"]) if "reading" in content else AS_STORED,
        plan=plan,
        folds=tuple(Split.from_json(entry) for entry in content.get("folds", ())) or (split,),  # older: one split
    )


def _make_empty(work: Path) -> None:
    """An interrupted run must not look finished."""
    try:
        (work / "cases").mkdir(parents=True, exist_ok=True)
        (work / "dataset.json").unlink(missing_ok=True)
    except OSError as problem:
        raise ConfigError(f"cannot make the work folder {work}: {problem.strerror or problem}") from problem


def _findings(
    dataset: RawDataset,
    facts: Mapping[str, CaseFacts],
    problems: Mapping[str, str],
    labels: Mapping[int, str],
    folds: Sequence[Split],
) -> list[Finding]:
    unusable = [Finding("error", "cannot be used", (case,), f"{case}: {text}") for case, text in problems.items()]
    return [*unusable, *find_faults(dataset, facts, labels, folds)]


def _refuse_faults(report: QualityReport, work: Path, strict: bool) -> None:
    refused = [finding for finding in report.findings if strict or finding.severity == "error"]
    if not refused:
        return
    page = report.write(work)
    shown = "\n  ".join(finding.message for finding in refused[:MESSAGES_SHOWN])
    more = f"\n  and {len(refused) - MESSAGES_SHOWN} more" if len(refused) > MESSAGES_SHOWN else ""
    unusable = sum(finding.kind == "cannot be used" for finding in refused)
    title = (
        f"{unusable} of {len(report.dataset.cases)} cases cannot be used"
        if unusable
        else f"the data set has {len(refused)} fault(s)"
    )
    raise ImageError(f"{title}:\n  {shown}{more}\n{page} shows them all")


def _name_labels(dataset: RawDataset, facts: Mapping[str, CaseFacts]) -> dict[int, str]:
    """Names for 1..N.

    Raises:
        ConfigError: values with gaps, since a network's outputs are numbered without.
    """
    found = {value for case in facts.values() for value in case.label_voxels} - {0, dataset.ignore_label}
    names = dict(dataset.label_names) if dataset.label_names is not None else {v: f"label {v}" for v in sorted(found)}
    if len(facts) < len(dataset.cases):
        return names  # the cases that cannot be read may have the others
    if not names or not found:
        raise ConfigError("no case has a labelled voxel; there is nothing to learn")
    if sorted(names) != list(range(1, len(names) + 1)):
        raise ConfigError(
            f"the labels are {sorted(names)}; expected 1 to {len(names)} without gaps: renumber them, "
            "or let --renumber do it"
        )
    if dataset.ignore_label is not None and dataset.ignore_label <= len(names):
        raise ConfigError(f"the ignore label is {dataset.ignore_label}; expected a value above {len(names)}")
    return {value: names[value] for value in sorted(names)}


def _folds(
    dataset: RawDataset, fraction: float, validation: Sequence[str], splits_file: Path | None, seed: int
) -> tuple[Split, ...]:
    patient_of = {case.identifier: case.patient for case in dataset.cases}
    if validation and splits_file is not None:
        raise ConfigError("validation cases and a file of splits were given; choose one")
    if splits_file is not None:
        return read_folds(splits_file, patient_of)
    return (split_by_list(patient_of, validation),) if validation else folds_by_patient(patient_of, fraction, seed)


def _planned_spacing(spec: PreprocessingSpec) -> tuple[float, float, float]:
    """Of the prepared arrays' axes; an axis that keeps what a case has counts as one millimetre."""
    first, second, third = (wanted or 1.0 for wanted in spec.spacing_mm or (None,) * 3)
    return first, second, third


def _prepare_case(
    case: RawCase, dataset: RawDataset, spec: PreprocessingSpec, folder: Path, seed: int
) -> tuple[int, ...]:
    images, labels = read_case(case, dataset.reading)
    # headers were compared with a tolerance; from here on all lie on the grid of the first channel
    prepared = preprocess([images[0].with_array(image.array) for image in images], spec)
    prepared_labels = preprocess_labels(images[0].with_array(labels.array.astype(np.uint8)), prepared)
    array = prepared_labels.astype(np.uint8)
    write_array(folder / f"{case.identifier}.image.npy", np.ascontiguousarray(prepared.array, dtype=np.float32))
    write_array(folder / f"{case.identifier}.labels.npy", np.ascontiguousarray(array))
    corrected = corrected_voxels(case, images[0], prepared, FOREGROUND_VOXELS, seed)
    foreground = np.concatenate([corrected, sample_foreground(array, seed, dataset.ignore_label)])
    write_array(folder / f"{case.identifier}.foreground.npy", foreground)
    return array.shape


def sample_foreground(labels: np.ndarray, seed: int, ignore_label: int | None = None) -> np.ndarray:
    """Voxels of each label, up to FOREGROUND_VOXELS of them, drawn without repetition.

    Returns:
        int32, shape (M, 4): label, k, j, i; sorted by label and then by place.
    """
    rows = [np.empty((0, 4), np.int32)]
    for value in np.unique(labels):
        if value in (0, ignore_label):
            continue
        places = np.argwhere(labels == value)
        if len(places) > FOREGROUND_VOXELS:
            kept = np.random.default_rng((seed, int(value))).choice(len(places), FOREGROUND_VOXELS, replace=False)
            places = places[np.sort(kept)]
        rows.append(np.column_stack([np.full(len(places), value), places]).astype(np.int32))
    return np.concatenate(rows)


def _describe_work(dataset: RawDataset, report: QualityReport, plan: Plan, spec: PreprocessingSpec) -> dict[str, Any]:
    """What dataset.json says of all cases together."""
    return {
        "format": FORMAT,
        "name": dataset.name,
        "channels": list(dataset.channels),
        "labels": [{"value": value, "name": name} for value, name in report.labels.items()],
        "ignore_label": dataset.ignore_label,
        "regions": [region.to_json() for region in dataset.regions],
        "reading": dataset.reading.to_json(),
        "preprocessing": spec.to_json(),
        "plan": plan.to_json(),
        "folds": [fold.to_json() for fold in report.folds],
    }


def _describe(case: RawCase, facts: CaseFacts, shape: Sequence[int]) -> dict[str, Any]:
    return {
        "identifier": case.identifier,
        "patient": case.patient,
        "files": [str(path.resolve()) for path in (*case.images, case.labels)],
        "shape": list(facts.shape),
        "spacing_mm": list(facts.spacing_mm),
        "prepared_shape": list(shape),
        "label_voxels": {str(value): count for value, count in facts.label_voxels.items()},
    }
