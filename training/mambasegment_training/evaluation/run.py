"""Segments the cases of a subject on their original grids, as the exported model would, and measures the result."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.progress import CancelToken, Progress, ProgressCallback
from MambaSegmentLib.review.agreement import CaseAgreement, Rules, measure_agreement

from ..case_files import RawCase
from .records import CaseRecord, files_state, labels_path, make_folders, read_record, write_record
from .subject import Part, Subject, weights_key


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Attributes:
    records: by case. resumed: how many of them an earlier call had left.
    """

    subject: Subject
    folder: Path
    rules: Rules
    quality: str
    seed: int
    records: Mapping[str, CaseRecord]
    resumed: int

    @property
    def agreements(self) -> dict[str, CaseAgreement]:
        return {case: record.agreement for case, record in self.records.items()}

    @property
    def patients(self) -> dict[str, str]:
        return {case: self.subject.data.cases[case].patient for case in self.records}

    @property
    def seconds_per_case(self) -> float:
        """The median; the first case also compiles."""
        return float(np.median([record.seconds for record in self.records.values()]))


def evaluate_cases(
    subject: Subject,
    folder: Path,
    *,
    rules: Rules | None = None,
    quality: str = "best",
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Segment and measure every case; what an earlier call with the same weights and options left is taken over.

    Args:
        folder: for cases/CASE.json and labels/CASE.nii.gz.
        rules: the ignore label is that of the data.
        quality: "best", "balanced" or "fast", as `load_model`.
        seed: of the confidence intervals.
    Raises:
        Cancelled: on request; a later call goes on. And whatever reading a case or predicting raises.
    """
    rules = replace(rules or Rules(), ignore_label=subject.data.ignore_label)
    structures = [(structure.name, structure.values) for structure in subject.data.structures]
    how = {"quality": quality, "rules": asdict(rules), "structures": structures}
    make_folders(folder)
    records: dict[str, CaseRecord] = {}
    resumed, total, begun = 0, len(subject.cases), time.monotonic()
    for part in subject.parts:
        predictor: Predictor | None = None
        for case, raw in _cases(subject, part):
            (cancel or CancelToken()).raise_if_cancelled()
            if progress is not None:
                progress(
                    Progress("evaluate", len(records), total, _left_s(begun, len(records) - resumed, total, records))
                )
            key = weights_key(part, **how, files=files_state(raw))
            record = read_record(folder, case, key)
            if record is None:
                predictor = predictor or Predictor(part.bundle, device, quality=quality)
                record = _evaluate(case, predictor, subject, folder, rules, cancel)
                write_record(folder, key, record)
            else:
                resumed += 1
            records[case] = record
    if progress is not None:
        progress(Progress("evaluate", total, total, 0.0))
    return Evaluation(subject, folder, rules, quality, seed, records, resumed)


def _evaluate(
    case: str,
    predictor: Predictor,
    subject: Subject,
    folder: Path,
    rules: Rules,
    cancel: CancelToken | None,
) -> CaseRecord:
    images, truth = subject.data.read(case)
    started = time.perf_counter()
    found = predictor.segment(images, cancel=cancel).labels
    seconds = time.perf_counter() - started
    agreement = measure_agreement(found, truth, subject.data.structures, rules)
    write_volume(found, labels_path(folder, case))
    return CaseRecord(case, agreement, seconds)


def _cases(subject: Subject, part: Part) -> Iterator[tuple[str, RawCase]]:
    return ((case, subject.data.cases[case]) for case in part.cases)


def _left_s(begun: float, done_now: int, total: int, records: Sequence[str] | Mapping[str, CaseRecord]) -> float | None:
    return None if done_now == 0 else (time.monotonic() - begun) / done_now * (total - len(records))
