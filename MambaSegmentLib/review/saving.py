"""The three files of a review in one folder: corrected labels, the model's labels, and the document about both."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..files import atomic_path
from ..segmentation_io import write_segmentation
from ..segments import SegmentInfo
from ..volume import Volume
from .document import (
    DOCUMENT_ENDING,
    PREDICTION_ENDING,
    SEGMENTATION_ENDING,
    ReviewDocument,
    check_case_name,
    document_text,
)

SegmentTags = Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class ReviewFiles:
    """Where the files of a case lie. Raises: ConfigError, for a case that can name no files."""

    folder: Path
    case: str

    def __post_init__(self) -> None:
        check_case_name(self.case)

    @property
    def document(self) -> Path:
        return self.folder / f"{self.case}{DOCUMENT_ENDING}"

    @property
    def segmentation(self) -> Path:
        return self.folder / f"{self.case}{SEGMENTATION_ENDING}"

    @property
    def prediction(self) -> Path:
        return self.folder / f"{self.case}{PREDICTION_ENDING}"

    def existing(self) -> list[Path]:
        """Those that are there already."""
        return [path for path in (self.document, self.segmentation, self.prediction) if path.exists()]

    def free(self) -> "ReviewFiles":
        """The same case, with a number behind it if that is needed to overwrite nothing."""
        number, candidate = 2, self
        while candidate.existing():
            candidate = ReviewFiles(self.folder, f"{self.case}-{number}")
            number += 1
        return candidate

    def document_sha256(self) -> str | None:
        """Of the document as it lies there; None where there is none."""
        return hashlib.sha256(self.document.read_bytes()).hexdigest() if self.document.is_file() else None


@dataclass(frozen=True)
class LabelFile:
    """What goes into a `.seg.nrrd`. `tags`: by label value, what the segments carry besides codes."""

    labels: Volume
    segments: Sequence[SegmentInfo]
    tags: SegmentTags


def save_review(
    document: ReviewDocument, corrected: LabelFile, predicted: LabelFile | None, files: ReviewFiles, *, replace: bool
) -> None:
    """Write all files of a review. All of them are complete on the disk before the first takes its place.

    Args:
        predicted: None where the model's labels were lost; then no such file is written.
        replace: whether files that are there already may be replaced.
    Raises:
        ConfigError: files are there already. ImageError: the folder is missing or cannot be written. ResourceError:
            the disk is full. After any of these all files are as they were.
    """
    there = files.existing()
    if there and not replace:
        names = ", ".join(path.name for path in there)
        raise ConfigError(f"{names} in {files.folder} would be overwritten; choose another case name, or replace them")
    with atomic_path(files.document) as document_path:  # the last one to take its place, as it vouches for the others
        document_path.write_text(document_text(document), encoding="utf-8")
        with atomic_path(files.segmentation) as segmentation_path:
            _write(corrected, segmentation_path)
            if predicted is not None:
                with atomic_path(files.prediction) as prediction_path:
                    _write(predicted, prediction_path)


def _write(content: LabelFile, path: Path) -> None:
    write_segmentation(content.labels, content.segments, path, tags=content.tags)
