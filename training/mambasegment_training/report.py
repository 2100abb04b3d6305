"""The quality report of a data set: one HTML page that needs nothing else, and the same as JSON."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path

from .dataset import RawDataset
from .findings import Finding
from .fingerprint import CaseFacts
from .plan import Plan
from .split import Split
from .storage import write_json
from .thumbnail import colour_of

MOST_THUMBNAILS = 240  # cases with findings come first
_HTML, _JSON = "report.html", "report.json"


@dataclass(frozen=True)
class QualityReport:
    """Attributes:
    facts: of the cases that can be read.
    labels: value -> name.
    plan: None where the data set was refused.
    """

    dataset: RawDataset
    facts: Mapping[str, CaseFacts]
    findings: Sequence[Finding]
    labels: Mapping[int, str]
    folds: Sequence[Split]
    plan: Plan | None = None

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    def write(self, folder: Path) -> Path:
        """Write report.html and report.json; returns the page's path.

        Raises:
            ConfigError: the folder cannot be written.
        """
        write_json(folder / _JSON, self.to_json())
        with atomic_path(folder / _HTML, ConfigError) as temporary:
            temporary.write_text(self.to_html(), encoding="utf-8")
        return folder / _HTML

    def to_json(self) -> dict[str, Any]:
        return {
            "format": "mambatrain-report",
            "schema_version": 1,
            "name": self.dataset.name,
            "cases": len(self.dataset.cases),
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "findings": [finding.to_json() for finding in self.findings],
            "labels": [row.to_json() for row in self._label_rows()],
            "plan": None if self.plan is None else self.plan.to_json(),
            "facts": {case: _facts_to_json(seen) for case, seen in self.facts.items()},
        }

    def to_html(self) -> str:
        name = escape(self.dataset.name)
        parts = [
            f"<h1>{name}</h1>",
            self._summary(),
            "<h2>Findings</h2>",
            self._findings_table(),
            "<h2>Labels</h2>",
            self._label_table(),
            "<h2>Plan</h2>",
            self._plan_table(),
            "<h2>Cases</h2>",
            self._gallery(),
        ]
        head = f'<meta charset="utf-8"><title>{name}: quality report</title><style>{_STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'

    def _summary(self) -> str:
        patients = len({case.patient for case in self.dataset.cases})
        boxes = [
            (len(self.dataset.cases), "cases", ""),
            (patients, "patients", ""),
            (self.count("error"), "errors", "error" if self.count("error") else ""),
            (self.count("warning"), "warnings", "warning" if self.count("warning") else ""),
        ]
        channels = ", ".join(map(escape, self.dataset.channels))
        cells = "".join(f'<div class="box {kind}"><b>{number}</b>{what}</div>' for number, what, kind in boxes)
        return f'<p class="quiet">Channels: {channels}. For research only.</p><div class="boxes">{cells}</div>'

    def _findings_table(self) -> str:
        if not self.findings:
            return "<p>Nothing to look at.</p>"
        rows = [
            (
                f'<span class="tag {finding.severity}">{finding.severity}</span>',
                escape(finding.kind),
                escape(finding.message),
            )
            for finding in self.findings
        ]
        return _table(("", "What", "Where, and what to do"), rows)

    def _label_rows(self) -> "list[_LabelRow]":
        rows = []
        for value, name in self.labels.items():
            sizes = [seen.volume_mm3(value) for seen in self.facts.values() if seen.label_voxels.get(value)]
            low, median, high = np.percentile(sizes, (0, 50, 100)) if sizes else (0.0, 0.0, 0.0)
            rows.append(_LabelRow(value, name, len(sizes), float(low), float(median), float(high)))
        return rows

    def _label_table(self) -> str:
        flat = all(seen.shape[0] == 1 for seen in self.facts.values())
        scale, unit = (1.0, "px²") if flat else (1e-3, "mL")
        rows = [
            (
                f'<i style="background:rgb{colour_of(row.value)}"></i>{row.value}',
                escape(row.name),
                f"{row.cases} of {len(self.facts)}",
                *(f"{size * scale:.4g}" for size in (row.smallest_mm3, row.median_mm3, row.largest_mm3)),
            )
            for row in self._label_rows()
        ]
        return _table(("Label", "Name", "Cases", f"Smallest, {unit}", f"Median, {unit}", f"Largest, {unit}"), rows)

    def _plan_table(self) -> str:
        if self.plan is None:
            return "<p>None: the errors come first.</p>"
        rows = [
            (
                f"{dims}D",
                _times(topology.patch_size),
                str(topology.batch_size),
                ", ".join(map(str, topology.features_per_stage)),
                ", ".join(_times(row) for row in topology.strides),
            )
            for dims, topology in self.plan.topologies.items()
        ]
        sides = [f"{len(fold.train)} + {len(fold.validation)}" for fold in self.folds]
        folds = f"<p>Cases for training + validation in each fold: {', '.join(sides)}.</p>"
        sizes = _times(self.plan.patch_size[1:] if self.plan.flat else self.plan.patch_size)
        patch = f"<p>Patch of networks with stages of their own: {sizes} voxels.</p>"
        if not rows:
            return folds + patch + "<p>Networks that follow a plan have none: nnU-Net is not installed.</p>"
        return folds + patch + _table(("", "Patch", "Batch for 8 GB", "Features", "Strides"), rows)

    def _gallery(self) -> str:
        about: dict[str, list[Finding]] = {}
        for finding in self.findings:
            for case in finding.cases:
                about.setdefault(case, []).append(finding)
        cases = sorted(self.facts, key=lambda case: case not in about)
        shown = cases[:MOST_THUMBNAILS]
        more = (
            f'<p class="quiet">{len(cases) - len(shown)} more cases are not shown.</p>'
            if len(cases) > len(shown)
            else ""
        )
        return f'<div class="gallery">{"".join(self._card(case, about.get(case, [])) for case in shown)}</div>{more}'

    def _card(self, case: str, findings: Sequence[Finding]) -> str:
        seen = self.facts[case]
        picture = base64.b64encode(seen.thumbnail).decode("ascii")
        kinds = "".join(f'<span class="tag {f.severity}">{escape(f.kind)}</span>' for f in findings)
        spacing = " x ".join(f"{size:.3g}" for size in seen.spacing_mm)
        facts = _times(seen.shape[1:]) if seen.shape[0] == 1 else f"{_times(seen.shape)}<br>{spacing} mm"
        return (
            f'<figure class="{"flagged" if findings else ""}">'
            f'<div><img alt="" src="data:image/jpeg;base64,{picture}"></div>'
            f"<figcaption><b>{escape(case)}</b>{facts}{kinds}</figcaption></figure>"
        )


@dataclass(frozen=True)
class _LabelRow:
    value: int
    name: str
    cases: int
    smallest_mm3: float
    median_mm3: float
    largest_mm3: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def _facts_to_json(seen: CaseFacts) -> dict[str, Any]:
    return {
        "shape": list(seen.shape),
        "spacing_mm": list(seen.spacing_mm),
        "label_voxels": {str(value): count for value, count in seen.label_voxels.items()},
        "image_sha256": seen.image_sha256,
    }


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


_STYLE = """
:root{color-scheme:light dark;--line:#8884;--quiet:#777;--error:#c62828;--warning:#b26a00}
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1.2rem}
h1{margin-bottom:.2rem} h2{margin-top:2rem;font-size:1.15rem}
.quiet{color:var(--quiet);margin:.1rem 0}
.boxes{display:flex;gap:.8rem;flex-wrap:wrap;margin-top:1rem}
.box{border:1px solid var(--line);border-radius:8px;padding:.5rem 1.1rem;color:var(--quiet);min-width:6rem}
.box b{display:block;font-size:1.6rem;color:CanvasText}
.box.error b{color:var(--error)} .box.warning b{color:var(--warning)}
table{border-collapse:collapse;width:100%} th{text-align:left;color:var(--quiet);font-weight:500}
th,td{border-bottom:1px solid var(--line);padding:.4rem .7rem .4rem 0;vertical-align:top;overflow-wrap:anywhere}
td i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em}
.tag{color:#fff;border-radius:4px;padding:.05rem .4rem;font-size:.78rem;white-space:nowrap}
.tag.error{background:var(--error)} .tag.warning{background:var(--warning)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(168px,1fr));gap:.8rem}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure.flagged{border-color:var(--warning)}
figure div{background:#000;height:158px;display:flex;align-items:center;justify-content:center}
figcaption{padding:.4rem .6rem;font-size:.8rem;color:var(--quiet);overflow-wrap:anywhere}
figcaption b{display:block;color:CanvasText}
figcaption .tag{display:table;margin-top:.2rem;white-space:normal}
"""
