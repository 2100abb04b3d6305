"""The record of a review: `CASE.review.json`, beside the corrected `CASE.seg.nrrd` and the model's `CASE.ai.seg.nrrd`.

Slicer writes it, `mambatrain collect` reads it. `review.schema.json` states the format for other programs; this module
checks the same and more, and names the field that is wrong. Keys that it does not know are ignored on reading, so that
a later version may add some.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..files import atomic_path
from ..segments import LARGEST_LABEL
from ..volume import Volume
from .json_fields import Fields, is_integer, is_number, shown

FORMAT = "mambasegment-review"
SCHEMA_VERSION = 1
DOCUMENT_ENDING, SEGMENTATION_ENDING, PREDICTION_ENDING = ".review.json", ".seg.nrrd", ".ai.seg.nrrd"
NOT_STARTED, IN_PROGRESS, COMPLETED, FLAGGED = "not started", "in progress", "completed", "flagged"
STATUSES = (NOT_STARTED, IN_PROGRESS, COMPLETED, FLAGGED)  # in the order of Slicer's numbers
ACCEPT, ACCEPT_WITH_CORRECTIONS, REJECT = "accept", "accept with corrections", "reject"
DECISIONS = (ACCEPT, ACCEPT_WITH_CORRECTIONS, REJECT)
AXES = ("I", "J", "K")
_LARGEST_BYTES = 1 << 24
_GEOMETRY_DECIMALS = 4
_NOT_IN_NAMES = frozenset('/\\:*?"<>|')


@dataclass(frozen=True)
class Grid:
    """Where the voxels lie, LPS, as SimpleITK has it.

    Attributes:
        size: voxels along (I, J, K).
        spacing_mm, origin_mm, direction: as of `Volume`.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.size) != 3 or not all(is_integer(count) and count > 0 for count in self.size):
            raise ConfigError(f"grid.size is {self.size}; three whole numbers above 0 are needed")
        if not all(is_number(length) and length > 0 for length in self.spacing_mm):
            raise ConfigError(f"grid.spacing_mm is {self.spacing_mm}; three numbers above 0 are needed")

    @classmethod
    def of(cls, volume: Volume) -> "Grid":
        size_i, size_j, size_k = volume.array.shape[::-1]
        return cls((size_i, size_j, size_k), volume.spacing_mm, volume.origin_mm, volume.direction)

    @classmethod
    def from_json(cls, fields: Fields) -> "Grid":
        size, spacing, origin = (
            fields.integers("size", 3),
            fields.numbers("spacing_mm", 3),
            fields.numbers("origin_mm", 3),
        )
        return cls(
            (size[0], size[1], size[2]),
            (spacing[0], spacing[1], spacing[2]),
            (origin[0], origin[1], origin[2]),
            fields.numbers("direction", 9),
        )


@dataclass(frozen=True)
class ReviewedImage:
    """One input of the model. `file` is a name without folders, which may name a patient; None where there is none."""

    channel: str
    file: str | None
    geometry_sha256: str

    def __post_init__(self) -> None:
        if self.file is not None:
            _check_file_name("images[].file", self.file)
        _check_sha256("images[].geometry_sha256", self.geometry_sha256)


@dataclass(frozen=True)
class ReviewedModel:
    """What made the labels under review. `sha256` is that of the bundle, empty where it is not known."""

    name: str
    version: str
    sha256: str

    def __post_init__(self) -> None:
        if self.sha256:
            _check_sha256("model.sha256", self.sha256)


@dataclass(frozen=True)
class ReviewTimes:
    """Moments as ISO 8601 with Z, and the seconds that the reviewer spent with the case open."""

    segmented_utc: str
    opened_utc: str
    saved_utc: str
    review_s: float

    def __post_init__(self) -> None:
        for name in ("segmented_utc", "opened_utc", "saved_utc"):
            _check_moment(f"times.{name}", getattr(self, name))
        if not is_number(self.review_s) or self.review_s < 0:
            raise ConfigError(f"times.review_s is {shown(self.review_s)}; seconds, 0 or more, are needed")


@dataclass(frozen=True)
class ReviewedSegment:
    """One segment of the corrected file.

    Attributes:
        value: its label in both files.
        dice: of the corrected segment against the model's; None where both are empty.
        volume_ml_before: as the model drew it. volume_ml_after: as it was saved.
    """

    name: str
    value: int
    status: str
    dice: float | None
    volume_ml_before: float
    volume_ml_after: float

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"segments[].name is {shown(self.name)}; a text is needed")
        where = f"of segment {self.name!r}"
        if not is_integer(self.value) or not 1 <= self.value <= LARGEST_LABEL:
            raise ConfigError(f"the value {where} is {shown(self.value)}; a whole number 1..{LARGEST_LABEL} is needed")
        if self.status not in STATUSES:
            raise ConfigError(f"the status {where} is {shown(self.status)}; one of {', '.join(STATUSES)} is needed")
        if self.dice is not None and not (is_number(self.dice) and 0 <= self.dice <= 1):
            raise ConfigError(f"the dice {where} is {shown(self.dice)}; a number 0..1 or null is needed")
        for name in ("volume_ml_before", "volume_ml_after"):
            if not is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise ConfigError(f"the {name} {where} is {shown(getattr(self, name))}; 0 or more is needed")


