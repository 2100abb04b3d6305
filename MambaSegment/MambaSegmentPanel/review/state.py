"""What is known of a review besides voxels and statuses, kept as an attribute of the segmentation node.

So it is saved with the scene, goes with the node, and survives a reload of the module. Voxels, names, colours and
statuses are the node's own; the model's labels lie in a second, hidden node, see `prediction.py`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.review.document import DECISIONS, Grid, ReviewedImage, ReviewedModel, ReviewedSlices
from MambaSegmentLib.review.json_fields import Fields

ATTRIBUTE = "MambaSegment.Review"
_log = logging.getLogger("MambaSegment")


@dataclass(frozen=True)
class Predicted:
    """A segment as the model drew it. `value`: its label in the files."""

    value: int
    name: str
    volume_ml: float


@dataclass(frozen=True)
class Saved:
    """Where the review was saved last. `document_sha256`: to see whether somebody else wrote there since."""

    folder: str
    case: str
    document_sha256: str
    savedUtc: str


@dataclass
class ReviewState:
    """Attributes as those of `ReviewDocument` of the same meaning, and:

    Attributes:
        predicted: the segments under review by their id.
        signedOffBy: the reviewer's name, empty while nobody has signed.
        saved: None before the first time. isUnsaved: something was changed since.
    """

    case: str
    images: tuple[ReviewedImage, ...]
    grid: Grid
    model: ReviewedModel
    segmentedUtc: str
    openedUtc: str
    options: dict[str, Any] = field(default_factory=dict)
    predicted: dict[str, Predicted] = field(default_factory=dict)
    decision: str | None = None
    comment: str = ""
    slices: ReviewedSlices | None = None
    signedOffBy: str = ""
    review_s: float = 0.0
    saved: Saved | None = None
    isUnsaved: bool = True

    def store(self, node: Any) -> None:
        """Into the node; other attributes and the voxels stay."""
        node.SetAttribute(ATTRIBUTE, json.dumps(asdict(self)))


def stateOf(node: Any) -> ReviewState | None:
    """The review of a segmentation node; None where there is none, or none that this version can read."""
    text = None if node is None else node.GetAttribute(ATTRIBUTE)
    if not text:
        return None
    try:
        return _fromJson(json.loads(text))
    except (ValueError, ConfigError) as problem:  # of another version, or edited by hand
        _log.warning("the review of %s cannot be read: %s", node.GetName(), problem)
        return None


def _fromJson(content: Any) -> ReviewState:
    fields = Fields(content)
    slices, saved = fields.inner_or_none("slices"), fields.inner_or_none("saved")
    decision = fields.text_or_none("decision")
    return ReviewState(
        case=fields.text("case"),
        images=tuple(
            ReviewedImage(each.text("channel"), each.text_or_none("file"), each.text("geometry_sha256"))
            for each in fields.each("images")
        ),
        grid=Grid.from_json(fields.inner("grid")),
        model=ReviewedModel(*(fields.inner("model").text(key) for key in ("name", "version", "sha256"))),
        segmentedUtc=fields.text("segmentedUtc"),
        openedUtc=fields.text("openedUtc"),
        options=fields.mapping("options"),
        predicted={
            identifier: _predicted(fields.inner("predicted"), identifier) for identifier in content["predicted"]
        },
        decision=decision if decision in DECISIONS else None,
        comment=fields.text("comment"),
        slices=None if slices is None else ReviewedSlices.from_json(slices),
        signedOffBy=fields.text("signedOffBy"),
        review_s=fields.number("review_s"),
        saved=None if saved is None else _saved(saved),
        isUnsaved=fields.flag("isUnsaved"),
    )


def _predicted(all_: Fields, identifier: str) -> Predicted:
    fields = all_.inner(identifier)
    return Predicted(fields.integer("value"), fields.text("name"), fields.number("volume_ml"))


def _saved(fields: Fields) -> Saved:
    return Saved(*(fields.text(key) for key in ("folder", "case", "document_sha256", "savedUtc")))
