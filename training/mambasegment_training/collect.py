"""From reviewed cases of 3D Slicer to a data set that `prepare` reads, and that grows as more are reviewed.

A case is taken when its review is signed off and not a rejection. The data set is a raw nnU-Net one, and has besides:
correctionsTr/ (where the model was corrected, see corrections.py), splits_final.json (each patient keeps its fold) and
collected.json (where every case came from, see collection.py).
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError
from MambaSegmentLib.files import atomic_path
from MambaSegmentLib.image_io import read_volume, write_volume
from MambaSegmentLib.importing.reading import sha256_of
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.review.document import ReviewDocument, read_review
from MambaSegmentLib.volume import Volume

from .collection import Collection, read_collection, reason_unlike, write_collection
from .corrections import FOLDER as CORRECTIONS
from .dataset import patient_of
from .prepare import SPLITS
from .reviewed_case import ImageFolders, ReviewedLabels, read_labels, reason_against
from .storage import read_json, write_json

ENDING = ".review.json"
_IMAGES, _LABELS = "imagesTr", "labelsTr"


@dataclass
class CollectReport:
    """What became of each case.

    Attributes:
        passed_over: case, or file name of a review that cannot be read -> why.
        withdrawn: were in the data set, and their review says no longer yes.
        cases: in the data set now.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    cases: int = 0
    folds: int = 0


@dataclass(frozen=True)
class _Review:
    path: Path
    document: ReviewDocument