@dataclass(frozen=True)
class ReviewedSlices:
    """The slices that were looked at.

    Attributes:
        axis: "I", "J" or "K" of the image's array; K counts the slices as they are stored.
        ranges: first and last slice, both included.
    """

    axis: str
    ranges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ConfigError(f"reviewed_slices.axis is {shown(self.axis)}; one of {', '.join(AXES)} is needed")
        for pair in self.ranges:
            if len(pair) != 2 or not all(map(is_integer, pair)) or not 0 <= pair[0] <= pair[1]:
                raise ConfigError(f"reviewed_slices.ranges holds {shown(pair)}; [first, last] from 0 on is needed")

    def mask(self, count: int) -> NDArray[np.bool_]:
        """For each of `count` slices along `axis`, whether it was looked at."""
        seen = np.zeros(count, bool)
        for first, last in self.ranges:
            seen[first : last + 1] = True
        return seen

    @classmethod
    def from_json(cls, fields: Fields) -> "ReviewedSlices":
        ranges = fields.items("ranges")
        if not all(isinstance(pair, list) for pair in ranges):
            raise ConfigError(f"{fields.name('ranges')} is {shown(ranges)}; a list of [first, last] is needed")
        return cls(fields.choice("axis", AXES), tuple(tuple(pair) for pair in ranges))


@dataclass(frozen=True, kw_only=True)
class ReviewDocument:
    """All of a review.

    Attributes:
        case: the stem of its three files.
        grid: of the image, and so of both segmentation files.
        options: of the run, JSON values.
        decision: one of `DECISIONS`, None while there is none.
        reviewed_slices: None when the whole image was looked at.
        segmentation_file, prediction_file: names in the folder of the document; the latter is None where the model's
            labels were not kept.
    Raises:
        ConfigError: something that no review can have; the message names the field. A review is signed off only with
            a decision and without a flagged segment.
    """

    case: str
    images: tuple[ReviewedImage, ...]
    grid: Grid
    model: ReviewedModel
    reviewer: str
    decision: str | None
    comment: str
    signed_off: bool
    times: ReviewTimes
    segments: tuple[ReviewedSegment, ...]
    segmentation_file: str
    prediction_file: str | None
    reviewed_slices: ReviewedSlices | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(self.options))
        check_case_name(self.case)
        if not self.images:
            raise ConfigError("images is empty; a review has at least one image")
        if self.decision is not None and self.decision not in DECISIONS:
            raise ConfigError(
                f"decision is {shown(self.decision)}; one of {', '.join(map(repr, DECISIONS))} or null is needed"
            )
        _check_file_name("segmentation_file", self.segmentation_file)
        if self.prediction_file is not None:
            _check_file_name("prediction_file", self.prediction_file)
        self._check_segments()
        self._check_sign_off()
        self._check_slices()

    def _check_segments(self) -> None:
        named: dict[int, str] = {}
        for segment in self.segments:
            if segment.value in named:
                raise ConfigError(
                    f"segments {named[segment.value]!r} and {segment.name!r} both have the value {segment.value}; "
                    "each needs one of its own"
                )
            named[segment.value] = segment.name

    def _check_sign_off(self) -> None:
        if not self.signed_off:
            return
        if self.decision is None:
            raise ConfigError("signed_off is true, but decision is null; a review is signed off with a decision")
        if not self.reviewer.strip():
            raise ConfigError("signed_off is true, but reviewer is empty; whoever signs has a name")
        flagged = [segment.name for segment in self.segments if segment.status == FLAGGED]
        if flagged:
            raise ConfigError(f"signed_off is true, but these segments are flagged: {', '.join(flagged)}")

    def _check_slices(self) -> None:
        if self.reviewed_slices is None:
            return
        count = self.grid.size[AXES.index(self.reviewed_slices.axis)]
        for first, last in self.reviewed_slices.ranges:
            if last >= count:
                raise ConfigError(
                    f"reviewed_slices.ranges holds [{first}, {last}], but the image has {count} slices along "
                    f"{self.reviewed_slices.axis} (0 to {count - 1})"
                )

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> "ReviewDocument":
        """Raises: ConfigError, naming the field that is missing or wrong."""
        fields = Fields(content)
        _check_format(fields)
        slices = fields.inner_or_none("reviewed_slices")
        return cls(
            case=fields.text("case"),
            images=tuple(map(_image, fields.each("images"))),
            grid=Grid.from_json(fields.inner("grid")),
            model=_model(fields.inner("model")),
            options=fields.mapping("options"),
            reviewer=fields.text("reviewer"),
            decision=fields.text_or_none("decision"),
            comment=fields.text("comment"),
            signed_off=fields.flag("signed_off"),
            times=_times(fields.inner("times")),
            segments=tuple(map(_segment, fields.each("segments"))),
            reviewed_slices=None if slices is None else ReviewedSlices.from_json(slices),
            segmentation_file=fields.text("segmentation_file"),
            prediction_file=fields.text_or_none("prediction_file"),
        )


