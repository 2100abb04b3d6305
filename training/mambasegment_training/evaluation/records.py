"""What an evaluation folder holds of each case: its measures and its predicted labels, each whole or absent.

cases/CASE.json and labels/CASE.nii.gz; a record counts as done only with the key of the same weights and options.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.agreement import Agreement, CaseAgreement
from MambaSegmentLib.review.comparison_files import case_document

from ..case_files import RawCase
from ..storage import read_json, write_json


@dataclass(frozen=True)
class CaseRecord:
    """Attributes:
    seconds: that the prediction took.
    """

    case: str
    agreement: CaseAgreement
    seconds: float


def write_record(folder: Path, key: str, record: CaseRecord) -> None:
    """Raises: ConfigError, ResourceError, when it cannot be written."""
    content = {"key": key, "seconds": record.seconds, **case_document(record.case, record.agreement)}
    write_json(_path(folder, record.case), content)


def read_record(folder: Path, case: str, key: str) -> CaseRecord | None:
    """None where there is none, or one of other weights or options."""
    if not _path(folder, case).is_file() or not labels_path(folder, case).is_file():
        return None
    try:
        content = read_json(_path(folder, case), "")
        return record_from_json(content) if content["key"] == key else None
    except (ConfigError, KeyError, TypeError):  # damaged: it is made anew
        return None


def record_from_json(content: Mapping[str, Any]) -> CaseRecord:
    """Reads what `write_record` wrote, or a case of evaluation.json."""
    structures = tuple(Agreement(**{**one, "values": tuple(one["values"])}) for one in content["structures"])
    agreement = CaseAgreement(structures, content["accuracy"], content["mean_dice"], content["mean_iou"])
    return CaseRecord(content["case"], agreement, content["seconds"])


def labels_path(folder: Path, case: str) -> Path:
    return folder / "labels" / f"{case}.nii.gz"


def make_folders(folder: Path) -> None:
    """Raises: ConfigError, when they cannot be made."""
    try:
        for name in ("cases", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"cannot make the folder {folder}: {problem.strerror or problem}") from problem


def files_state(case: RawCase) -> list[tuple[str, int, int]]:
    """Changes when a file of the case does.

    Raises:
        ConfigError: a file that is gone.
    """
    state = []
    for path in (*case.images, case.labels):
        try:
            found = os.stat(path)  # noqa: PTH116  (what stat tells is all that is wanted)
        except OSError as problem:
            raise ConfigError(
                f"{path} of case {case.identifier} cannot be read ({problem.strerror}); put the data set back, or name "
                "where it is with --data"
            ) from problem
        state.append((path.name, found.st_size, found.st_mtime_ns))
    return state


def _path(folder: Path, case: str) -> Path:
    return folder / "cases" / f"{case}.json"