def collect(
    source: Path,
    dataset: Path,
    *,
    images: Path | None = None,
    patient_pattern: str | None = None,
    folds: int | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> CollectReport:
    """Add to a data set what was reviewed since; a second call with nothing new changes nothing.

    Args:
        source: folder with CASE.review.json and the files beside it, also in folders below.
        dataset: made, or one that this made before.
        images: where the images lie, if not among the reviews; also in folders below.
        patient_pattern: regular expression whose first group, searched in a case's name, names the patient.
        folds: of the cross-validation; None means as before, or five. A patient keeps its fold whatever is added.
        cancel: looked at between cases; what was done stays.
    Raises:
        ConfigError: no review at all, a folder of something else, a pattern that does not fit.
        ImageError: a place that cannot be written. ResourceError: the disk is full. Cancelled: on request.
    """
    if images is not None and not images.is_dir():
        raise ConfigError(f"{images} is no folder; --images names the one with the images")
    collection = read_collection(dataset, folds)
    report = CollectReport()
    reviews = _read_reviews(source, report)
    patients = {case: patient_of(case, patient_pattern) for case in reviews}
    found = ImageFolders([source, *([] if images is None else [images])])
    _make_folders(dataset)
    for done, (case, review) in enumerate(reviews.items()):
        if cancel is not None:
            cancel.raise_if_cancelled()
        _take(case, review, found, patients[case], dataset, collection, report)
        if progress is not None:
            progress(Progress("collecting", done + 1, len(reviews)))
    _finish(dataset, collection)
    report.cases, report.folds = len(collection.cases), len(collection.splits())
    return report


def _read_reviews(source: Path, report: CollectReport) -> dict[str, _Review]:
    paths = sorted(source.rglob(f"*{ENDING}")) if source.is_dir() else []
    if not paths:
        raise ConfigError(
            f"{source} holds no file named CASE{ENDING}; the review section of the Slicer module saves them"
        )
    reviews: dict[str, _Review] = {}
    for path in paths:
        try:
            document = read_review(path)
        except ConfigError as problem:
            report.passed_over[path.name] = str(problem)
            continue
        if document.case in reviews:
            raise ConfigError(
                f"{reviews[document.case].path} and {path} are both of the case {document.case!r}; keep the one that "
                "counts"
            )
        reviews[document.case] = _Review(path, document)
    return reviews


def _take(
    case: str,
    review: _Review,
    images: ImageFolders,
    patient: str,
    dataset: Path,
    collection: Collection,
    report: CollectReport,
) -> None:
    """Add a case, or pass it over with the reason; the record is written after each, so that nothing is done twice."""
    known = collection.cases.get(case)
    reason = reason_against(review.document)
    if reason is not None and known is not None:
        _withdraw(case, dataset, collection)
        report.withdrawn.append(case)
    reason = reason or reason_unlike(review.document, collection)
    checksums = _checksums(review)
    if reason is None and known is not None and (known["sha256"], known["patient"]) == (checksums, patient):
        report.unchanged.append(case)
        return
    try:
        if reason is not None:
            raise ImageError(reason)
        read = _read_case(review, images, collection.labels_with(review.document))
    except (GeometryError, ImageError) as problem:  # of this case alone; the others are still welcome
        report.passed_over[case] = str(problem)
        return
    collection.take_meaning_of(review.document)
    _write_case(case, read, dataset)
    collection.cases[case] = {"patient": patient, "sha256": checksums, **_entry(review.document, read)}
    collection.place([patient])
    write_collection(dataset, collection)
    (report.added if known is None else report.replaced).append(case)


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read of a case: its image files, the first of them, and its labels."""

    paths: tuple[Path, ...]
    image: Volume
    labels: ReviewedLabels


def _read_case(review: _Review, images: ImageFolders, value_of: Mapping[str, int]) -> _Read:
    paths = images.of(review.document)
    first = read_volume(paths[0])
    for path in paths[1:]:
        if not first.same_grid(read_volume(path)):
            raise GeometryError(f"{path} and {paths[0]} lie on different grids; resample one to the other")
    return _Read(paths, first, read_labels(review.document, review.path.parent, first, value_of))


def _write_case(case: str, read: _Read, dataset: Path) -> None:
    for index, path in enumerate(read.paths):
        _copy_image(path, dataset / _IMAGES / f"{case}_{index:04d}.nii.gz")
    write_volume(read.labels.labels, dataset / _LABELS / f"{case}.nii.gz")
    target = dataset / CORRECTIONS / f"{case}.nii.gz"
    if read.labels.corrected_voxels:
        write_volume(read.image.with_array(read.labels.corrections), target)
    else:
        target.unlink(missing_ok=True)  # of an earlier review of the case


def _entry(document: ReviewDocument, read: _Read) -> dict[str, Any]:
    """What the record says of a case besides its patient and its files' checksums."""
    return {
        "images": [path.name for path in read.paths],
        "reviewer": document.reviewer,
        "decision": document.decision,
        "saved_utc": document.times.saved_utc,
        "review_s": document.times.review_s,
        "model": vars(document.model).copy(),
        "ignored_voxels": read.labels.ignored_voxels,
        "corrected_voxels": read.labels.corrected_voxels,
    }


def _copy_image(source: Path, target: Path) -> None:
    if source.name.lower().endswith(".nii.gz"):
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    else:
        write_volume(read_volume(source), target)


def _withdraw(case: str, dataset: Path, collection: Collection) -> None:
    """Take a case out; first out of the record, so that files left behind by a crash are no case of it."""
    del collection.cases[case]
    write_collection(dataset, collection)
    for index in range(len(collection.channels)):
        (dataset / _IMAGES / f"{case}_{index:04d}.nii.gz").unlink(missing_ok=True)
    for folder in (_LABELS, CORRECTIONS):
        (dataset / folder / f"{case}.nii.gz").unlink(missing_ok=True)


def _checksums(review: _Review) -> dict[str, str]:
    """Of the review and the files that it names."""
    document = review.document
    names = [review.path.name, document.segmentation_file, *filter(None, [document.prediction_file])]
    paths = {name: review.path.parent / name for name in names}
    return {name: sha256_of(path) for name, path in paths.items() if path.is_file()}


def _make_folders(dataset: Path) -> None:
    try:
        for name in (_IMAGES, _LABELS, CORRECTIONS):
            (dataset / name).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"cannot make the data set {dataset}: {problem.strerror or problem}") from problem


def _finish(dataset: Path, collection: Collection) -> None:
    """What depends on all cases."""
    if not collection.cases:
        return
    _write_changed(dataset / "dataset.json", collection.to_dataset_json(dataset.resolve().name))
    splits = collection.splits()
    if splits:
        _write_changed(dataset / SPLITS, splits)
    else:
        (dataset / SPLITS).unlink(missing_ok=True)


def _write_changed(path: Path, content: Any) -> None:
    """Write JSON, unless the file says the same already: its date tells when something changed."""
    if not path.is_file() or read_json(path, "delete it") != content:
        write_json(path, content)
