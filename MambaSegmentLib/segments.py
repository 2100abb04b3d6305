"""What a label value means: its name, its colour and its medical codes.

The terminology text follows Slicer's developer guide, "TerminologyEntry tag": seven fields joined by `~`, a code being
`scheme^value^meaning`; tags of a `.seg.nrrd` file are separated by `|`.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError

_TYPE_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"
_NO_CODE = "^^"
_RESERVED_IN_CODES = re.compile(r"[~^|&\x00-\x1f\x7f]")  # separators of the tag and of the file header
_RESERVED_IN_NAMES = re.compile(r"[|\x00-\x1f\x7f]")
LARGEST_LABEL = 65535  # labels are stored as uint8, or uint16 where that is too small


@dataclass(frozen=True)
class Code:
    """A concept of a coding scheme, such as Code("SCT", "10200004", "Liver").

    Raises:
        ConfigError: an empty part, or one with a character that separates fields in Slicer (`~ ^ | &`, line breaks).
    """

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        for part in (self.scheme, self.value, self.meaning):
            if not isinstance(part, str) or not part.strip():
                raise ConfigError(f"a code needs a scheme, a value and a meaning, all of them text; got {self._parts}")
            if _RESERVED_IN_CODES.search(part):
                raise ConfigError(f"{part!r} in a code holds one of ~ ^ | & or a line break; Slicer separates by these")

    @property
    def _parts(self) -> tuple[str, str, str]:
        return self.scheme, self.value, self.meaning

    def to_slicer_text(self) -> str:
        return "^".join(self._parts)

    def to_json(self) -> dict[str, str]:
        return {"scheme": self.scheme, "value": self.value, "meaning": self.meaning}

    @classmethod
    def from_json(cls, value: Any) -> "Code":
        fields = _mapping(value, "a code", required=("scheme", "value", "meaning"))
        return cls(fields["scheme"], fields["value"], fields["meaning"])


@dataclass(frozen=True)
class Terminology:
    """Codes of a segment: category (Anatomical Structure), type (Hippocampus), modifier (Left)."""

    category: Code
    type: Code
    modifier: Code | None = None

    def to_slicer_tag(self) -> str:
        """The text of Slicer's `TerminologyEntry` tag; the body region, which we do not use, stays empty."""
        modifier = self.modifier.to_slicer_text() if self.modifier else _NO_CODE
        codes = (self.category.to_slicer_text(), self.type.to_slicer_text(), modifier)
        return "~".join((_TYPE_CONTEXT, *codes, _REGION_CONTEXT, _NO_CODE, _NO_CODE))

    def to_json(self) -> dict[str, Any]:
        parts = {"category": self.category, "type": self.type, "modifier": self.modifier}
        return {name: code.to_json() for name, code in parts.items() if code is not None}

    @classmethod
    def from_json(cls, value: Any) -> "Terminology":
        fields = _mapping(value, "a terminology", required=("category", "type"))
        modifier = fields.get("modifier")
        return cls(
            Code.from_json(fields["category"]),
            Code.from_json(fields["type"]),
            None if modifier is None else Code.from_json(modifier),
        )


@dataclass(frozen=True)
class SegmentInfo:
    """One label value of a segmentation; 0 is the background and no segment.

    Attributes:
        value: the number in the label array, 1..65535.
        name: what the user reads.
        color: red, green, blue, each 0..1.
    Raises:
        ConfigError: any of these is impossible.
    """

    value: int
    name: str
    color: tuple[float, float, float]
    terminology: Terminology | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 1 <= self.value <= LARGEST_LABEL:
            raise ConfigError(f"a segment has the label value {self.value!r}; it must be an integer 1..{LARGEST_LABEL}")
        if not isinstance(self.name, str) or not self.name.strip() or _RESERVED_IN_NAMES.search(self.name):
            raise ConfigError(f"segment {self.value} is named {self.name!r}; it needs a text without | and line breaks")
        object.__setattr__(self, "color", _color(self.color, f"segment {self.value} ({self.name})"))

    def to_json(self) -> dict[str, Any]:
        """An entry of a bundle's `labels` list."""
        entry: dict[str, Any] = {"value": self.value, "name": self.name, "color": list(self.color)}
        if self.terminology is not None:
            entry["terminology"] = self.terminology.to_json()
        return entry

    @classmethod
    def from_json(cls, value: Any) -> "SegmentInfo":
        """Reads what `to_json` wrote; keys that it does not know are left alone.

        Raises:
            ConfigError: a key is missing or holds something impossible.
        """
        fields = _mapping(value, "a label", required=("value", "name", "color"))
        terminology = fields.get("terminology")
        return cls(
            fields["value"],
            fields["name"],
            fields["color"],
            None if terminology is None else Terminology.from_json(terminology),
        )


def check_unique_values(segments: Iterable[SegmentInfo]) -> None:
    """Raises: ConfigError, when two segments share a label value."""
    named: dict[int, str] = {}
    for segment in segments:
        if segment.value in named:
            raise ConfigError(
                f"the segments {named[segment.value]!r} and {segment.name!r} both have the label value "
                f"{segment.value}; give each a value of its own"
            )
        named[segment.value] = segment.name


def _mapping(value: Any, what: str, required: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} must be a JSON object with {', '.join(required)}; got {value!r}")
    missing = [key for key in required if key not in value]
    if missing:
        raise ConfigError(f"{what} lacks {', '.join(missing)}: {dict(value)!r}")
    return value


def _color(value: Any, whose: str) -> tuple[float, float, float]:
    wrong = f"the color of {whose} is {value!r}; three numbers 0..1 (red, green, blue) are needed"
    if isinstance(value, str):
        raise ConfigError(wrong)
    try:
        red, green, blue = (float(part) for part in value)
    except (TypeError, ValueError) as problem:
        raise ConfigError(wrong) from problem
    if not all(math.isfinite(part) and 0 <= part <= 1 for part in (red, green, blue)):
        raise ConfigError(wrong)
    return red, green, blue


def segments_named(segments: Sequence[SegmentInfo], names: Iterable[str]) -> tuple[SegmentInfo, ...]:
    """The segments of these names, whatever the case of letters, in the order of `segments`.

    Raises:
        ConfigError: a name that none has; the nearest one is suggested.
    """
    by_name = {segment.name.casefold(): segment.name for segment in segments}
    wanted = set()
    for name in names:
        if name.strip().casefold() not in by_name:
            near = difflib.get_close_matches(name.strip().casefold(), by_name, n=1, cutoff=0.5)
            hint = f"did you mean {by_name[near[0]]!r}?" if near else "none is similar."
            raise ConfigError(f"the model has no label {name!r}; {hint} It has {', '.join(by_name.values())}")
        wanted.add(name.strip().casefold())
    return tuple(segment for segment in segments if segment.name.casefold() in wanted)


def names_from_text(texts: Iterable[str], known: Iterable[SegmentInfo]) -> tuple[str, ...]:
    """Names separated by commas; a text that is a name as a whole, commas and all, is one."""
    whole = {segment.name.casefold() for segment in known}
    names: list[str] = []
    for text in texts:
        names += [text] if text.strip().casefold() in whole else [part for part in text.split(",") if part.strip()]
    return tuple(name.strip() for name in names)
