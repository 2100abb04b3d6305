"""The report of a batch: report.json for programs; report.csv, a line per case; segments.csv, a line per segment."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import atomic_path
from ..review.statistics_files import write_statistics
from .outcome import DONE, Outcome

if TYPE_CHECKING:
    from ..manifest import Manifest

JSON_NAME, CSV_NAME, SEGMENTS_NAME = "report.json", "report.csv", "segments.csv"
_NOTICE = "For research use only: not a medical device."


@dataclass(frozen=True)
class Report:
    """What a batch did.

    Attributes:
        model: name, version, sha256, as text.
        total: cases in all; those without an outcome were not come to.
        resumed: how many of the outcomes an earlier run had left.
    """

    model: dict[str, Any]
    total: int
    resumed: int
    outcomes: Sequence[Outcome]

    def to_json(self) -> dict[str, Any]:
        done = sum(outcome.status == DONE for outcome in self.outcomes)
        return {
            "notice": _NOTICE,
            "model": self.model,
            "total": self.total,
            "done": done,
            "resumed": self.resumed,
            "failed": len(self.outcomes) - done,
            "open": self.total - len(self.outcomes),
            "cases": [outcome.to_json() for outcome in self.outcomes],
        }

    def rows(self) -> list[list[str]]:
        """The table: a line per case, a column for the volume of each segment."""
        names = list(dict.fromkeys(s["name"] for outcome in self.outcomes for s in outcome.segments))
        rows = [
            ["case", "status", "output", "seconds", *(f"{name} mL" for name in names), "kind", "message", "warnings"]
        ]
        for outcome in self.outcomes:
            volumes_ml = {segment["name"]: f"{segment['volume_ml']:.6g}" for segment in outcome.segments}
            rows.append(
                [outcome.case, outcome.status, outcome.output, f"{outcome.seconds:.2f}"]
                + [volumes_ml.get(name, "") for name in names]
                + [outcome.kind, outcome.message, "; ".join(outcome.warnings)]
            )
        return rows

    def segment_rows(self) -> list[dict[str, Any]]:
        """The figures of each segment of each case that was done."""
        return [{"case": outcome.case, **segment} for outcome in self.outcomes for segment in outcome.segments]


def facts_of(manifests: "Sequence[Manifest]") -> dict[str, Any]:
    """Name, version and checksum of a model; of several the same in one text, and each by itself under `models`."""
    facts = [{"name": one.name, "version": one.version, "sha256": one.sha256} for one in manifests]
    if len(facts) == 1:
        return dict(facts[0])
    return {key: " + ".join(str(one[key]) for one in facts) for key in facts[0]} | {"models": facts}


def write_report(report: Report, folder: Path) -> None:
    """Write the files; each appears whole or stays as it was.

    Raises:
        ImageError: the folder cannot be written to. ResourceError: the disk is full.
    """
    with atomic_path(folder / JSON_NAME) as temporary:
        temporary.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    # The mark at the beginning tells a spreadsheet program that the rest is UTF-8.
    with atomic_path(folder / CSV_NAME) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows(report.rows())
    write_statistics(report.segment_rows(), folder / SEGMENTS_NAME)