def geometry_sha256(volume_or_grid: Volume | Grid) -> str:
    """A checksum of where voxels lie, so that a review is not laid over another image.

    SHA-256 of JSON with sorted keys and no blanks: numbers with four decimals, which every file format keeps.
    """
    grid = Grid.of(volume_or_grid) if isinstance(volume_or_grid, Volume) else volume_or_grid
    numbers = {name: _rounded(getattr(grid, name)) for name in ("spacing_mm", "origin_mm", "direction")}
    text = json.dumps({"size": [int(count) for count in grid.size], **numbers}, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_review(path: str | Path) -> ReviewDocument:
    """Raises: ConfigError, when it cannot be read or is no review; the message names the file and the field."""
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path} has more than {_LARGEST_BYTES} bytes, which no review needs")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"{path} is no JSON: {problem}") from problem
    try:
        return ReviewDocument.from_json(content)
    except ConfigError as problem:
        raise ConfigError(f"{path}: {problem}") from problem


def write_review(document: ReviewDocument, path: str | Path) -> None:
    """Write the document, whole or not at all.

    Raises:
        ImageError: the place cannot be written. ResourceError: the disk is full.
    """
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(document_text(document), encoding="utf-8")


def document_text(document: ReviewDocument) -> str:
    return json.dumps(document.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def utc_text(moment: datetime) -> str:
    """ISO 8601 with Z, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def check_case_name(case: str) -> None:
    """Raises: ConfigError, unless files can be named after the case."""
    if not isinstance(case, str) or not case.strip() or set(case) & _NOT_IN_NAMES or case.strip(". ") != case:
        raise ConfigError(
            f"the case is named {shown(case)}; a text without {' '.join(sorted(_NOT_IN_NAMES))} is needed that neither "
            "begins nor ends with a full stop or a blank"
        )
    if any(ord(letter) < 32 for letter in case):
        raise ConfigError(f"the case is named {shown(case)}; a text without line breaks is needed")


def _rounded(numbers: tuple[float, ...]) -> list[float]:
    return [round(float(number), _GEOMETRY_DECIMALS) + 0.0 for number in numbers]  # + 0.0 turns -0.0 into 0.0


def _check_format(fields: Fields) -> None:
    found = fields.text("format")
    if found != FORMAT:
        raise ConfigError(f"format is {found!r}; a review has {FORMAT!r}")
    version = fields.integer("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(f"schema_version is {version}; this version of MambaSegment reads {SCHEMA_VERSION}")


def _image(fields: Fields) -> ReviewedImage:
    return ReviewedImage(fields.text("channel"), fields.text_or_none("file"), fields.text("geometry_sha256"))


def _model(fields: Fields) -> ReviewedModel:
    return ReviewedModel(fields.text("name"), fields.text("version"), fields.text("sha256"))


def _times(fields: Fields) -> ReviewTimes:
    return ReviewTimes(
        fields.text("segmented_utc"), fields.text("opened_utc"), fields.text("saved_utc"), fields.number("review_s")
    )


def _segment(fields: Fields) -> ReviewedSegment:
    return ReviewedSegment(
        fields.text("name"),
        fields.integer("value"),
        fields.choice("status", STATUSES),
        fields.number_or_none("dice"),
        fields.number("volume_ml_before"),
        fields.number("volume_ml_after"),
    )


def _check_file_name(name: str, value: Any) -> None:
    """Names that lead elsewhere would let a document make a reader open any file."""
    wrong = not isinstance(value, str) or not value.strip(". ") or set(value) & set("/\\:\0")
    if wrong:
        raise ConfigError(f"{name} is {shown(value)}; the name of a file without its folder is needed")


def _check_sha256(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ConfigError(f"{name} is {shown(value)}; 64 hexadecimal digits are needed")


def _check_moment(name: str, value: Any) -> None:
    try:
        fits = isinstance(value, str) and value.endswith("Z") and datetime.fromisoformat(value) is not None
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(f"{name} is {shown(value)}; a moment such as 2026-01-31T12:00:00Z is needed")
